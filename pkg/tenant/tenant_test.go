package tenant

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const key = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"

func valid(name string, hosts ...string) Tenant {
	return Tenant{Name: name, Hosts: hosts, Keys: Keys{Primary: key}}
}

func TestByHost(t *testing.T) {
	s, err := NewStatic(
		valid("any", "*"), valid("exact", "chat.example.com", "10.0.0.1", "[::1]"),
		valid("wide", "*.example.com"), valid("narrow", "*.eu.Example.com"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"chat.example.com":      "exact",
		"CHAT.example.com:8443": "exact",
		"chat.example.com.":     "exact",
		"10.0.0.1:80":           "exact",
		"[::1]:8080":            "exact",
		"[::1]":                 "exact",
		"a.example.com":         "wide",
		"a.b.example.com":       "wide",
		"x.chat.example.com":    "wide",
		"eu.example.com":        "wide",
		"a.eu.example.com:80":   "narrow",
		"a.b.eu.example.com":    "narrow",
		"example.com":           "any",
		".example.com":          "any",
		"badexample.com":        "any",
		"example.com.evil":      "any",
		"":                      "any",
	} {
		if got := s.ByHost(host); got == nil || got.Name != want {
			t.Errorf("host %q: got %v, want %s", host, got, want)
		}
	}
	if got := s.ByName("wide"); got == nil || got.Name != "wide" {
		t.Errorf("got %v, want wide", got)
	}
	if got := s.ByName("Wide"); got != nil {
		t.Errorf("got %v, want no tenant: names are exact", got)
	}
}

func TestHostsWithoutATenant(t *testing.T) {
	s, err := NewStatic(valid("a", "a.example"), valid("b", "*.b.example"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"", "b.example", "c.example", "a.example.c", "localhost:8080"} {
		if got := s.ByHost(host); got != nil {
			t.Errorf("host %q: got %s, want none", host, got.Name)
		}
	}
	if got := new(Static).ByHost("a"); got != nil {
		t.Errorf("before Set: got %v, want none", got)
	}
}

func TestSetChangesAllOrNothing(t *testing.T) {
	s, err := NewStatic(valid("a", "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set(valid("b", "b.example"), valid("b", "*")); err == nil {
		t.Fatal("two tenants of one name: got no error")
	}
	if s.ByName("a") == nil || s.ByName("b") != nil {
		t.Error("a refused set changed tenants")
	}
	if err := s.Set(valid("b", "a.example")); err != nil {
		t.Fatal(err)
	}
	if got := s.ByHost("a.example"); got == nil || got.Name != "b" || s.ByName("a") != nil {
		t.Errorf("got %v, want the new tenant b only", got)
	}
}

func TestTenantsAreCopies(t *testing.T) {
	mine := valid("a", "*")
	mine.Hubs = []Hub{{Name: "chat", Handlers: []Handler{{URL: "http://x/", SystemEvents: []string{"connect"}}}}}
	s, err := NewStatic(mine)
	if err != nil {
		t.Fatal(err)
	}
	mine.Hubs[0].Anonymous = true
	mine.Hubs[0].Handlers[0].SystemEvents[0] = "connected"
	hub := s.ByName("a").Hub("CHAT")
	if hub.Anonymous || hub.Handlers[0].SystemEvents[0] != "connect" {
		t.Error("the source shares memory with its caller")
	}
}

func TestReadersSeeOneSet(t *testing.T) {
	s, err := NewStatic(valid("t0", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if s.ByHost("x") == nil {
					t.Error("got no tenant while the set was replaced")
					return
				}
			}
		})
	}
	for i := range 100 {
		if err := s.Set(valid(fmt.Sprint("t", i), "*")); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// checklist:E01 E02
func TestCheckNamesEachProblem(t *testing.T) {
	with := func(change func(*Tenant)) Tenant {
		tn := valid("a", "a.example")
		change(&tn)
		return tn
	}
	handler := func(h Handler) Tenant {
		if h.UserEvents == "" && h.SystemEvents == nil {
			h.UserEvents = "*"
		}
		return with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "chat", Handlers: []Handler{h}}} })
	}
	provider := func(list ...OIDC) Tenant { return with(func(tn *Tenant) { tn.Auth.OIDC = list }) }
	listeners := func(l ...Listener) Tenant {
		return with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "chat", Listeners: []string{"history"}, EventListeners: l}} })
	}
	const at = "tenants[0].hubs[0].handlers[0]"
	for _, tc := range []struct {
		tenants []Tenant
		want    string
	}{
		{nil, "tenants: is empty"},
		{[]Tenant{valid("", "a")}, "tenants[0].name:"},
		{[]Tenant{valid("a:b", "a")}, "tenants[0].name:"},
		{[]Tenant{valid("a", "x"), valid("A", "y")}, `tenants[1].name: "a" is used twice; it is already at tenants[0].name`},
		{[]Tenant{valid("a")}, "tenants[0].hosts: is empty"},
		{[]Tenant{valid("a", "x"), valid("b", "X")}, "tenants[1].hosts[0]: \"x\" is used twice"},
		{[]Tenant{valid("a", "*"), valid("b", "*")}, "tenants[1].hosts[0]: \"*\" is used twice"},
		{[]Tenant{valid("a", "a.example:80")}, "without port"},
		{[]Tenant{valid("a", "a.*.example")}, "tenants[0].hosts[0]:"},
		{[]Tenant{valid("a", "https://a")}, "tenants[0].hosts[0]:"},
		{[]Tenant{with(func(tn *Tenant) { tn.Keys.Primary = "" })}, "tenants[0].keys.primary: is empty"},
		{[]Tenant{with(func(tn *Tenant) { tn.Keys.Primary = "shortsecret" })}, "tenants[0].keys.primary: has 11 bytes; at least 32"},
		{[]Tenant{with(func(tn *Tenant) { tn.Keys.Secondary = "shortsecret" })}, "tenants[0].keys.secondary: has 11 bytes"},
		{[]Tenant{with(func(tn *Tenant) { tn.Keys.Service = "shortsecret" })}, "tenants[0].keys.service: has 11 bytes"},
		{[]Tenant{with(func(tn *Tenant) { tn.Auth.DisableKeys = true })}, "tenants[0].auth.disableKeys: needs keys.service"},
		{[]Tenant{provider(OIDC{Issuer: "http://login.example", Roles: []string{"r"}})}, "tenants[0].auth.oidc[0].issuer: must be an https URL"},
		{[]Tenant{provider(OIDC{Issuer: "https://i", KeysURL: "x", Roles: []string{"r"}})}, "tenants[0].auth.oidc[0].keysUrl: must be"},
		{[]Tenant{provider(OIDC{Issuer: "https://i", Algorithms: []string{"HS256"}, Roles: []string{"r"}})}, `tenants[0].auth.oidc[0].algorithms[0]: "HS256" cannot be used`},
		{[]Tenant{provider(OIDC{Issuer: "https://i", Algorithms: []string{"none"}, Roles: []string{"r"}})}, `algorithms[0]: "none" cannot be used`},
		{[]Tenant{provider(OIDC{Issuer: "https://i", Audiences: []string{""}, Roles: []string{"r"}})}, "tenants[0].auth.oidc[0].audiences[0]: is empty"},
		{[]Tenant{provider(OIDC{Issuer: "https://i"})}, "tenants[0].auth.oidc[0]: says nobody"},
		{[]Tenant{provider(OIDC{Issuer: "https://i", Roles: []string{"r"}}, OIDC{Issuer: "https://i", Roles: []string{"r"}})}, "tenants[0].auth.oidc[1].issuer: is used twice"},
		{[]Tenant{with(func(tn *Tenant) { tn.AcceptedHosts = []string{"https://a", "b.example:1", "b.example/x"} })}, `tenants[0].acceptedHosts[2]: "b.example/x" is not a host`},
		{[]Tenant{with(func(tn *Tenant) { tn.PublicURL = "https://a/path" })}, "tenants[0].publicUrl:"},
		{[]Tenant{with(func(tn *Tenant) { tn.PublicNetworkAccess = "no" })}, `tenants[0].publicNetworkAccess: "no" must be one of Enabled, Disabled`},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.DefaultAction = "no" })}, "tenants[0].networkACLs.defaultAction:"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.PublicNetwork.Deny = []string{"REST"} })}, `tenants[0].networkACLs.publicNetwork.deny[0]: "REST" must be one of ClientConnection`},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.PublicNetwork.Allow = []string{""} })}, "tenants[0].networkACLs.publicNetwork.allow[0]:"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.PrivateEndpoints = []PrivateEndpoint{{Name: "a"}} })}, "tenants[0].networkACLs.privateEndpoints[0].ranges: is empty"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.PrivateEndpoints = []PrivateEndpoint{{Ranges: []string{"10/8"}}} })}, "tenants[0].networkACLs.privateEndpoints[0].ranges[0]:"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.IPRules = []IPRule{{"300.0.0.1", "Allow"}} })}, "tenants[0].networkACLs.ipRules[0].value:"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.IPRules = []IPRule{{"::1", "Maybe"}} })}, "tenants[0].networkACLs.ipRules[0].action:"},
		{[]Tenant{with(func(tn *Tenant) { tn.NetworkACLs.IPRules = slices.Repeat([]IPRule{{"::1", "Allow"}}, 31) })}, "tenants[0].networkACLs.ipRules: has 31 rules"},
		{[]Tenant{with(func(tn *Tenant) { tn.Limits.Connections = -1 })}, "tenants[0].limits.connections: is -1"},
		{[]Tenant{with(func(tn *Tenant) { tn.Limits.MessageBytes = 2 << 20 })}, "tenants[0].limits.messageBytes: is 2097152"},
		{[]Tenant{with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "1"}} })}, "tenants[0].hubs[0].name: hub name"},
		{[]Tenant{with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "a"}, {Name: "A"}} })}, "tenants[0].hubs[1].name: \"a\" is used twice"},
		{[]Tenant{with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "a", KeepAliveSeconds: 121}} })}, "tenants[0].hubs[0].keepAliveSeconds: is 121"},
		{[]Tenant{with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "a", Listeners: []string{"a b"}}} })}, "tenants[0].hubs[0].listeners[0]:"},
		{[]Tenant{with(func(tn *Tenant) { tn.Upstream = []Template{{URLTemplate: "http://{hub}.secret/"}} })}, "tenants[0].upstream[0].urlTemplate: has a parameter in its host"},
		{[]Tenant{with(func(tn *Tenant) { tn.Upstream = []Template{{URLTemplate: "http://x/{events}?secret"}} })}, "unknown parameter {events}; only {hub}, {category}, {event}, {file"},
		{[]Tenant{with(func(tn *Tenant) { tn.Upstream = []Template{{URLTemplate: "http://x/", EventPattern: "a,,b"}} })}, "tenants[0].upstream[0].eventPattern:"},
		{[]Tenant{with(func(tn *Tenant) { tn.Upstream = []Template{{URLTemplate: "http://x/", Auth: HandlerAuth{Scope: "x"}}} })}, "tenants[0].upstream[0].auth:"},
		{[]Tenant{listeners(Listener{Log: "a b", UserEvents: "*"})}, "eventListeners[0].log:"},
		{[]Tenant{listeners(Listener{Log: "a"})}, "eventListeners[0]: gets no events"},
		{[]Tenant{listeners(Listener{Log: "a", UserEvents: "a,,b"})}, "eventListeners[0].userEvents:"},
		{[]Tenant{listeners(Listener{Log: "a", SystemEvents: []string{"connect"}})}, `eventListeners[0].systemEvents[0]: "connect" is not a listener's system event; use connected, disconnected`},
		{[]Tenant{listeners(Listener{Log: "a", UserEvents: "*", Webhook: Webhook{URL: "http://x/{event}?secret"}})}, "eventListeners[0].webhook.url: has the unknown parameter {event}; only {hub}, {file"},
		{[]Tenant{listeners(Listener{Log: "a", UserEvents: "*", Webhook: Webhook{URL: "http://x/", Auth: HandlerAuth{Scope: "x"}}})}, "eventListeners[0].webhook.auth:"},
		{[]Tenant{listeners(Listener{Log: "History", UserEvents: "*"})}, "eventListeners[0].log: \"History\" is also among listeners"},
		{[]Tenant{listeners(Listener{Log: "a", UserEvents: "*", Webhook: Webhook{URL: "http://x/"}}, Listener{Log: "A", UserEvents: "b"})}, "eventListeners[0].log: \"a\" is used by another event listener"},
		{[]Tenant{handler(Handler{URL: "ftp://secret/"})}, at + ".url: must begin with http"},
		{[]Tenant{handler(Handler{URL: "tunnel:///secret"})}, at + ".url: must begin with http"},
		{[]Tenant{handler(Handler{URL: "http://{hub}.secret/"})}, at + ".url: has a parameter in its host"},
		{[]Tenant{handler(Handler{URL: "http://x/{category}?code=secret"})}, at + ".url: has the unknown parameter {category}"},
		{[]Tenant{handler(Handler{URL: "http://x/{event?code=secret"})}, at + ".url: has { without }"},
		{[]Tenant{handler(Handler{URL: "http://x/?code={file:relative/secret}"})}, at + ".url: has {file:} without an absolute path"},
		{[]Tenant{handler(Handler{URL: "http://x/?code={env:}secret"})}, at + ".url: has {env:} without the name"},
		{[]Tenant{handler(Handler{URL: "http://{file:/secret}/"})}, at + ".url: has a parameter in its host"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{Audience: "api://x"}})}, at + ".auth: needs one of issuer, tokenURL"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{TokenFile: "token"}})}, at + ".auth: tokenFile must be an absolute path"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{TokenFile: "/token", ClientSecret: "secret"}})}, at + ".auth: has tokenFile and more"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{Issuer: "login.example"}})}, at + ".auth: issuer and tokenURL must begin with https"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{Issuer: "https://login.example", ClientSecret: "secret"}})}, at + ".auth: needs clientID and clientSecret"},
		{[]Tenant{handler(Handler{URL: "http://x/", Auth: HandlerAuth{Issuer: "https://login.example", ClientID: "c", ClientSecret: "{secret}"}})}, at + ".auth: clientSecret has a brace"},
		{[]Tenant{handler(Handler{URL: "http://x/event}?code=secret"})}, at + ".url: has } without {"},
		{[]Tenant{handler(Handler{URL: "http:///secret"})}, at + ".url: has no host"},
		{[]Tenant{handler(Handler{URL: "http://x/%zzsecret"})}, at + ".url: is not a URL"},
		{[]Tenant{handler(Handler{URL: "http://x/", UserEvents: "a,,b"})}, at + ".userEvents: must be *"},
		{[]Tenant{handler(Handler{URL: "http://x/", SystemEvents: []string{"connect", "joined"}})}, at + `.systemEvents[1]: "joined" is not a system event`},
		{[]Tenant{handler(Handler{URL: "http://x/", PresenceEvents: []string{"left", "connected"}})}, at + `.presenceEvents[1]: "connected" is not a presence event`},
		{[]Tenant{handler(Handler{URL: "http://x/", PresenceEvents: []string{"left"}, PresenceGroups: []string{"a", `b\`}})}, at + ".presenceGroups[1]:"},
		{[]Tenant{handler(Handler{URL: "http://x/", PresenceGroups: []string{"a"}})}, at + ".presenceGroups: is set without presenceEvents"},
		{[]Tenant{with(func(tn *Tenant) { tn.Hubs = []Hub{{Name: "a", Handlers: []Handler{{URL: "http://x/"}}}} })}, at + ": gets no events"},
		{[]Tenant{handler(Handler{URL: "http://x/", BeforePublish: BeforePublish{Timeout: time.Second}})}, at + ".beforePublish: is set without enabled"},
		{[]Tenant{handler(Handler{URL: "http://x/", BeforePublish: BeforePublish{WhenFailing: "pass"}})}, at + ".beforePublish: is set without enabled"},
		{[]Tenant{handler(Handler{URL: "http://x/", BeforePublish: BeforePublish{Enabled: true, WhenFailing: "drop"}})}, at + `.beforePublish.whenFailing: "drop" must be one of refuse, pass`},
		{[]Tenant{handler(Handler{URL: "http://x/", BeforePublish: BeforePublish{Enabled: true, Timeout: 99 * time.Millisecond}})}, at + ".beforePublish.timeout: is 99ms; it must be from 100ms to 1h"},
		{[]Tenant{handler(Handler{URL: "http://x/", BeforePublish: BeforePublish{Enabled: true, Timeout: 61 * time.Minute}})}, at + ".beforePublish.timeout: is 1h1m0s"},
	} {
		err := Check(tc.tenants...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want a problem with %q", err, tc.want)
			continue
		}
		if got := strings.Count(err.Error(), "\n"); got != 0 {
			t.Errorf("got %v, want one problem", err)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, which repeats a key or URL", err)
		}
	}
}

func TestCheckReportsAllProblems(t *testing.T) {
	bad := valid("a b")
	bad.Keys = Keys{}
	bad.Limits.Connections = -5
	bad.Hubs = []Hub{{Name: "9", KeepAliveSeconds: -1, Handlers: []Handler{{URL: "x"}}}}
	err := Check(bad, valid("b", "*"), valid("b", "*"))
	if err == nil {
		t.Fatal("got no error")
	}
	if got, want := strings.Count(err.Error(), "\n")+1, 10; got != want {
		t.Errorf("got %d problems, want %d:\n%v", got, want, err)
	}
}

func TestCheckAccepts(t *testing.T) {
	tn := valid("default", "*", "a.example", "*.b.example", "127.0.0.1", "::1", "my_service")
	tn.Keys.Secondary = key
	tn.Hubs = []Hub{{Name: "Chat", KeepAliveSeconds: 120, Listeners: []string{"history"}, Handlers: []Handler{
		{URL: "http://127.0.0.1:8081/eventhandler/{event}", UserEvents: "*", SystemEvents: []string{"Connect", "connected"}},
		{URL: "HTTPS://x/{HUB}/{Event}?code=a%7Bb&h={hub}", UserEvents: "a, b"},
	}}}
	if err := Check(tn); err != nil {
		t.Error(err)
	}
}

// checklist:E01
func TestHandlerWants(t *testing.T) {
	for _, tc := range []struct {
		pattern, event string
		want           bool
	}{
		{"*", "a", true}, {"", "a", false}, {"a", "a", true}, {"A", "a", true}, {"a", "ab", false},
		{"a, b ,c", "b", true}, {"a,b", "c", false}, {"connect", "connect", true},
	} {
		h := Handler{UserEvents: tc.pattern, SystemEvents: []string{"connected"}}
		if got := h.WantsUser(tc.event); got != tc.want {
			t.Errorf("pattern %q, event %q: got %v, want %v", tc.pattern, tc.event, got, tc.want)
		}
		if h.WantsSystem("connect") || !h.WantsSystem("Connected") {
			t.Error("a user pattern and system events are separate")
		}
	}
	h := Handler{UserEvents: "one, two, three"}
	if allocs := testing.AllocsPerRun(100, func() { h.WantsUser("three") }); allocs != 0 {
		t.Errorf("got %v allocations, want none", allocs)
	}
}

// checklist:E13
func TestListenerWants(t *testing.T) {
	l := Listener{UserEvents: "a, b", SystemEvents: []string{"Connected"}}
	if !l.WantsUser("B") || l.WantsUser("c") || !l.WantsSystem("connected") || l.WantsSystem("disconnected") {
		t.Error("a listener matches other events than its filter says")
	}
	tn := valid("a", "*")
	tn.Hubs = []Hub{{Name: "x", EventListeners: []Listener{{Log: "shared", UserEvents: "a"}, {Log: "own", UserEvents: "*", Webhook: Webhook{URL: "https://x/{hub}?code={env:CODE}"}}}},
		{Name: "y", EventListeners: []Listener{{Log: "shared", SystemEvents: []string{"connected"}}}}}
	if err := Check(tn); err != nil {
		t.Error(err)
	}
}

// checklist:E11
func TestHandlerWantsPresence(t *testing.T) {
	for _, tc := range []struct {
		events, groups []string
		event, group   string
		want           bool
	}{
		{[]string{"joined"}, nil, "joined", "any", true},
		{[]string{"Joined"}, nil, "joined", "any", true},
		{[]string{"joined"}, nil, "left", "any", false},
		{nil, nil, "joined", "any", false},
		{[]string{"joined", "left"}, []string{"hall", "room-*"}, "left", "room-7", true},
		{[]string{"joined", "left"}, []string{"hall", "room-*"}, "left", "hall", true},
		{[]string{"joined", "left"}, []string{"hall", "room-*"}, "left", "halls", false},
	} {
		h := Handler{PresenceEvents: tc.events, PresenceGroups: tc.groups}
		if got := h.WantsPresence(tc.event, tc.group); got != tc.want {
			t.Errorf("%v of %v, %s of %s: got %v, want %v", tc.events, tc.groups, tc.event, tc.group, got, tc.want)
		}
	}
}

// checklist:E15
func TestTemplates(t *testing.T) {
	tn := valid("a", "*")
	tn.Upstream = []Template{
		{URLTemplate: "http://one/{HUB}/{category}/{event}", HubPattern: "chat", CategoryPattern: "connections", EventPattern: "connect, disconnect"},
		{URLTemplate: "http://two:81/", HubPattern: "chat, draw", EventPattern: "*"},
	}
	if err := Check(tn); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ hub, category, event, want string }{
		{"chat", "connections", "connect", "http://one/chat/connections/connect"},
		{"CHAT", "connections", "disconnect", "http://one/CHAT/connections/disconnect"},
		{"chat", "connections", "connected", "http://two:81/"},
		{"chat", "messages", "message", "http://two:81/"},
		{"draw", "connections", "connect", "http://two:81/"},
		{"other", "messages", "message", ""},
	} {
		got := ""
		if u := tn.Template(tc.hub, tc.category, tc.event); u != nil {
			got, _ = u.URLFor(tc.hub, tc.category, tc.event)
		}
		if got != tc.want || tn.Ancestor(tc.hub) != (tc.want != "") {
			t.Errorf("%s %s %s: got %q, want %q", tc.hub, tc.category, tc.event, got, tc.want)
		}
	}
	if got := tn.Upstream[1].Host(); got != "two:81" {
		t.Errorf("got host %s, want two:81", got)
	}
}

// checklist:E02
func TestURLFor(t *testing.T) {
	for template, want := range map[string]string{
		"http://x/api/{hub}/{event}?code=s3cr3t": "http://x/api/chat/a%2Fb%20c?code=s3cr3t",
		"http://x/{HUB}?e={Event}":               "http://x/chat?e=a%2Fb%20c",
		"http://x/fixed":                         "http://x/fixed",
	} {
		h := Handler{URL: template}
		if got, err := h.URLFor("chat", "a/b c"); got != want || err != nil {
			t.Errorf("%s: got %s %v, want %s", template, got, err, want)
		}
	}
}

// A secret in a file or the environment need not stand in the settings; a new one counts at once.
//
// checklist:E02 E10
func TestSecretsInAddresses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "code")
	h := Handler{URL: "https://x/{event}?code={file:" + file + "}&k={ENV:CHATR_TEST_CODE}"}
	if err := Check(with(t, h)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.URLFor("chat", "connect"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	for _, secret := range []string{"s3 cr+t&/?", "second"} {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("CHATR_TEST_CODE", "é")
		address, err := h.URLFor("chat", "connect")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Path != "/connect" || u.Query().Get("code") != secret || u.Query().Get("k") != "é" {
			t.Errorf("got %s %v, want the secrets as they are", address, err)
		}
	}
	t.Setenv("CHATR_TEST_CODE", "")
	if _, err := h.URLFor("chat", "connect"); err == nil || strings.Contains(err.Error(), "second") {
		t.Errorf("got %v, want an error without the other secret", err)
	}
	if got := (&Handler{URL: "http://ana:pw@x:80?code={env:A}"}).Host(); got != "x:80" {
		t.Errorf("got host %s, want x:80", got)
	}
}

func with(t *testing.T, h Handler) Tenant {
	t.Helper()
	tn := valid("a", "*")
	h.UserEvents = "*"
	tn.Hubs = []Hub{{Name: "chat", Handlers: []Handler{h}}}
	return tn
}

func TestKeysDoNotPrint(t *testing.T) {
	tn := with(t, Handler{URL: "https://x/", Auth: HandlerAuth{ClientSecret: key}})
	var logged strings.Builder
	log := slog.New(slog.NewJSONHandler(&logged, nil))
	log.Info("x", "tenant", tn, "keys", tn.Keys)
	asJSON, err := json.Marshal(tn)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(tn), fmt.Sprintf("%+v", &tn), logged.String(), string(asJSON)} {
		if strings.Contains(text, key) || !strings.Contains(text, "[keys]") {
			t.Errorf("got %s, want [keys] in place of keys", text)
		}
	}
}

// TestBeforePublishHasDefaults once a source hands it out, and is no reason to call a handler that has nothing else useless.
func TestBeforePublishHasDefaults(t *testing.T) {
	s, err := NewStatic(Tenant{Name: "default", Hosts: []string{"*"}, Keys: Keys{Primary: "0123456789abcdef0123456789abcdef"}, Hubs: []Hub{
		{Name: "off", Handlers: []Handler{{URL: "http://x/", UserEvents: "*"}}},
		{Name: "on", Handlers: []Handler{{URL: "http://x/", UserEvents: "*"}, {URL: "http://y/", BeforePublish: BeforePublish{Enabled: true}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	on, off := s.ByName("default").Hub("on"), s.ByName("default").Hub("off")
	if got, want := on.Handlers[1].BeforePublish, (BeforePublish{Enabled: true, Timeout: 5 * time.Second, WhenFailing: RefuseWhenFailing}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !on.AsksBeforePublish() || off.AsksBeforePublish() || off.Handlers[0].BeforePublish != (BeforePublish{}) {
		t.Errorf("got %v and %v, want only the hub asking whose handler says so", on, off)
	}
	if err := Check(*s.ByName("default")); err != nil {
		t.Errorf("got %v about what was handed out", err)
	}
}
