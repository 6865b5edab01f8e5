package tenant

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network says from where which requests are allowed, in the form and by the rules of protocol/service-limits-and-ops.md
// section 5. The zero value allows all.
type Network struct {
	DefaultAction    string            `yaml:"defaultAction"` // when no rule says anything: Allow, also when empty, or Deny
	PublicNetwork    RequestRule       `yaml:"publicNetwork"`
	PrivateEndpoints []PrivateEndpoint `yaml:"privateEndpoints"`
	IPRules          []IPRule          `yaml:"ipRules"` // the first that matches decides; for the public network only
}

// RequestRule allows and denies kinds of requests. One that is in both lists is denied.
type RequestRule struct {
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

// PrivateEndpoint is a network with a rule of its own.
type PrivateEndpoint struct {
	Name        string   `yaml:"name"`
	Ranges      []string `yaml:"ranges"` // addresses it consists of: IP or CIDR
	RequestRule `yaml:",inline"`
}

// IPRule allows or denies addresses.
type IPRule struct {
	Value  string `yaml:"value"`  // IP or CIDR
	Action string `yaml:"action"` // Allow or Deny
}

// MaxIPRules is how many a tenant may have.
const MaxIPRules = 30

// RequestType is a kind of request that networks are told apart by.
type RequestType string

// The kinds of requests, by path.
const (
	ClientConnection RequestType = "ClientConnection" // /client/…
	ServerConnection RequestType = "ServerConnection" // /server/…
	RESTAPI          RequestType = "RESTAPI"          // /api/…
	Trace            RequestType = "Trace"            // /livetrace
)

// Permits reports whether a client at that address may make such requests. Both the rule about requests and the one about
// addresses must allow it. An address that is not known is in no range.
func (t *Tenant) Permits(kind RequestType, from netip.Addr) bool {
	n := &t.NetworkACLs
	fallback := !strings.EqualFold(n.DefaultAction, "Deny")
	for _, p := range n.PrivateEndpoints {
		if slices.ContainsFunc(p.Ranges, func(r string) bool { return inRange(r, from) }) {
			return p.permits(kind, fallback)
		}
	}
	if strings.EqualFold(t.PublicNetworkAccess, "Disabled") || !n.PublicNetwork.permits(kind, fallback) {
		return false
	}
	if len(n.IPRules) == 0 {
		return true
	}
	for _, rule := range n.IPRules {
		if inRange(rule.Value, from) {
			return strings.EqualFold(rule.Action, "Allow")
		}
	}
	return fallback
}

func (r *RequestRule) permits(kind RequestType, otherwise bool) bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, string(kind)) })
	}
	return !has(r.Deny) && (has(r.Allow) || otherwise)
}

func inRange(text string, address netip.Addr) bool {
	p, err := ParseRange(text)
	return err == nil && p.Contains(address)
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

func (c *checker) network(at string, t Tenant) {
	c.oneOf(at+".publicNetworkAccess", t.PublicNetworkAccess, "", "Enabled", "Disabled")
	n, at := t.NetworkACLs, at+".networkACLs"
	c.oneOf(at+".defaultAction", n.DefaultAction, "", "Allow", "Deny")
	c.requests(at+".publicNetwork", n.PublicNetwork)
	names := map[string]string{}
	for i, p := range n.PrivateEndpoints {
		at := fmt.Sprintf("%s.privateEndpoints[%d]", at, i)
		c.once(names, at+".name", p.Name)
		c.requests(at, p.RequestRule)
		if len(p.Ranges) == 0 {
			c.add(at+".ranges", "is empty; list the addresses that the network consists of")
		}
		for j, r := range p.Ranges {
			c.addressRange(fmt.Sprintf("%s.ranges[%d]", at, j), r)
		}
	}
	if len(n.IPRules) > MaxIPRules {
		c.add(at+".ipRules", "has %d rules; at most %d are allowed", len(n.IPRules), MaxIPRules)
	}
	for i, r := range n.IPRules {
		at := fmt.Sprintf("%s.ipRules[%d]", at, i)
		c.addressRange(at+".value", r.Value)
		c.oneOf(at+".action", r.Action, "Allow", "Deny")
	}
}

func (c *checker) addressRange(at, text string) {
	if _, err := ParseRange(text); err != nil {
		c.add(at, "%w", err)
	}
}

func (c *checker) requests(at string, r RequestRule) {
	types := []string{string(ClientConnection), string(ServerConnection), string(RESTAPI), string(Trace)}
	for i, kind := range r.Allow {
		c.oneOf(fmt.Sprintf("%s.allow[%d]", at, i), kind, types...)
	}
	for i, kind := range r.Deny {
		c.oneOf(fmt.Sprintf("%s.deny[%d]", at, i), kind, types...)
	}
}

// oneOf reports a word that is not among those allowed, in any letter case.
func (c *checker) oneOf(at, value string, allowed ...string) {
	if !slices.ContainsFunc(allowed, func(s string) bool { return strings.EqualFold(s, value) }) {
		c.add(at, "%.40q must be one of %s", value, strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
	}
}
