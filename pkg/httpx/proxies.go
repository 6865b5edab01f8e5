package httpx

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// TrustedProxies are the reverse proxies in front, whose X-Forwarded-For is believed: either by their addresses, or by how
// many of them there are. The zero value trusts none.
//
// Addresses are the safer choice where a client could also reach us past the proxies: it then counts as what it is. A
// number is for proxies whose addresses nobody knows beforehand.
type TrustedProxies struct {
	Ranges []netip.Prefix // addresses of proxies
	Count  int            // how many proxies append to X-Forwarded-For; used when there are no Ranges
}

// maxProxies bounds how many proxies may stand in a row.
const maxProxies = 100

// SetSetting implements config.Value.
func (p *TrustedProxies) SetSetting(texts []string) error {
	var list []string
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
	}
	if len(list) == 1 {
		if n, err := strconv.Atoi(list[0]); err == nil {
			if n < 0 || n > maxProxies {
				return fmt.Errorf("is %d; the number of proxies must be from 0 to %d", n, maxProxies)
			}
			*p = TrustedProxies{Count: n}
			return nil
		}
	}
	var ranges []netip.Prefix
	for _, text := range list {
		r, err := ParseRange(text)
		if err != nil {
			return fmt.Errorf("%w; or write one whole number, how many proxies append to X-Forwarded-For", err)
		}
		ranges = append(ranges, r)
	}
	*p = TrustedProxies{Ranges: ranges}
	return nil
}

// SettingType implements config.Value.
func (*TrustedProxies) SettingType() string { return "list or integer" }

// SettingSchema implements config.Value.
func (*TrustedProxies) SettingSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "integer", "minimum": 0, "maximum": maxProxies},
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		map[string]any{"type": "string"},
		map[string]any{"type": "null"},
	}}
}

// ParseRange reads an IP address or a CIDR range of them.
func ParseRange(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%.80q is not an address or a range of them, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32", text)
	}
	return p.Masked(), nil
}

// ClientAddr returns the address from which r was sent to the outermost of the trusted proxies, or to us when it came past
// them. It is not valid when a trusted proxy says something that is no address.
func (p TrustedProxies) ClientAddr(r *http.Request) netip.Addr {
	address := parseHop(r.RemoteAddr)
	if len(p.Ranges) == 0 && p.Count == 0 || len(p.Ranges) > 0 && !p.has(address) {
		return address
	}
	forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	hops := strings.Split(forwarded, ",")
	if len(p.Ranges) == 0 {
		if at := len(hops) - p.Count; at >= 0 && forwarded != "" {
			return parseHop(strings.TrimSpace(hops[at]))
		}
		return address // fewer proxies than there should be: whoever this is has come past some
	}
	for i := len(hops) - 1; i >= 0 && p.has(address); i-- {
		if hop := strings.TrimSpace(hops[i]); hop != "" {
			address = parseHop(hop)
		}
	}
	return address
}

func (p TrustedProxies) has(address netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r netip.Prefix) bool { return r.Contains(address) })
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
