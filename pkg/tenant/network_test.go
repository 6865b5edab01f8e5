package tenant

import (
	"net/netip"
	"testing"
)

// checklist:O04
func TestPermits(t *testing.T) {
	both := func(allow, deny []string) RequestRule { return RequestRule{allow, deny} }
	const client, rest, server, trace = "ClientConnection", "RESTAPI", "ServerConnection", "Trace"
	for name, tt := range map[string]struct {
		tenant  Tenant
		kind    RequestType
		from    string
		allowed bool
	}{
		"nothing is said":                {Tenant{}, RESTAPI, "203.0.113.7", true},
		"an unknown address":             {Tenant{}, RESTAPI, "", true},
		"public access disabled":         {Tenant{PublicNetworkAccess: "disabled"}, ClientConnection, "203.0.113.7", false},
		"disabled, whatever rules say":   {Tenant{PublicNetworkAccess: "Disabled", NetworkACLs: Network{DefaultAction: "Allow", PublicNetwork: both([]string{client}, nil)}}, ClientConnection, "203.0.113.7", false},
		"denied by default":              {Tenant{NetworkACLs: Network{DefaultAction: "Deny"}}, RESTAPI, "203.0.113.7", false},
		"allowed type":                   {Tenant{NetworkACLs: Network{DefaultAction: "Deny", PublicNetwork: both([]string{client}, nil)}}, ClientConnection, "203.0.113.7", true},
		"type that is not listed":        {Tenant{NetworkACLs: Network{DefaultAction: "Deny", PublicNetwork: both([]string{client}, nil)}}, RESTAPI, "203.0.113.7", false},
		"denied type":                    {Tenant{NetworkACLs: Network{PublicNetwork: both(nil, []string{rest, server, trace})}}, RESTAPI, "203.0.113.7", false},
		"type beside the denied":         {Tenant{NetworkACLs: Network{PublicNetwork: both(nil, []string{rest, server, trace})}}, ClientConnection, "203.0.113.7", true},
		"in both lists":                  {Tenant{NetworkACLs: Network{PublicNetwork: both([]string{rest}, []string{"restapi"})}}, RESTAPI, "203.0.113.7", false},
		"range, first match":             {rules("Deny", IPRule{"203.0.113.0/24", "Allow"}, IPRule{"0.0.0.0/0", "Deny"}), RESTAPI, "203.0.113.7", false}, // by type: nothing allows it
		"range and type":                 {withType(rules("Deny", IPRule{"203.0.113.0/24", "Allow"})), RESTAPI, "203.0.113.7", true},
		"outside of the range":           {withType(rules("Deny", IPRule{"203.0.113.0/24", "Allow"})), RESTAPI, "203.0.114.7", false},
		"denied address, others allowed": {rules("Allow", IPRule{"203.0.113.7", "Deny"}), RESTAPI, "203.0.113.7", false},
		"neighbour of a denied address":  {rules("Allow", IPRule{"203.0.113.7", "Deny"}), RESTAPI, "203.0.113.8", true},
		"order":                          {rules("Allow", IPRule{"203.0.113.7", "Allow"}, IPRule{"203.0.113.0/24", "Deny"}), RESTAPI, "203.0.113.7", true},
		"v6":                             {rules("Allow", IPRule{"2001:db8::/32", "Deny"}), RESTAPI, "2001:db8:1::7", false},
		"v6 outside":                     {rules("Allow", IPRule{"2001:db8::/32", "Deny"}), RESTAPI, "2001:db9::7", true},
		"v4 is in no v6 range":           {rules("Allow", IPRule{"::/0", "Deny"}), RESTAPI, "203.0.113.7", true},
		"an unknown address, ranges":     {withType(rules("Deny", IPRule{"0.0.0.0/0", "Allow"})), RESTAPI, "", false},
		"private endpoint":               {private(both([]string{rest}, nil)), RESTAPI, "10.1.2.3", true},
		"private endpoint, other type":   {private(both([]string{rest}, nil)), ClientConnection, "10.1.2.3", false},
		"private endpoint, denied":       {private(both(nil, []string{rest})), RESTAPI, "10.1.2.3", false},
		"not from the private endpoint":  {private(both([]string{rest}, nil)), RESTAPI, "11.1.2.3", false},
	} {
		tt.tenant.Name, tt.tenant.Hosts, tt.tenant.Keys = "a", []string{"*"}, valid("a", "*").Keys
		if err := Check(tt.tenant); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		address, _ := netip.ParseAddr(tt.from)
		if got := tt.tenant.Permits(tt.kind, address); got != tt.allowed {
			t.Errorf("%s: got %v, want %v", name, got, tt.allowed)
		}
	}
}

func rules(otherwise string, list ...IPRule) Tenant {
	return Tenant{NetworkACLs: Network{DefaultAction: otherwise, IPRules: list}}
}

func withType(t Tenant) Tenant {
	t.NetworkACLs.PublicNetwork.Allow = []string{"RESTAPI"}
	return t
}

// private is a tenant that is closed to the public, with a network of its own.
func private(rule RequestRule) Tenant {
	return Tenant{PublicNetworkAccess: "Disabled", NetworkACLs: Network{DefaultAction: "Deny",
		PrivateEndpoints: []PrivateEndpoint{{Name: "cluster", Ranges: []string{"192.0.2.1", "10.0.0.0/8"}, RequestRule: rule}}}}
}
