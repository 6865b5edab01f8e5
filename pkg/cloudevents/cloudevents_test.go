package cloudevents

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const (
	key      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	otherKey = "another-key-another-key-another-key!"
)

func aUserEvent() Event {
	return Event{
		Type: UserPrefix + "foo", Name: "foo", Hub: "chat", ConnectionID: "c-81f2", ID: 7,
		Time: time.Date(2026, 1, 31, 10, 5, 7, 0, time.FixedZone("", 3600)), UserID: "ana", Subprotocol: "json.webpubsub.azure.v1",
		State: "eyJuIjoxfQ==", Origin: "wps.example.com", ContentType: TypeJSON, Body: []byte(`{"a":1}`),
		Metadata: webpubsub.Metadata{{Key: "empty", Value: ""}, {Key: "trace.id", Value: "a b"}},
	}
}

// checklist:E04
func TestSignatureVector(t *testing.T) {
	const want = "sha256=1789e4f5fea8543afc7f6ae0dd94246df912fa24d621e11f0740864a076ec108"
	if got := Signature("c-81f2", key); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	two := Signature("c-81f2", key, otherKey)
	if !strings.HasPrefix(two, want+",sha256=") || strings.Contains(two, " ") || len(two) != 2*len(want)+1 {
		t.Errorf("got %s, want two entries without a space", two)
	}
}

// checklist:E04
func TestRequestHeaders(t *testing.T) {
	r, err := NewRequest(t.Context(), "http://x/eventhandler/foo", aUserEvent(), key)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Content-Type": "application/json", "WebHook-Request-Origin": "wps.example.com",
		"ce-specversion": "1.0", "ce-awpsversion": "1.0", "ce-type": "azure.webpubsub.user.foo",
		"ce-source": "/hubs/chat/client/c-81f2", "ce-id": "7", "ce-time": "2026-01-31T09:05:07Z",
		"ce-signature":    "sha256=1789e4f5fea8543afc7f6ae0dd94246df912fa24d621e11f0740864a076ec108",
		"ce-connectionId": "c-81f2", "ce-hub": "chat", "ce-eventName": "foo", "ce-userId": "ana",
		"ce-subprotocol": "json.webpubsub.azure.v1", "ce-connectionState": "eyJuIjoxfQ==",
		"x-webpubsub-metadata-empty": "", "x-webpubsub-metadata-trace.id": "a b",
	}
	for name, value := range want {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	if len(r.Header) != len(want) || r.Method != http.MethodPost || r.ContentLength != 7 {
		t.Errorf("got %s with %d headers and %d bytes, want POST with %d and 7", r.Method, len(r.Header), r.ContentLength, len(want))
	}
}

// aQuestion is the event that asks about a message.
func aQuestion() Event {
	e := aUserEvent()
	e.Type, e.Name, e.Group, e.AckID, e.NoEcho = BeforePublish, BeforePublishName, "Raum é%41", "18446744073709551615", true
	return e
}

// TestQuestionsArriveWhole has the form of the event that asks about a message, at both ends.
func TestQuestionsArriveWhole(t *testing.T) {
	for _, want := range []Event{aQuestion(), func() Event {
		e := aQuestion()
		e.Group, e.AckID, e.NoEcho, e.UserID = "room", "", false, ""
		return e
	}()} {
		var got Event
		s := newServer(t, &Receiver{}, func(_ context.Context, e Event) Response {
			got = e
			return Response{Status: http.StatusAccepted}
		})
		r, err := NewRequest(t.Context(), s.URL, want, key)
		if err != nil {
			t.Fatal(err)
		}
		if resp, body := send(t, r); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("got %d %s", resp.StatusCode, body)
		}
		want.Time = got.Time
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if !got.IsSystem() {
			t.Error("got an event of a client, want one of the platform")
		}
	}
	r, err := NewRequest(t.Context(), "http://x/", aQuestion(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ce-type": "chatr.sys.beforePublish", "ce-eventName": "beforePublish", "ce-group": "Raum %C3%A9%2541",
		"ce-ackId": "18446744073709551615", "ce-noEcho": "true"} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestQuestionsThatAreRefused lack something, or have it twice.
func TestQuestionsThatAreRefused(t *testing.T) {
	s := newServer(t, &Receiver{}, func(context.Context, Event) Response { return Response{} })
	for name, change := range map[string]func(h http.Header){
		"no group":          func(h http.Header) { h.Del("ce-group") },
		"two groups":        func(h http.Header) { h.Add("ce-group", "other") },
		"another name":      func(h http.Header) { h.Set("ce-eventName", "beforepublish") },
		"ackId, no number":  func(h http.Header) { h.Set("ce-ackId", "-1") },
		"ackId twice":       func(h http.Header) { h.Add("ce-ackId", "1") },
		"noEcho twice":      func(h http.Header) { h.Add("ce-noEcho", "true") },
		"Azure's namespace": func(h http.Header) { h.Set("ce-type", SystemPrefix+BeforePublishName) },
		"letter case":       func(h http.Header) { h.Set("ce-type", "chatr.sys.beforepublish") },
	} {
		r, err := NewRequest(t.Context(), s.URL, aQuestion(), key)
		if err != nil {
			t.Fatal(err)
		}
		change(r.Header)
		if resp, body := send(t, r); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d %s, want 400", name, resp.StatusCode, body)
		}
	}
}

func TestEmptyAttributesAreLeftOut(t *testing.T) {
	r, err := NewRequest(t.Context(), "http://x/", Event{Type: Connect, Name: "connect", Hub: "chat", ConnectionID: "c"}, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ce-userId", "ce-subprotocol", "ce-connectionState", "ce-group", "ce-ackId", "ce-noEcho"} {
		if _, there := r.Header[http.CanonicalHeaderKey(name)]; there {
			t.Errorf("%s is there, want it left out", name)
		}
	}
}

func newServer(t *testing.T, rc *Receiver, h func(context.Context, Event) Response) *httptest.Server {
	t.Helper()
	if rc.Keys == nil {
		rc.Keys = func() []string { return []string{otherKey, key} }
	}
	if rc.Hub == "" {
		rc.Hub = "Chat"
	}
	if rc.Origins == nil {
		rc.Origins = []string{"WPS.example.com"}
	}
	s := httptest.NewServer(rc.Handler(h))
	t.Cleanup(s.Close)
	return s
}

func send(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestEventsArriveAsSent(t *testing.T) {
	events := []Event{
		aUserEvent(),
		{Type: Connect, Name: "connect", Hub: "chat", ConnectionID: "c", ContentType: TypeSystem, Body: []byte("{}")},
		{Type: UserPrefix + "connect", Name: "connect", Hub: "chat", ConnectionID: "c", ID: 1 << 63, ContentType: TypeText, Body: []byte("Grüße")},
		{Type: Joined, Name: "joined", Hub: "chat", ConnectionID: "c", ID: 2, ContentType: TypeSystem, Body: []byte(`{"group":"g"}`)},
		{Type: Disconnected, Name: "disconnected", Hub: "chat", ConnectionID: "c", ID: 3, ContentType: TypeSystem, Body: []byte(`{"reason":""}`)},
	}
	for _, user := range []string{"ana b", " ana", "ana ", "Zoë", "100%", "%C3%AB", "%", "%%41", "%4\xc3\xab", "a\r\nb", "名前", `"q",\`} {
		e := aUserEvent()
		e.UserID = user
		events = append(events, e)
	}
	var got Event
	s := newServer(t, &Receiver{}, func(_ context.Context, e Event) Response { got = e; return Response{} })
	for _, want := range events {
		want.Origin = "wps.example.com"
		want.Time = want.Time.UTC()
		r, err := NewRequest(t.Context(), s.URL, want, key)
		if err != nil {
			t.Fatal(err)
		}
		resp, text := send(t, r)
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("user %q: got %d %s, want 204", want.UserID, resp.StatusCode, text)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got.IsSystem() == strings.HasPrefix(want.Type, "azure.webpubsub.user.") {
			t.Errorf("%s: got IsSystem %v", want.Type, got.IsSystem())
		}
	}
}

func TestReceiverRefuses(t *testing.T) {
	s := newServer(t, &Receiver{MaxBody: 10}, func(context.Context, Event) Response {
		t.Error("a refused request reached the handler")
		return Response{}
	})
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	del := func(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }
	twice := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, r.Header.Get(name)) }
	}
	for name, tc := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"no signature":              {del("ce-signature"), 401},
		"signature of another key":  {set("ce-signature", Signature("c-81f2", "no-such-key-no-such-key-no-such-key")), 401},
		"signature of an empty key": {set("ce-signature", Signature("c-81f2", "")), 401},
		"signature of another id":   {set("ce-signature", Signature("c-81f3", key)), 401},
		"another id":                {set("ce-connectionId", "c-81f3"), 401},
		"id twice":                  {twice("ce-connectionId"), 400},
		"no id":                     {del("ce-connectionId"), 400},
		"another origin":            {set("WebHook-Request-Origin", "evil.example"), 401},
		"no origin":                 {del("WebHook-Request-Origin"), 400},
		"another hub":               {set("ce-hub", "other"), 400},
		"no hub":                    {del("ce-hub"), 400},
		"no type":                   {del("ce-type"), 400},
		"type twice":                {twice("ce-type"), 400},
		"type and name disagree":    {set("ce-type", Disconnected), 400},
		"unknown system event":      {func(r *http.Request) { r.Header.Set("ce-type", SystemPrefix+"foo") }, 400},
		"foreign type":              {set("ce-type", "foo"), 400},
		"no name":                   {del("ce-eventName"), 400},
		"bad ce-id":                 {set("ce-id", "-1"), 400},
		"bad time":                  {set("ce-time", "yesterday"), 400},
		"no content type":           {del("Content-Type"), 400},
		"user twice":                {twice("ce-userId"), 400},
		"state twice":               {twice("ce-connectionState"), 400},
		"metadata not ASCII":        {set("x-webpubsub-metadata-a", "é"), 400},
		"GET":                       {func(r *http.Request) { r.Method = "GET"; r.Body = nil; r.ContentLength = 0 }, 405},
		"PUT":                       {func(r *http.Request) { r.Method = "PUT" }, 405},
		"body too large":            {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("01234567890")); r.ContentLength = 11 }, 413},
		"streamed body too large":   {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("01234567890")); r.ContentLength = -1 }, 413},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewRequest(t.Context(), s.URL, aUserEvent(), key)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(r)
			resp, body := send(t, r)
			if resp.StatusCode != tc.want {
				t.Errorf("got %d %s, want %d", resp.StatusCode, body, tc.want)
			}
			if got := resp.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" || len(body) > 200 {
				t.Errorf("got %s %q, want a short text", got, body)
			}
		})
	}
}

func TestReceiverWithoutKeysOrOriginsTrustsNobody(t *testing.T) {
	for name, rc := range map[string]*Receiver{
		"no keys":    {Keys: func() []string { return nil }},
		"empty keys": {Keys: func() []string { return []string{""} }},
		"no origins": {Origins: []string{}},
	} {
		s := newServer(t, rc, func(context.Context, Event) Response { return Response{} })
		for _, k := range []string{key, ""} {
			r, err := NewRequest(t.Context(), s.URL, aUserEvent(), k)
			if err != nil {
				t.Fatal(err)
			}
			if resp, _ := send(t, r); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: got %d, want 401", name, resp.StatusCode)
			}
		}
	}
}

func TestReceiverAnswers(t *testing.T) {
	state, none := "abc", ""
	for _, tc := range []struct {
		answer     Response
		wantStatus int
		wantState  []string
	}{
		{Response{}, 204, nil},
		{Response{ContentType: TypeJSON, Body: []byte("{}")}, 200, nil},
		{Response{Status: 403, ContentType: TypeText, Body: []byte("no")}, 403, nil},
		{Response{State: &state}, 204, []string{"abc"}},
		{Response{State: &none}, 204, []string{""}},
	} {
		s := newServer(t, &Receiver{}, func(context.Context, Event) Response { return tc.answer })
		r, err := NewRequest(t.Context(), s.URL, aUserEvent(), key)
		if err != nil {
			t.Fatal(err)
		}
		resp, body := send(t, r)
		if resp.StatusCode != tc.wantStatus || body != string(tc.answer.Body) {
			t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, tc.wantStatus, tc.answer.Body)
		}
		if got := resp.Header.Values("ce-connectionState"); !reflect.DeepEqual(got, tc.wantState) {
			t.Errorf("state: got %q, want %q", got, tc.wantState)
		}
		if len(tc.answer.Body) > 0 && resp.Header.Get("Content-Type") != tc.answer.ContentType {
			t.Errorf("got %s, want %s", resp.Header.Get("Content-Type"), tc.answer.ContentType)
		}
	}
}

func TestValidation(t *testing.T) {
	for _, tc := range []struct {
		name    string
		origins []string
		change  func(*http.Request)
		want    int
	}{
		{"allowed", []string{"a", "wps.example.com"}, nil, 200},
		{"letter case", []string{"WPS.EXAMPLE.COM"}, nil, 200},
		{"any", []string{"*"}, nil, 200},
		{"another origin", []string{"a"}, nil, 403},
		{"nobody", []string{}, nil, 403},
		{"no origin", nil, func(r *http.Request) { r.Header.Del("WebHook-Request-Origin") }, 400},
		{"two origins", nil, func(r *http.Request) { r.Header.Add("WebHook-Request-Origin", "x") }, 400},
		{"no hub", nil, func(r *http.Request) { r.Header.Del("ce-hub") }, 200},
		{"another hub", nil, func(r *http.Request) { r.Header.Set("ce-hub", "other") }, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, &Receiver{Origins: tc.origins}, nil)
			r, err := NewValidation(t.Context(), http.MethodOptions, s.URL, "chat", "wps.example.com")
			if err != nil {
				t.Fatal(err)
			}
			if tc.change != nil {
				tc.change(r)
			}
			resp, body := send(t, r)
			if resp.StatusCode != tc.want {
				t.Errorf("got %d %s, want %d", resp.StatusCode, body, tc.want)
			}
			if got, want := Allows(resp.Header, "wps.example.com"), tc.want == 200; got != want {
				t.Errorf("allowed: got %v, want %v", got, want)
			}
		})
	}
}

// checklist:E03
func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		lines []string
		want  bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"*"}, true}, {[]string{"a.example"}, true}, {[]string{"A.Example"}, true},
		{[]string{"a.example:8080"}, true}, {[]string{"b, a.example"}, true}, {[]string{"b", "a.example:1"}, true},
		{[]string{"b.example"}, false}, {[]string{"a.example.evil"}, false}, {[]string{":8080"}, false},
	} {
		if got := Allows(http.Header{"Webhook-Allowed-Origin": tc.lines}, "a.example"); got != tc.want {
			t.Errorf("%q: got %v, want %v", tc.lines, got, tc.want)
		}
	}
}

// checklist:E05
func TestConnectRequestHasEveryMember(t *testing.T) {
	for _, tc := range []struct {
		in   ConnectRequest
		want string
	}{
		{ConnectRequest{}, `{"claims":{},"query":{},"headers":{},"subprotocols":[],"clientCertificates":[]}`},
		{
			ConnectRequest{
				Claims: map[string][]string{"sub": {"ana"}, "x": nil}, Query: map[string][]string{"lang": {"en", "de"}},
				Headers: map[string][]string{"Host": {"h"}}, Subprotocols: []string{"p"}, ClientCertificates: []Certificate{{"3F", "PEM"}},
			},
			`{"claims":{"sub":["ana"],"x":[]},"query":{"lang":["en","de"]},"headers":{"Host":["h"]},"subprotocols":["p"],` +
				`"clientCertificates":[{"thumbprint":"3F","content":"PEM"}]}`,
		},
	} {
		got, err := json.Marshal(tc.in)
		if err != nil || string(got) != tc.want {
			t.Errorf("got %s %v, want %s", got, err, tc.want)
		}
	}
}

// checklist:E05
func TestConnectResponse(t *testing.T) {
	ana, empty := "ana", ""
	for in, want := range map[string]ConnectResponse{
		`{}`:   {},
		`null`: {},
		`{"userId":null,"groups":null,"roles":null,"subprotocol":null,"other":{"x":1}}`: {},
		`{"UserID":"ana","Groups":["g"],"ROLES":["r"],"subProtocol":"p"}`:               {&ana, []string{"g"}, []string{"r"}, "p"},
		`{"userId":"","roles":[],"groups":[]}`:                                          {&empty, []string{}, []string{}, ""},
	} {
		var got ConnectResponse
		if err := json.Unmarshal([]byte(in), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v %v, want %+v", in, got, err, want)
		}
	}
	for _, tc := range []struct {
		in   ConnectResponse
		want string
	}{
		{ConnectResponse{}, `{}`},
		{ConnectResponse{UserID: &empty, Roles: []string{}}, `{"userId":"","roles":[]}`},
		{ConnectResponse{&ana, []string{"g"}, []string{"r"}, "p"}, `{"userId":"ana","groups":["g"],"roles":["r"],"subprotocol":"p"}`},
	} {
		if got, err := json.Marshal(tc.in); err != nil || string(got) != tc.want {
			t.Errorf("got %s %v, want %s", got, err, tc.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"ana b", " x ", "%41", "%%41", "é", "100%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sent := Escape(s)
		if got := unescape(sent); got != s {
			t.Errorf("got %q, want %q", got, s)
		}
		if strings.TrimSpace(sent) != sent {
			t.Errorf("%q does not survive as a header value", sent)
		}
	})
}

func FuzzReceiver(f *testing.F) {
	f.Add("azure.webpubsub.user.foo", "foo", "0", "2026-01-31T09:05:07Z", []byte("x"))
	f.Fuzz(func(t *testing.T, typ, name, id, when string, body []byte) {
		rc := &Receiver{Keys: func() []string { return []string{key} }, Hub: "chat", Origins: []string{"*"}}
		h := rc.Handler(func(_ context.Context, e Event) Response {
			if e.Type != SystemPrefix+e.Name && e.Type != UserPrefix+e.Name && e.Type != BeforePublish {
				t.Errorf("let through type %q with name %q", e.Type, e.Name)
			}
			return Response{}
		})
		r := httptest.NewRequest("POST", "/", strings.NewReader(string(body)))
		r.Header = http.Header{
			"Ce-Type": {typ}, "Ce-Eventname": {name}, "Ce-Id": {id}, "Ce-Time": {when}, "Ce-Hub": {"chat"}, "Ce-Connectionid": {"c"},
			"Ce-Signature": {Signature("c", key)}, "Webhook-Request-Origin": {"o"}, "Content-Type": {TypeText},
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	})
}
