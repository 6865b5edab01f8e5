package asrs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const (
	key      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	otherKey = "another-key-another-key-another-key!"
)

func TestClientHub(t *testing.T) {
	for path, want := range map[string]string{
		"/ws/client": DefaultHub, "/ws/client/": DefaultHub, "/ws/client?hub=chat": "chat", "/ws/client/?hub=": DefaultHub,
		"/ws/client/hubs/chat": "chat", "/ws/client/hubs/chat/": "chat", "/ws/client/hubs/": "-", "/ws/clients": "-", "/client": "-",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := ClientHub(u.Path, u.Query())
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: got hub %q, want %q", path, got, want)
		}
	}
}

// checklist:E15
func TestRequestHeaders(t *testing.T) {
	handshake := httptest.NewRequest("GET", "/ws/client/?name=ana%20b&access_token=s3cr3t&x=%zz", nil)
	handshake.RemoteAddr = "192.0.2.7:999"
	handshake.Header.Set("X-Forwarded-For", "203.0.113.1, 10.0.0.1")
	c := NewCaller(handshake, map[string][]string{"sub": {"ana"}, "role": {"a", "b"}, "evil": {"x\r\nX-ASRS-User-Id: root"}}, []string{"protocol1", "protocol2"}, "3F7A")
	e := cloudevents.Event{Hub: "chat", ConnectionID: "c-81f2", UserID: "ana", Time: time.Date(2026, 1, 31, 10, 5, 7, 0, time.FixedZone("", 3600)),
		ContentType: cloudevents.TypeText, Body: []byte("hello")}
	for _, tc := range []struct {
		category, event, body string
		more                  map[string]string
	}{
		{Connections, Connect, "", map[string]string{"Sec-WebSocket-Protocol": "protocol1, protocol2"}},
		{Messages, Message, "hello", map[string]string{"Content-Type": "text/plain"}},
		{Connections, Disconnect, "", nil},
	} {
		r, err := c.NewRequest(t.Context(), "http://x/", tc.category, tc.event, e, key, otherKey)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"X-ASRS-Connection-Id": "c-81f2", "X-ASRS-Hub": "chat", "X-ASRS-Category": tc.category, "X-ASRS-Event": tc.event, "X-ASRS-User-Id": "ana",
			"X-ASRS-User-Claims": "evil: x??X-ASRS-User-Id: root, role: a, role: b, sub: ana", "X-ASRS-Client-Query": "name=ana%20b&x=%zz",
			"X-ASRS-Signature":              cloudevents.Signature("c-81f2", key, otherKey),
			"X-ASRS-Client-Cert-Thumbprint": "3F7A", "X-Forwarded-For": "203.0.113.1, 10.0.0.1, 192.0.2.7", "Date": "Sat, 31 Jan 2026 09:05:07 GMT",
		}
		for name, value := range tc.more {
			want[name] = value
		}
		for name, value := range want {
			if got := r.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s, %s: got %q, want %q", tc.event, name, got, value)
			}
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Header) != len(want) || r.Method != http.MethodPost || string(body) != tc.body {
			t.Errorf("%s: got %s %q with %d headers, want POST %q with %d", tc.event, r.Method, body, len(r.Header), tc.body, len(want))
		}
	}
}

// checklist:E15
func TestReadWelcome(t *testing.T) {
	offered := []string{"protocol1", "protocol2"}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		want   ConnectAnswer
		fault  string
	}{
		"nothing": {want: ConnectAnswer{}},
		"all": {header: http.Header{"X-Asrs-User-Id": {"ana"}, "X-Asrs-Connection-Group": {"a", "b"}, "Sec-Websocket-Protocol": {" protocol2 "}}, body: "hi",
			want: ConnectAnswer{UserID: "ana", Groups: []string{"a", "b"}, Subprotocol: "protocol2", Greeting: []byte("hi")}},
		"blank protocol":  {header: http.Header{"Sec-Websocket-Protocol": {" "}}},
		"two protocols":   {header: http.Header{"Sec-Websocket-Protocol": {"protocol1", "protocol2"}}, fault: "2 times"},
		"a list":          {header: http.Header{"Sec-Websocket-Protocol": {"protocol1, protocol2"}}, fault: "not offered"},
		"not offered":     {header: http.Header{"Sec-Websocket-Protocol": {"protocol3"}}, fault: "not offered"},
		"two users":       {header: http.Header{"X-Asrs-User-Id": {"ana", "bob"}}, fault: "2 times"},
		"user not UTF-8":  {header: http.Header{"X-Asrs-User-Id": {"\xff"}}, fault: "UTF-8"},
		"blank group":     {header: http.Header{"X-Asrs-Connection-Group": {" "}}, fault: "group"},
		"body not UTF-8":  {body: "\xff", fault: "UTF-8"},
		"body too large":  {body: strings.Repeat("x", webpubsub.MaxMessageBytes+1), fault: "more than"},
		"a body as large": {body: strings.Repeat("x", webpubsub.MaxMessageBytes), want: ConnectAnswer{Greeting: []byte(strings.Repeat("x", webpubsub.MaxMessageBytes))}},
	} {
		got, err := ParseConnectAnswer(tc.header, []byte(tc.body), offered)
		switch {
		case tc.fault != "":
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("%s: got %v, want an error with %q", name, err, tc.fault)
			}
		case err != nil || got.UserID != tc.want.UserID || !slices.Equal(got.Groups, tc.want.Groups) || got.Subprotocol != tc.want.Subprotocol || string(got.Greeting) != string(tc.want.Greeting):
			t.Errorf("%s: got %.200v %v, want %.200v", name, got, err, tc.want)
		}
	}
}

// Both stores behave alike, and two processes on one Redis share what they know.
func TestUserGroups(t *testing.T) {
	t.Parallel()
	single, servers := testkit.Redis(t), testkit.NewRedisCluster(t, false)
	open := func(url string) *UserGroups {
		client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "test"})
		if err != nil {
			t.Fatal(err)
		}
		u := NewUserGroups(client, "test")
		t.Cleanup(func() { u.Close() })
		return u
	}
	local := NewUserGroups(nil, "")
	for name, pair := range map[string][2]*UserGroups{"memory": {local, local}, "redis": {open(single.URL), open(single.URL)}, "cluster": {open(servers.URL), open(servers.URL)}} {
		a, b := pair[0], pair[1]
		chat := webpubsub.HubKey{Tenant: "t", Hub: "chat"}
		want := func(hub webpubsub.HubKey, user string, groups ...string) {
			t.Helper()
			got, err := b.Groups(t.Context(), hub, user)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, groups) {
				t.Errorf("%s: %s of %v is in %q, %v; want %q", name, user, hub, got, err, groups)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		want(chat, "ana")
		for _, g := range []string{"x", "y", "x"} {
			must(a.Add(t.Context(), chat, "ana", g))
		}
		want(chat, "ana", "x", "y")
		want(chat, "bob")
		want(webpubsub.HubKey{Tenant: "t", Hub: "other"}, "ana")
		want(webpubsub.HubKey{Tenant: "t2", Hub: "chat"}, "ana")
		must(a.Remove(t.Context(), chat, "ana", "x"))
		must(a.Remove(t.Context(), chat, "ana", "never"))
		want(chat, "ana", "y")
		must(a.Remove(t.Context(), chat, "ana", "y"))
		want(chat, "ana")
	}
	single.Stop()
	if _, err := open(single.URL).Groups(t.Context(), webpubsub.HubKey{Tenant: "t", Hub: "chat"}, "ana"); err == nil {
		t.Error("got no error while Redis is down")
	}
}

func TestUserGroupsAreBounded(t *testing.T) {
	u := NewUserGroups(nil, "")
	hub := webpubsub.HubKey{Tenant: "t", Hub: "chat"}
	for i := range maxGroups {
		if err := u.Add(t.Context(), hub, "ana", string(rune('a'+i%26))+strings.Repeat("x", i/26)); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Add(t.Context(), hub, "ana", "a"); err != nil {
		t.Errorf("a group that the user is in: got %v", err)
	}
	if err := u.Add(t.Context(), hub, "ana", "one more"); err != ErrTooMany {
		t.Errorf("got %v, want ErrTooMany", err)
	}
}

// FuzzCaller makes events of whatever a client may send in its handshake: they can always be sent, never carry the token,
// and have one value for each header.
func FuzzCaller(f *testing.F) {
	f.Add("name=ana&access_token=s3cr3t", "sub", "ana", "203.0.113.1")
	f.Add("access%5Ftoken=s3cr3t&%zz", "a\r\nb", "x, sub: root", "\x00")
	f.Fuzz(func(t *testing.T, query, claim, value, forwarded string) {
		r := httptest.NewRequest("GET", "/ws/client", nil)
		r.URL.RawQuery = query + "&access_token=t0k3n"
		r.Header["X-Forwarded-For"] = []string{forwarded}
		c := NewCaller(r, map[string][]string{claim: {value}}, []string{"p"}, "")
		var got http.Header
		app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
		sent, err := c.NewRequest(t.Context(), "http://x/", Connections, Connect, cloudevents.Event{ConnectionID: "c", UserID: value}, key)
		if err != nil {
			t.Fatal(err)
		}
		app.ServeHTTP(httptest.NewRecorder(), sent)
		for name, values := range got {
			for _, v := range values {
				if len(values) != 1 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%s: got %q, which cannot be sent", name, values)
				}
			}
		}
		if parsed, _ := url.ParseQuery(got.Get("X-ASRS-Client-Query")); parsed.Has("access_token") {
			t.Errorf("got query %q with a token", got.Get("X-ASRS-Client-Query"))
		}
	})
}
