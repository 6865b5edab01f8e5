package httpx

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the addresses of the reverse proxies in front. Only what they say of a client's address is believed.
type Proxies []netip.Prefix

// ClientAddr returns the address from which r was sent to the first proxy that is not ours, or to us. It is not valid
// when one of our proxies says something that is no address.
func (p Proxies) ClientAddr(r *http.Request) netip.Addr {
	address := parseHop(r.RemoteAddr)
	if !p.has(address) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.has(address); i-- {
		if hop := strings.TrimSpace(hops[i]); hop != "" {
			address = parseHop(hop)
		}
	}
	return address
}

func (p Proxies) has(address netip.Addr) bool {
	return slices.ContainsFunc(p, func(r netip.Prefix) bool { return r.Contains(address) })
}

// parseHop reads an address with or without port; some proxies add one.
func parseHop(hop string) netip.Addr {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr().Unmap().WithZone("")
	}
	address, err := netip.ParseAddr(strings.Trim(hop, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
