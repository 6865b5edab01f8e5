package tenant

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/httpx"
)

// Network says from where which requests are allowed, in the form and by the rules of protocol/service-limits-and-ops.md
// section 5. The zero value allows all.
type Network struct {
	DefaultAction    string            `yaml:"defaultAction" oneof:"Allow Deny" case:"any" example:"Allow" help:"where no rule says anything: Allow, also when empty, or Deny"`
	PublicNetwork    RequestRule       `yaml:"publicNetwork" help:"everything but privateEndpoints"`
	PrivateEndpoints []PrivateEndpoint `yaml:"privateEndpoints" help:"networks with a rule of their own"`
	IPRules          []IPRule          `yaml:"ipRules" help:"of the public network; the first that matches decides, at most 30"`
}

// RequestRule allows and denies kinds of requests. One that is in both lists is denied.
type RequestRule struct {
	Allow []string `yaml:"allow" oneof:"ClientConnection RESTAPI ServerConnection Trace" case:"any" example:"[ClientConnection, RESTAPI]" help:"of ClientConnection, RESTAPI, ServerConnection, Trace"`
	Deny  []string `yaml:"deny" oneof:"ClientConnection RESTAPI ServerConnection Trace" case:"any" help:"wins over allow"`
}

// PrivateEndpoint is a network with a rule of its own.
type PrivateEndpoint struct {
	Name        string   `yaml:"name" example:"cluster" help:"for people"`
	Ranges      []string `yaml:"ranges" required:"true" example:"[10.0.0.0/8]" help:"the addresses that it consists of, and ranges of them (CIDR)"`
	RequestRule `yaml:",inline"`
}

// IPRule allows or denies addresses.
type IPRule struct {
	Value  string `yaml:"value" required:"true" example:"203.0.113.0/24" help:"an address, or a range of them (CIDR)"`
	Action string `yaml:"action" required:"true" oneof:"Allow Deny" case:"any" example:"Allow" help:"Allow or Deny"`
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
	p, err := httpx.ParseRange(text)
	return err == nil && p.Contains(address)
}

func (c *checker) network(at string, t Tenant) {
	n, at := t.NetworkACLs, at+".networkACLs"
	names := map[string]string{}
	for i, p := range n.PrivateEndpoints {
		at := fmt.Sprintf("%s.privateEndpoints[%d]", at, i)
		c.once(names, at+".name", p.Name)
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
		if r.Action == "" {
			c.add(at+".action", "is empty; write Allow or Deny")
		}
	}
}

func (c *checker) addressRange(at, text string) {
	if _, err := httpx.ParseRange(text); err != nil {
		c.add(at, "%w", err)
	}
}
