package httpx

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

// checklist:O04
func TestClientAddrBelievesOurProxiesOnly(t *testing.T) {
	ours := TrustedProxies{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	for name, tt := range map[string]struct {
		remote    string
		forwarded []string
		want      string // empty: not valid
	}{
		"direct":                        {"203.0.113.7:1000", nil, "203.0.113.7"},
		"direct, with a forged header":  {"203.0.113.7:1000", []string{"10.0.0.1"}, "203.0.113.7"},
		"through a proxy":               {"10.0.0.1:1000", []string{"203.0.113.7"}, "203.0.113.7"},
		"what the client made up":       {"10.0.0.1:1000", []string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7"},
		"through two proxies":           {"10.0.0.1:1000", []string{"192.0.2.1,203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two header lines":              {"10.0.0.1:1000", []string{"203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		"with a port":                   {"10.0.0.1:1000", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		"v6 with a port":                {"[fd00::1]:1000", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"v6 in brackets":                {"[fd00::1]:1000", []string{"[2001:db8::7]"}, "2001:db8::7"},
		"v4 as v6":                      {"[::ffff:10.0.0.1]:1000", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"the proxy itself":              {"10.0.0.1:1000", nil, "10.0.0.1"},
		"what is no address":            {"10.0.0.1:1000", []string{"unknown"}, ""},
		"no address before an address":  {"10.0.0.1:1000", []string{"nonsense, 203.0.113.7"}, "203.0.113.7"},
		"all ours":                      {"10.0.0.1:1000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"no address after an address":   {"10.0.0.1:1000", []string{"203.0.113.7, nonsense"}, ""},
		"a socket that is not internet": {"@", nil, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		r.Header["X-Forwarded-For"] = tt.forwarded
		got := ours.ClientAddr(r)
		if tt.want == "" && got.IsValid() || tt.want != "" && got.String() != tt.want {
			t.Errorf("%s: got %v, want %q", name, got, tt.want)
		}
	}
}
