package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const (
	key      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	otherKey = "another-key-another-key-another-key!"
	connID   = "c-81f2"
)

var chat = webpubsub.HubKey{Tenant: "default", Hub: "chat"}

// handlerOf returns settings with one handler of every event.
func handlerOf(url string) tenant.Handler {
	return tenant.Handler{URL: url + "/eventhandler/{event}?code=s3cr3t", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"}}
}

func newTenants(t testing.TB, handlers ...tenant.Handler) *tenant.Static {
	t.Helper()
	s, err := tenant.NewStatic(tenant.Tenant{
		Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key, Secondary: otherKey},
		Hubs: []tenant.Hub{{Name: "Chat", Handlers: handlers}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newUpstream returns an Upstream that runs until the test ends, and its log.
func newUpstream(t testing.TB, cfg Config, handlers ...tenant.Handler) (*Upstream, *logBuffer) {
	t.Helper()
	logged := &logBuffer{}
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	u := New(cfg, newTenants(t, handlers...), nil, log, prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		u.Run(ctx) //nolint:errcheck // always nil
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if strings.Contains(logged.String(), "s3cr3t") {
			t.Error("the log has a handler's secret")
		}
	})
	return u, logged
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// app is an event handler that agrees to everything, notes what it gets and answers as told.
type app struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request // with their bodies read into GetBody
	arrived  chan struct{}   // a token for each request
	answer   http.HandlerFunc
}

func newApp(t testing.TB, answer http.HandlerFunc) *app {
	t.Helper()
	a := &app{answer: answer, arrived: make(chan struct{}, 1000)}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	a.mu.Lock()
	a.requests = append(a.requests, r)
	a.mu.Unlock()
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("WebHook-Allowed-Origin", "*")
	case a.answer != nil:
		a.answer(w, r)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	a.arrived <- struct{}{}
}

// events returns the requests that are not validations.
func (a *app) events() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*http.Request
	for _, r := range a.requests {
		if r.Method == http.MethodPost {
			all = append(all, r)
		}
	}
	return all
}

func bodyOf(t testing.TB, r *http.Request) string {
	t.Helper()
	rc, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(requests []*http.Request) string {
	var all []string
	for _, r := range requests {
		all = append(all, r.Header.Get("ce-eventName")+"/"+r.Header.Get("ce-id"))
	}
	return strings.Join(all, " ")
}

func noClaims() map[string][]string { return nil }

func handshake() *http.Request {
	r := httptest.NewRequest("GET", "http://wps.example.com:8080/client/hubs/chat?access_token=t0k3n&Access_Token=t0k3n&room=7&lang=en&lang=de", nil)
	r.Header.Set("Authorization", "Bearer t0k3n")
	r.Header.Set("X-ASRS-Internal-Foo", "x")
	r.Header.Set("User-Agent", "x/1.0")
	return r
}

func drain(t testing.TB, u *Upstream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// checklist:E03 E04 E05 E06 E07 E08
func TestLifeOfAConnection(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("ce-type") {
		case cloudevents.Connect:
			w.Header().Set("ce-connectionState", "eyJuIjoxfQ==")
			io.WriteString(w, `{"userId":"bob","groups":["g"],"roles":[],"subprotocol":" p "}`)
		case cloudevents.UserPrefix + "foo":
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, `{"x": 1}`)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	claims := map[string][]string{"sub": {"ana"}, "exp": {"1767229200"}}
	got, err := s.Connect(t.Context(), handshake(), "ana", func() map[string][]string { return claims }, []string{"p", "q"})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Handled || got.UserID == nil || *got.UserID != "bob" || len(got.Groups) != 1 || got.Roles == nil || len(got.Roles) != 0 || got.Subprotocol != "p" {
		t.Errorf("got %+v", got)
	}
	s.Established("bob", "p")
	d, err := s.Event("foo", webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{ "a":1 }`)}).Put(t.Context())
	if err != nil || d == nil || d.Type != webpubsub.DataJSON || string(d.Bytes) != `{"x": 1}` {
		t.Errorf("got %v %v", d, err)
	}
	s.Closed("bye")
	s.Closed("again")
	drain(t, u)

	events := a.events()
	if got, want := names(events), "connect/0 connected/1 foo/2 disconnected/3"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	wantBodies := []string{
		`{"claims":{"exp":["1767229200"],"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier":["ana"],"sub":["ana"]},` +
			`"query":{"lang":["en","de"],"room":["7"]},"headers":{"Host":["wps.example.com:8080"],"User-Agent":["x/1.0"]},` +
			`"subprotocols":["p","q"],"clientCertificates":[]}`,
		`{}`, `{ "a":1 }`, `{"reason":"bye"}`,
	}
	for i, r := range events {
		if got := bodyOf(t, r); got != wantBodies[i] {
			t.Errorf("event %d: got body %s, want %s", i, got, wantBodies[i])
		}
		want := map[string]string{
			"ce-specversion": "1.0", "ce-awpsversion": "1.0", "ce-hub": "chat", "ce-connectionId": connID,
			"ce-source": "/hubs/chat/client/" + connID, "ce-signature": cloudevents.Signature(connID, key, otherKey),
			"WebHook-Request-Origin": "localhost", "ce-userId": "bob", "ce-subprotocol": "p", "ce-connectionState": "eyJuIjoxfQ==",
		}
		if i == 0 {
			want["ce-userId"], want["ce-subprotocol"], want["ce-connectionState"] = "ana", "", ""
		}
		for name, value := range want {
			if got := r.Header.Get(name); got != value {
				t.Errorf("event %d, %s: got %q, want %q", i, name, got, value)
			}
		}
		if got := r.URL.RequestURI(); got != "/eventhandler/"+r.Header.Get("ce-eventName")+"?code=s3cr3t" {
			t.Errorf("got %s", got)
		}
	}
	if got := a.requests[0]; got.Method != "OPTIONS" || got.URL.RequestURI() != "/eventhandler/validate?code=s3cr3t" ||
		got.Header.Get("ce-hub") != "chat" || got.Header.Get("ce-awpsversion") != "1.0" || got.Header.Get("WebHook-Request-Origin") != "localhost" {
		t.Errorf("got %s %s %v, want the validation first", got.Method, got.URL, got.Header)
	}
}

// checklist:E03
func TestOrigin(t *testing.T) {
	for _, tc := range []struct {
		configured string
		hosts      []string
		want       string
	}{
		{"", []string{"*"}, "localhost"},
		{"", []string{"*.x", "chat.example.com", "b"}, "chat.example.com"},
		{"", []string{"[::1]"}, "::1"},
		{"front.example", []string{"chat.example.com"}, "front.example"},
	} {
		u, _ := newUpstream(t, Config{PublicURL: tc.configured})
		if got := u.origin(&tenant.Tenant{Hosts: tc.hosts}); got != tc.want {
			t.Errorf("%q %v: got %s, want %s", tc.configured, tc.hosts, got, tc.want)
		}
	}
}

// checklist:E01
func TestTheFirstMatchingHandlerGetsAnEvent(t *testing.T) {
	first, second := newApp(t, nil), newApp(t, nil)
	u, _ := newUpstream(t, Config{},
		tenant.Handler{URL: first.URL + "/{hub}/{event}", UserEvents: "a, B", SystemEvents: []string{"connected"}},
		tenant.Handler{URL: second.URL + "/fixed", UserEvents: "b,c", SystemEvents: []string{"Connected", "disconnected"}},
	)
	s := u.Open(chat, connID)
	if got, err := s.Connect(t.Context(), handshake(), "ana", noClaims, nil); err != nil || got.Handled {
		t.Fatalf("got %+v %v, want acceptance without a handler", got, err)
	}
	s.Established("ana", "")
	for _, name := range []string{"b", "c", "A"} {
		if _, err := s.Event(name, webpubsub.Text("x")).Put(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Event("connected", webpubsub.Text("x")).Put(t.Context()); !errors.Is(err, ErrNoHandler) {
		t.Errorf("a user event named like a system event: got %v, want ErrNoHandler", err)
	}
	s.Closed("")
	drain(t, u)
	if got, want := names(first.events()), "connected/1 b/2 A/4"; got != want {
		t.Errorf("first: got %s, want %s", got, want)
	}
	if got, want := names(second.events()), "c/3 disconnected/6"; got != want {
		t.Errorf("second: got %s, want %s", got, want)
	}
	if got := first.events()[1].URL.Path; got != "/chat/b" {
		t.Errorf("got path %s, want /chat/b", got)
	}
	if got := testutil.ToFloat64(u.metrics.failures.WithLabelValues("user", "no_handler")); got != 1 {
		t.Errorf("got %v events without handler counted, want 1", got)
	}
}

// checklist:E07
func TestUserEventBodies(t *testing.T) {
	a := newApp(t, nil)
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	for _, d := range []webpubsub.Data{
		webpubsub.Text("Grüße"), {Type: webpubsub.DataJSON, Bytes: []byte("[1]")},
		{Type: webpubsub.DataBinary, Bytes: []byte{0, 255}}, {Type: webpubsub.DataProtobuf, Bytes: []byte{1}}, {},
	} {
		if _, err := s.Event("e", d).Put(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"text/plain", "application/json", "application/octet-stream", "application/x-protobuf", "text/plain"}
	for i, r := range a.events() {
		if got := r.Header.Get("Content-Type"); got != want[i] {
			t.Errorf("got %s, want %s", got, want[i])
		}
	}
}

// checklist:C23 E07
func TestMetadataOfUserEvents(t *testing.T) {
	answers := []http.Header{
		{"X-WebPubSub-Metadata-Trace": {"first", "last"}, "x-webpubsub-metadata-a": {"1"}},
		{}, {"X-WebPubSub-Metadata-a": {"é"}}, {"X-WebPubSub-Metadata-a": {strings.Repeat("v", 1025)}},
	}
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range answers[0] {
			for _, value := range values {
				w.Header().Add(name, value)
			}
		}
		answers = answers[1:]
	})
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	sent := webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("x"), Metadata: webpubsub.Metadata{{Key: "Trace.ID", Value: "a b"}, {Key: "b", Value: ""}}}
	got, err := s.Event("e", sent).Put(t.Context())
	want := &webpubsub.Data{Type: webpubsub.DataText, Metadata: webpubsub.Metadata{{Key: "a", Value: "1"}, {Key: "trace", Value: "last"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v: empty text with the last values", got, err, want)
	}
	if h := a.events()[0].Header; h.Get("x-webpubsub-metadata-trace.id") != "a b" || len(h["X-Webpubsub-Metadata-B"]) != 1 {
		t.Errorf("the handler got %v, want the metadata as headers", h)
	}
	if got, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); got != nil || err != nil {
		t.Errorf("got %+v, %v; want nothing for an empty answer", got, err)
	}
	for range 2 {
		f := new(Failure)
		if _, err := s.Event("e", sent).Put(t.Context()); !errors.As(err, &f) || f.Reason != ReasonAnswer {
			t.Errorf("got %v, want a failure for metadata beyond the limits", err)
		}
	}
}

// checklist:E07 E08
func TestUserEventAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		state       []string
		want        *webpubsub.Data
		wantReason  Reason
		wantState   string
	}{
		"204":                  {status: 204},
		"empty":                {status: 200, contentType: "application/octet-stream"},
		"empty of any type":    {status: 202, contentType: "image/png"},
		"text":                 {status: 200, contentType: "text/plain; charset=utf-8", body: "é", want: &webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("é")}},
		"json":                 {status: 200, contentType: "application/json", body: ` {"a":1}`, want: &webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(` {"a":1}`)}},
		"binary":               {status: 200, contentType: "application/octet-stream", body: "\x00", want: &webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{0}}},
		"protobuf":             {status: 201, contentType: "application/x-protobuf", body: "p", want: &webpubsub.Data{Type: webpubsub.DataProtobuf, Bytes: []byte("p")}},
		"no type":              {status: 200, body: "x", want: &webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte("x")}},
		"other type":           {status: 200, contentType: "text/html", body: "x", wantReason: ReasonAnswer},
		"malformed type":       {status: 200, contentType: ";;", body: "x", wantReason: ReasonAnswer},
		"malformed json":       {status: 200, contentType: "application/json", body: "{", wantReason: ReasonAnswer},
		"json is not UTF-8":    {status: 200, contentType: "application/json", body: "\"\xff\"", wantReason: ReasonAnswer},
		"text is not UTF-8":    {status: 200, contentType: "text/plain", body: "\xff", wantReason: ReasonAnswer},
		"largest":              {status: 200, contentType: "text/plain", body: strings.Repeat("x", 1<<20), want: &webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte(strings.Repeat("x", 1<<20))}},
		"too large":            {status: 200, contentType: "text/plain", body: strings.Repeat("x", 1<<20+1), wantReason: ReasonAnswer},
		"400":                  {status: 400, contentType: "text/plain", body: "no", wantReason: ReasonClientError},
		"429 is not retried":   {status: 429, wantReason: ReasonClientError},
		"redirect":             {status: 302, wantReason: ReasonClientError},
		"state":                {status: 204, state: []string{"new"}, wantState: "new"},
		"state cleared":        {status: 204, state: []string{""}, wantState: "-"},
		"state at its largest": {status: 204, state: []string{strings.Repeat("s", 4096)}, wantState: strings.Repeat("s", 4096)},
		"state too large":      {status: 204, state: []string{strings.Repeat("s", 4097)}, wantReason: ReasonAnswer},
		"state twice":          {status: 204, state: []string{"a", "b"}, wantReason: ReasonAnswer},
		"state of a refusal":   {status: 403, state: []string{"new"}, wantReason: ReasonClientError},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
				h := w.Header()
				h["Content-Type"] = nil // no guessing
				if tc.contentType != "" {
					h.Set("Content-Type", tc.contentType)
				}
				for _, state := range tc.state {
					h.Add("ce-connectionState", state)
				}
				h.Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body)
			})
			u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
			s := u.Open(chat, connID)
			s.state = "old"
			d, err := s.Event("e", webpubsub.Text("x")).Put(t.Context())
			if tc.wantReason == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if f := new(Failure); !errors.As(err, &f) || f.Reason != tc.wantReason {
				t.Errorf("got error %v, want reason %s", err, tc.wantReason)
			}
			if (d == nil) != (tc.want == nil) || d != nil && (d.Type != tc.want.Type || !bytes.Equal(d.Bytes, tc.want.Bytes)) {
				t.Errorf("got %.100v, want %.100v", d, tc.want)
			}
			want := tc.wantState
			switch want {
			case "":
				want = "old"
			case "-":
				want = ""
			}
			if s.state != want {
				t.Errorf("got state %.20q, want %.20q", s.state, want)
			}
			if got := len(a.events()); got != 1 {
				t.Errorf("got %d requests, want 1", got)
			}
		})
	}
}

// checklist:E05
func TestConnectAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		wantStatus  int // of the refusal; 0: accepted
		wantBody    string
	}{
		"204":                  {status: 204},
		"empty":                {status: 200},
		"null":                 {status: 200, body: "null"},
		"object":               {status: 200, body: `{"Groups":null,"userid":""}`},
		"malformed":            {status: 200, body: `{`, wantStatus: 500, wantBody: "the event handler could not be asked"},
		"wrong types":          {status: 200, body: `{"groups":"g"}`, wantStatus: 500, wantBody: "the event handler could not be asked"},
		"not an object":        {status: 200, body: `[]`, wantStatus: 500, wantBody: "the event handler could not be asked"},
		"bad group":            {status: 200, body: `{"groups":["g"," "]}`, wantStatus: 500, wantBody: "the event handler could not be asked"},
		"too large":            {status: 200, body: strings.Repeat(" ", 16<<20+1), wantStatus: 500, wantBody: "the event handler could not be asked"},
		"401 with text":        {status: 401, contentType: "text/plain", body: "not today", wantStatus: 401, wantBody: "not today"},
		"403 without body":     {status: 403, wantStatus: 403, wantBody: "the event handler refused the connection"},
		"403 with a page":      {status: 403, contentType: "text/html", body: "<script>", wantStatus: 403, wantBody: "the event handler refused the connection"},
		"400 with a long text": {status: 400, contentType: "text/plain", body: strings.Repeat("x", 10000), wantStatus: 400, wantBody: strings.Repeat("x", 4096)},
		"redirect":             {status: 307, contentType: "text/plain", body: "x", wantStatus: 500, wantBody: "the event handler could not be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if tc.contentType != "" {
					w.Header().Set("Content-Type", tc.contentType)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body)
			})
			u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
			s := u.Open(chat, connID)
			got, err := s.Connect(t.Context(), handshake(), "ana", noClaims, nil)
			if tc.wantStatus == 0 {
				if err != nil || !got.Handled || got.Groups != nil || got.Roles != nil || got.Subprotocol != "" {
					t.Errorf("got %+v %v, want acceptance", got, err)
				}
				return
			}
			refused := new(Refused)
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if refused.Status != tc.wantStatus || !strings.HasPrefix(string(refused.Body), tc.wantBody) || len(refused.Body) > 4096 {
				t.Errorf("got %d %.100q, want %d %.100q", refused.Status, refused.Body, tc.wantStatus, tc.wantBody)
			}
			if !strings.HasPrefix(refused.ContentType, "text/plain") {
				t.Errorf("got %s, want text/plain", refused.ContentType)
			}
			s.Closed("refused")
			drain(t, u)
			if got := names(a.events()); got != "connect/0" {
				t.Errorf("got %s, want no event after a refused connect", got)
			}
		})
	}
}

// checklist:E06
func TestClosedAfterAFailedHandshakeSaysDisconnected(t *testing.T) {
	a := newApp(t, nil)
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	if _, err := s.Connect(t.Context(), handshake(), "ana", noClaims, nil); err != nil {
		t.Fatal(err)
	}
	s.Closed("handshake failed")
	drain(t, u)
	if got, want := names(a.events()), "connect/0 disconnected/1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err == nil {
		t.Error("an event after the end: got no error")
	}
}

// checklist:E06
func TestConnectedNeverFollowsDisconnected(t *testing.T) {
	a := newApp(t, nil)
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	if _, err := s.Connect(t.Context(), handshake(), "ana", noClaims, nil); err != nil {
		t.Fatal(err)
	}
	s.Closed("closed by REST during the handshake")
	s.Established("ana", "")
	drain(t, u)
	if got, want := names(a.events()), "connect/0 disconnected/1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := testutil.ToFloat64(u.metrics.waiting); got != 0 {
		t.Errorf("got %v events waiting, want none", got)
	}
}

// What moves before the handshake is done is told after connected; what never was established is not told of groups.
//
// checklist:E11
func TestPresenceStaysBetweenConnectedAndDisconnected(t *testing.T) {
	a := newApp(t, nil)
	h := handlerOf(a.URL)
	h.PresenceEvents, h.PresenceGroups = []string{"joined", "left"}, []string{"room*"}
	u, _ := newUpstream(t, Config{}, h)

	s := u.Open(chat, connID)
	s.setAccepted(nil)
	s.GroupLeft("room1") // by REST, before the 101
	s.GroupJoined("room2")
	s.Established("ana", "", "room1", "hall")
	s.GroupJoined("hall 2")
	s.GroupLeft("room2")
	s.Closed("bye")
	s.GroupJoined("room3")
	drain(t, u)
	if got, want := names(a.events()), "connected/1 joined/2 left/3 joined/4 left/5 disconnected/6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i, want := range []string{`{}`, `{"group":"room1"}`, `{"group":"room1"}`, `{"group":"room2"}`, `{"group":"room2"}`, `{"reason":"bye"}`} {
		if got := bodyOf(t, a.events()[i]); got != want {
			t.Errorf("event %d: got body %s, want %s", i, got, want)
		}
	}
	if got := a.events()[1].Header; got.Get("ce-type") != cloudevents.Joined || got.Get("ce-userId") != "ana" {
		t.Errorf("got %v, want a presence event of ana", got)
	}

	failed := u.Open(chat, "failed")
	failed.setAccepted(nil)
	failed.GroupJoined("room1")
	failed.GroupLeft("room1")
	failed.Closed("the handshake failed")
	failed.Established("ana", "", "room2")
	drain(t, u)
	if got, want := names(a.events()[6:]), "disconnected/1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConnectIsNotInterruptedOnceSent(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-type") == cloudevents.Connect {
			leave() // the client goes away while the handler thinks
			select {
			case <-r.Context().Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s := u.Open(chat, connID)
	if _, err := s.Connect(ctx, handshake(), "ana", noClaims, nil); err != nil {
		t.Fatalf("got %v, want the handler's acceptance to be known", err)
	}
	s.Closed("the client left")
	drain(t, u)
	if got, want := names(a.events()), "connect/0 disconnected/1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// checklist:E04
func TestCookiesStickToAConnection(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("ce-eventName") {
		case "set":
			http.SetCookie(w, &http.Cookie{Name: "pod", Value: "7", Path: "/other", Domain: "127.0.0.1"})
			w.WriteHeader(http.StatusNoContent)
		case "refuse":
			http.SetCookie(w, &http.Cookie{Name: "pod", Value: "8"})
			w.WriteHeader(http.StatusForbidden)
		case "flood":
			for i := range 100 {
				http.SetCookie(w, &http.Cookie{Name: "c" + string(rune('0'+i)), Value: "x"})
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
	s, other := u.Open(chat, connID), u.Open(chat, "other")
	for _, name := range []string{"set", "refuse", "look", "flood", "look"} {
		s.Event(name, webpubsub.Text("")).Put(t.Context()) //nolint:errcheck // one of them is refused
	}
	if _, err := other.Event("look", webpubsub.Text("")).Put(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := a.events()
	for i, want := range []string{"", "pod=7", "pod=7"} {
		if got := events[i].Header.Get("Cookie"); got != want {
			t.Errorf("event %d: got cookies %q, want %q", i, got, want)
		}
	}
	if got := len(events[4].Cookies()); got != maxCookies {
		t.Errorf("after a flood: got %d cookies, want %d", got, maxCookies)
	}
	if got := len(events[5].Cookies()); got != 0 {
		t.Errorf("another connection: got %d cookies, want none", got)
	}
}

func TestGarbageAndHugeAnswersAreFailures(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"garbage": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.WriteString(conn, "SSH-2.0-"+strings.Repeat("x", 3000)+"\r\n\r\n")
				conn.Close()
			}
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "x")
		},
		"endless headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, answer)
			u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
			err := attempt(t, u.Open(chat, connID), 20*time.Second)
			if err == nil || err.Reason != ReasonNetwork {
				t.Fatalf("got %v, want reason %s", err, ReasonNetwork)
			}
			if got := len(err.Error()); got > 300 {
				t.Errorf("got an error of %d bytes, want it short", got)
			}
		})
	}
}

// checklist:E09
func TestASlowHandlerTimesOut(t *testing.T) {
	came, gone := make(chan struct{}, 100), make(chan struct{}, 100)
	a := newApp(t, func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	h := handlerOf(a.URL)
	h.SkipValidation = true
	u, _ := newUpstream(t, Config{EventTimeout: time.Second}, h)
	for len(came) == 0 { // once, unless the machine is so busy that the request does not arrive in time
		_, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context())
		if f := new(Failure); !errors.As(err, &f) || f.Reason != ReasonTimeout {
			t.Fatalf("got %v, want reason %s", err, ReasonTimeout)
		}
	}
	<-gone // the request was given up, too
}

func TestCallsPerHostAreBounded(t *testing.T) {
	var release chan struct{} // made in the fake time's bubble
	scripted(t, Config{InFlight: 2}, false, func(int, *http.Request) (int, error) { <-release; return 204, nil }, func(t *testing.T, u *Upstream, s *script) {
		release = make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // both are with the handler
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(ctx)
		if f := new(Failure); !errors.As(err, &f) || f.Reason != ReasonBusy {
			t.Errorf("got %v, want reason %s", err, ReasonBusy)
		}
		close(release)
		wg.Wait()
		wantSeen(t, s, "0 e/1", "0 e/1")
	})
}

func TestHandlersOverHTTP2(t *testing.T) {
	var proto string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		w.Header().Set("WebHook-Allowed-Origin", "localhost")
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	u, _ := newUpstream(t, Config{}, handlerOf(s.URL))
	u.client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	if _, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
		t.Fatal(err)
	}
	if proto != "HTTP/2.0" {
		t.Errorf("got %s, want HTTP/2.0", proto)
	}
}

// checklist:E04
func TestTenantsSignWithTheirOwnKeys(t *testing.T) {
	a := newApp(t, nil)
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "a", Hosts: []string{"a.example"}, Keys: tenant.Keys{Primary: key}, Hubs: []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{handlerOf(a.URL)}}}},
		tenant.Tenant{Name: "b", Hosts: []string{"b.example"}, Keys: tenant.Keys{Primary: otherKey}, Hubs: []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{handlerOf(a.URL)}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	u := New(Config{}, tenants, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for _, name := range []string{"a", "b", "c"} {
		_, err := u.Open(webpubsub.HubKey{Tenant: name, Hub: "chat"}, connID).Event("e", webpubsub.Text("x")).Put(t.Context())
		if (err == nil) != (name != "c") {
			t.Errorf("tenant %s: got %v", name, err)
		}
	}
	events := a.events()
	if len(events) != 2 {
		t.Fatalf("got %d events, want 2", len(events))
	}
	for i, want := range []struct{ key, origin string }{{key, "a.example"}, {otherKey, "b.example"}} {
		if got := events[i].Header.Get("ce-signature"); got != cloudevents.Signature(connID, want.key) {
			t.Errorf("event %d is not signed with its tenant's key only", i)
		}
		if got := events[i].Header.Get("WebHook-Request-Origin"); got != want.origin {
			t.Errorf("event %d: got origin %s, want %s", i, got, want.origin)
		}
	}
	validations := 0
	for _, r := range a.requests {
		if r.Method == http.MethodOptions {
			validations++
		}
	}
	if validations != 2 {
		t.Errorf("got %d validations, want one per tenant", validations)
	}
}

func BenchmarkEvent(b *testing.B) {
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer a.Close()
	u, _ := newUpstream(b, Config{}, handlerOf(a.URL))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := u.Open(chat, connID)
		for pb.Next() {
			if _, err := s.Event("e", webpubsub.Text("x")).Put(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}
