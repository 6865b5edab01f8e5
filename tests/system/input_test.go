package system_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// marker is part of all bad input. It must reach neither the log nor anybody else.
const marker = "Geheimnis-4711"

// otherKey is no key of ours.
const otherKey = "another access key for tests, " + marker

// lab is a standalone that gets bad input, and a client that must not notice.
type lab struct {
	logged  int // bytes of the gateway's log when it was ready
	t       *testing.T
	top     *topology.Topology
	witness *people.Page // in group "g" of hub "lab"
	tokens  []string
	cases   int // how many log lines there may be
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, top: topology.Standalone(t, topology.Options{Env: []string{"CHATR_LOG_LEVEL=debug", "CHATR_LOG_FORMAT=json"}, Hubs: `
      - name: quick
        keepAliveSeconds: 1
`})}
	var err error
	if l.witness, err = people.Dial(t, clientURL(t, l.top.A, "lab", token.Options{Subject: "witness", Groups: []string{"g"}}), people.Plain); err != nil {
		t.Fatal(err)
	}
	l.logged = len(l.top.Gateways[0].Log()) // before that its own services may have asked it too early
	return l
}

// check looks whether anybody but the sender has noticed anything, and what is in the log.
func (l *lab) check() {
	l.t.Helper()
	if err := l.witness.Conn.Ping(l.t.Context()); err != nil {
		l.t.Errorf("another client's connection: %v", err)
	}
	if told := l.witness.All(func(people.Event) bool { return true }); told != nil {
		l.t.Errorf("another client was told: %+v", told)
	}
	log := l.top.Gateways[0].Log()
	secrets := append([]string{marker, topology.AccessKey, base64.StdEncoding.EncodeToString([]byte(marker))}, l.tokens...)
	for _, secret := range secrets {
		if at := strings.Index(log, secret); at >= 0 {
			l.t.Errorf("the log has %.40q: …%.300s", secret, log[max(0, at-200):])
		}
	}
	var lines []string
	for line := range strings.Lines(log[l.logged:]) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			l.t.Errorf("a line of the log is not JSON: %s", line)
		}
		if entry.Level != "DEBUG" {
			lines = append(lines, line)
		}
	}
	if len(lines) > l.cases {
		l.t.Errorf("the log has %d lines for %d faults, want at most one each: %s", len(lines), l.cases, strings.Join(lines, ""))
	}
}

// sign makes a token that must not be logged.
func (l *lab) sign(key, audience string, ttl time.Duration, o token.Options) string {
	l.t.Helper()
	signed, err := token.Sign(key, audience, ttl, o)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.secret(signed)
}

// secret notes a token. Its signature is what makes it one.
func (l *lab) secret(signed string) string {
	if at := strings.LastIndex(signed, "."); len(signed)-at > 20 {
		l.tokens = append(l.tokens, signed[at+1:])
	}
	return signed
}

// claims makes a token with any claims and algorithm.
func (l *lab) claims(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	l.t.Helper()
	signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.secret(signed)
}

// TestBadFrames sends clients' worst. A fault of the protocol ends the sender's connection with its code; what is only
// not allowed is nacked.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	address := clientURL(t, l.top.A, "lab", token.Options{Subject: "eve"})
	text := fmt.Sprintf("%q", marker)
	for _, c := range []struct {
		name   string
		frame  string
		binary bool
		code   int    // of the close
		nack   string // error.name of the ack to ackId 7
	}{
		{name: "no JSON", frame: marker, code: 1007},
		{name: "nothing", frame: "", code: 1007},
		{name: "half of it", frame: `{"type":"event","event":"` + marker, code: 1007},
		{name: "more than one", frame: `{"type":"ping"}{"type":` + text + `}`, code: 1007},
		{name: "an array", frame: `[` + text + `]`, code: 1007},
		{name: "no type", frame: `{"data":` + text + `}`, code: 1007},
		{name: "a type that is no text", frame: `{"type":1,"data":` + text + `}`, code: 1007},
		{name: "an unknown type", frame: `{"type":` + text + `}`, code: 1007},
		{name: "a group that is no text", frame: `{"type":"joinGroup","group":{"a":` + text + `},"ackId":7}`, code: 1007},
		{name: "no group", frame: `{"type":"sendToGroup","data":` + text + `}`, code: 1007},
		{name: "a group of spaces", frame: `{"type":"joinGroup","group":"   "}`, code: 1007},
		{name: "a long group", frame: `{"type":"joinGroup","group":"` + strings.Repeat(marker, 100) + `"}`, code: 1007},
		{name: "a negative ackId", frame: `{"type":"joinGroup","group":` + text + `,"ackId":-1}`, code: 1007},
		{name: "a fractional ackId", frame: `{"type":"joinGroup","group":` + text + `,"ackId":1.5}`, code: 1007},
		{name: "an ackId in quotes", frame: `{"type":"joinGroup","group":` + text + `,"ackId":"7"}`, code: 1007},
		{name: "an ackId beyond 64 bits", frame: `{"type":"joinGroup","group":` + text + `,"ackId":18446744073709551616}`, code: 1007},
		{name: "data of null", frame: `{"type":"event","event":"x","data":null}`, code: 1007},
		{name: "an unknown dataType", frame: `{"type":"event","event":"x","dataType":` + text + `,"data":1}`, code: 1007},
		{name: "text that is no text", frame: `{"type":"event","event":"x","dataType":"text","data":{"a":` + text + `}}`, code: 1007},
		{name: "binary that is no base64", frame: `{"type":"event","event":"x","dataType":"binary","data":"` + marker + `!"}`, code: 1007},
		{name: "an event name with spaces", frame: `{"type":"event","event":"a ` + marker + `","data":1}`, code: 1007},
		{name: "a long event name", frame: `{"type":"event","event":"` + strings.Repeat("x", 129) + `","data":1}`, code: 1007},
		{name: "a time to live of an hour", frame: `{"type":"sendToGroup","group":"g","ttlSeconds":3600,"data":` + text + `}`, code: 1007},
		{name: "no UTF-8", frame: "{\"type\":\"event\",\"event\":\"x\",\"data\":\"\xff" + marker + "\"}", code: 1007},
		{name: "half a surrogate pair", frame: `{"type":"joinGroup","group":"\ud800` + marker + `","ackId":7}`, code: 1007},
		{name: "a million brackets", frame: strings.Repeat("[", 1_000_000), code: 1007},
		{name: "deep data", frame: `{"type":"event","event":"x","data":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, code: 1007},
		{name: "2 MB", frame: `{"type":"event","event":"x","data":"` + strings.Repeat(marker, 150_000) + `"}`, code: 1009},
		{name: "binary", frame: "\x00\x01" + marker, binary: true, code: 1007},
		{name: "a group that is not granted", frame: `{"type":"joinGroup","group":"g","ackId":7}`, nack: "Forbidden"},
		{name: "leaving another's group", frame: `{"type":"leaveGroup","group":"g","ackId":7}`, nack: "Forbidden"},
		{name: "sending where it is not granted", frame: `{"type":"sendToGroup","group":"g","ackId":7,"data":` + text + `}`, nack: "Forbidden"},
		{name: "an event that nobody handles", frame: `{"type":"event","event":"x","ackId":7,"data":` + text + `}`, nack: "InternalServerError"},
	} {
		l.cases++
		if got, want := l.answer(address, c.binary, c.frame), (answer{c.code, c.nack}); got != want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
	for name, c := range map[string]struct {
		query string
		code  int
	}{
		"a simple client without a handler":     {"", 1011},
		"a simple client without the right":     {"&webpubsub_mode=sendToGroup&group=g", 1008},
		"a recovery of nothing":                 {"&awps_connection_id=" + marker + "&awps_reconnection_token=" + marker, 1008},
		"a recovery of another's, with a guess": {"&awps_connection_id=" + l.witness.Conn.Info().ConnectionID + "&awps_reconnection_token=" + marker, 1008},
	} {
		l.cases++
		if got := closeOf(t, address+c.query, marker); got != c.code {
			t.Errorf("%s: got code %d, want %d", name, got, c.code)
		}
	}
	l.check()
}

// answer is what comes of a frame.
type answer struct {
	code int
	nack string
}

// answer sends a frame on a connection of its own.
func (l *lab) answer(address string, binary bool, frame string) answer {
	l.t.Helper()
	nack := make(chan string, 1)
	conn := rawClient(l.t, address, people.Plain, func(b []byte) {
		var v struct {
			Type  string
			AckID int
			Error struct{ Name string }
		}
		if json.Unmarshal(b, &v) == nil && v.Type == "ack" && v.AckID == 7 {
			nack <- v.Error.Name
		}
	})
	_ = conn.send(opcode(binary), []byte(frame)) // it may be refused before it has been sent whole
	select {
	case name := <-nack:
		if conn.isClosed() {
			l.t.Errorf("after a nack the connection has ended")
		}
		return answer{nack: name}
	case code := <-conn.closed:
		return answer{code: code}
	case <-time.After(people.Patience):
		return answer{}
	}
}

// closeOf connects as a simple client, sends a text and returns the code of the close.
func closeOf(t *testing.T, address, text string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), people.Patience)
	defer cancel()
	conn, err := wsclient.Dial(ctx, address, wsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Drop()
	_ = conn.SendFrame(ctx, false, []byte(text)) // a recovery is refused without it
	closed, err := conn.Wait(ctx)
	if err != nil {
		t.Errorf("simple client: %v", err)
		return 0
	}
	return closed.Code
}

// TestBrokenWebSockets breaks the rules below the messages (RFC 6455), or stops in the middle.
func TestBrokenWebSockets(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	address := clientURL(t, l.top.A, "lab", token.Options{Subject: "eve"})
	masked := func(first byte, payload string) []byte { return frame(first, []byte(payload)) }
	for name, c := range map[string]struct {
		bytes []byte
		code  int
	}{
		"no mask":                {append([]byte{0x81, byte(len(marker))}, marker...), 1002},
		"a reserved bit":         {masked(0xc1, marker), 1002},
		"an unknown opcode":      {masked(0x83, marker), 1002},
		"a continuation of none": {masked(0x80, marker), 1002},
		"a ping in pieces":       {masked(0x09, marker), 1002},
		"a ping of 126 bytes":    {masked(0x89, strings.Repeat("x", 126)), 1002},
		"a close of one byte":    {masked(0x88, "x"), 1002},
		"a close with code 1":    {masked(0x88, "\x00\x01"), 1002},
		"a message in a message": {append(masked(0x01, marker), masked(0x81, marker)...), 1002},
		"an endless length":      {[]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1009},
		"a length with its sign": {[]byte{0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1002},
		"text that is no UTF-8":  {masked(0x81, "\xc0\xaf"+marker), 1007},
		"2 MB in pieces":         {pieces(1000, 2000), 1009},
	} {
		l.cases++
		conn := rawClient(t, address, people.Plain, nil)
		_, _ = conn.Write(c.bytes) // it may be refused before it has been sent whole
		select {
		case code := <-conn.closed:
			if code != c.code {
				t.Errorf("%s: got code %d, want %d", name, code, c.code)
			}
		case <-time.After(people.Patience):
			t.Errorf("%s: the connection goes on, want code %d", name, c.code)
		}
	}
	l.cases++
	half := rawClient(t, clientURL(t, l.top.A, "quick", token.Options{}), people.Plain, nil)
	_, _ = half.Write(masked(0x81, strings.Repeat(marker, 100))[:200])
	select {
	case <-half.closed:
	case <-time.After(people.Patience):
		t.Error("half a frame and then nothing: the connection goes on, want that it is cut off")
	}
	l.check()
}

// TestBadHandshakes tries to get in where one may not.
func TestBadHandshakes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.top.A
	audience := at + "/client/hubs/lab"
	good := l.sign(topology.AccessKey, audience, time.Hour, token.Options{})
	hour := time.Now().Add(time.Hour).Unix()
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	for name, c := range map[string]struct {
		path   string
		token  string
		header http.Header // in place of a good one
		status int
	}{
		"no token":               {path: "/client/hubs/lab", status: 401},
		"a token that is none":   {path: "/client/hubs/lab", token: marker, status: 401},
		"a token of dots":        {path: "/client/hubs/lab", token: "..", status: 401},
		"an expired token":       {path: "/client/hubs/lab", token: l.sign(topology.AccessKey, audience, -6*time.Minute, token.Options{}), status: 401},
		"a token of tomorrow":    {path: "/client/hubs/lab", token: l.claims(jwt.SigningMethodHS256, []byte(topology.AccessKey), jwt.MapClaims{"aud": audience, "exp": hour, "nbf": hour}), status: 401},
		"a token for ever":       {path: "/client/hubs/lab", token: l.claims(jwt.SigningMethodHS256, []byte(topology.AccessKey), jwt.MapClaims{"aud": audience}), status: 401},
		"algorithm none":         {path: "/client/hubs/lab", token: l.claims(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"aud": audience, "exp": hour}), status: 401},
		"algorithm HS512":        {path: "/client/hubs/lab", token: l.claims(jwt.SigningMethodHS512, []byte(topology.AccessKey), jwt.MapClaims{"aud": audience, "exp": hour}), status: 401},
		"another's key":          {path: "/client/hubs/lab", token: l.sign(otherKey, audience, time.Hour, token.Options{}), status: 401},
		"another hub's token":    {path: "/client/hubs/lab", token: l.sign(topology.AccessKey, at+"/client/hubs/lab2", time.Hour, token.Options{}), status: 401},
		"a REST token":           {path: "/client/hubs/lab", token: l.sign(topology.AccessKey, at+"/api/hubs/lab/:send?api-version=2024-12-01", time.Hour, token.Options{}), status: 401},
		"a token without hub":    {path: "/client/hubs/lab", token: l.sign(topology.AccessKey, at+"/client/hubs/", time.Hour, token.Options{}), status: 401},
		"a group of spaces":      {path: "/client/hubs/lab", token: l.sign(topology.AccessKey, audience, time.Hour, token.Options{Groups: []string{"  "}}), status: 400},
		"a hub with a digit":     {path: "/client/hubs/1" + marker, token: good, status: 400},
		"a hub with a slash":     {path: "/client/hubs/lab%2F" + marker, token: good, status: 400},
		"a hub with dots":        {path: "/client/hubs/..%2f..%2fapi", token: good, status: 400},
		"a hub with a space":     {path: "/client/hubs/lab%20" + marker, token: good, status: 400},
		"a hub with a zero":      {path: "/client/hubs/lab%00", token: good, status: 400},
		"a hub of 129":           {path: "/client/hubs/" + strings.Repeat("x", 129), token: good, status: 400},
		"no hub":                 {path: "/client/hubs/", token: good, status: 400},
		"a hub in a query":       {path: "/client/?hub=%27%3B" + marker, token: good, status: 400},
		"a broken query":         {path: "/client/hubs/lab?x=%zz", status: 401},
		"an unknown mode":        {path: "/client/hubs/lab?webpubsub_mode=" + marker, token: good, status: 400},
		"no upgrade":             {path: "/client/hubs/lab", token: good, header: http.Header{}, status: 400},
		"an old WebSocket":       {path: "/client/hubs/lab", token: good, header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"8"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}, status: 426},
		"a 40 kB token":          {path: "/client/hubs/lab", token: strings.Repeat(marker, 3000), status: 401},
		"a megabyte of a header": {path: "/client/hubs/lab", token: strings.Repeat(marker, 80_000), status: 431},
		"MQTT":                   {path: "/clients/mqtt/hubs/lab", token: good, status: 404},
		"chat as nobody":         {path: "/client/hubs/chat", token: l.sign(topology.AccessKey, at+"/client/hubs/chat", time.Hour, token.Options{}), status: 401},
	} {
		l.cases++
		r, err := http.NewRequest("GET", at+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Header = header.Clone(); c.header != nil {
			r.Header = c.header
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || len(body) == 0 {
			t.Errorf("%s: got %d %q, want %d and a reason", name, res.StatusCode, body, c.status)
		}
	}
	l.check()
}

// TestBadRequests sends wrong requests to the REST API and to the API service.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.top.A
	ada, eve := people.Come(t, at, "Ada", people.Plain), people.Come(t, at, "Eve", people.Plain)
	ada.Do("createPrivateChat", people.Object{"targetUserId": eve.ID})
	frank := people.SignIn(t, at, "Frank")
	var private struct{ ID string }
	if err := json.Unmarshal([]byte(ada.Await("the private chat", people.Named("joinPrivateChat")).Data), &private); err != nil {
		t.Fatal(err)
	}
	lab := "/api/hubs/lab/"
	big := strings.Repeat(marker, 150_000)
	const text, asJSON = "text/plain", "application/json"
	for name, c := range map[string]struct {
		method, path, kind, body string
		token                    string // empty: the right one; "-": none
		cookie, origin           string
		status                   int
	}{
		"no token":               {method: "POST", path: lab + ":send", kind: text, body: marker, token: "-", status: 401},
		"a client's token":       {method: "POST", path: lab + ":send", kind: text, body: marker, token: l.sign(topology.AccessKey, at+"/client/hubs/lab", time.Hour, token.Options{}), status: 401},
		"another path's token":   {method: "POST", path: lab + ":send", kind: text, body: marker, token: l.sign(topology.AccessKey, at+lab+":closeConnections", time.Hour, token.Options{}), status: 401},
		"an expired token":       {method: "POST", path: lab + ":send", kind: text, body: marker, token: l.sign(topology.AccessKey, at+lab+":send", -6*time.Minute, token.Options{}), status: 401},
		"another's key":          {method: "POST", path: lab + ":send", kind: text, body: marker, token: l.sign(otherKey, at+lab+":send", time.Hour, token.Options{}), status: 401},
		"2 MB":                   {method: "POST", path: lab + ":send", kind: text, body: big, status: 400},
		"an unknown type":        {method: "POST", path: lab + ":send", kind: "image/png", body: marker, status: 415},
		"JSON that is none":      {method: "POST", path: lab + ":send", kind: asJSON, body: `{"a":"` + marker, status: 400},
		"text that is no UTF-8":  {method: "POST", path: lab + ":send", kind: text, body: "\xff" + marker, status: 400},
		"an unknown api-version": {method: "POST", path: lab + ":send?api-version=" + marker, kind: text, body: "x", status: 400},
		"a filter that is none":  {method: "POST", path: lab + ":send?filter=userId%20eq%20" + marker, kind: text, body: "x", status: 400},
		"a time to live":         {method: "POST", path: lab + ":send?messageTtlSeconds=-1", kind: text, body: "x", status: 400},
		"a hub with a digit":     {method: "POST", path: "/api/hubs/1" + marker + "/:send", kind: text, body: "x", status: 400},
		"a hub with a slash":     {method: "POST", path: "/api/hubs/lab%2F" + marker + "/:send", kind: text, body: "x", status: 400},
		"an unknown operation":   {method: "POST", path: lab + ":" + marker, kind: text, body: "x", status: 404},
		"a wrong method":         {method: "PATCH", path: lab + ":send", kind: text, body: "x", status: 405},
		"an unknown permission":  {method: "PUT", path: lab + "permissions/" + marker + "/connections/x", status: 400},
		"a body of no form":      {method: "POST", path: lab + ":addToGroups", kind: asJSON, body: `{"groups":` + `"` + marker + `"}`, status: 400},
		"a group of spaces":      {method: "POST", path: lab + "groups/%20/:send", kind: text, body: marker, status: 400},
		"to nobody":              {method: "PUT", path: lab + "groups/g/connections/" + marker, status: 404},
		"a page of -1":           {method: "GET", path: lab + "groups/g/connections?maxpagesize=-1", status: 400},

		"a name of 2 MB":           {method: "POST", path: "/.auth/login/guest", kind: asJSON, body: `{"name":"` + big + `"}`, status: 413},
		"a name in a text":         {method: "POST", path: "/.auth/login/guest", kind: text, body: marker, status: 415},
		"a name of markup":         {method: "POST", path: "/.auth/login/guest", kind: asJSON, body: `{"name":"<b>` + marker + `"}`, status: 400},
		"a name that is no text":   {method: "POST", path: "/.auth/login/guest", kind: asJSON, body: `{"name":{"a":"` + marker + `"}}`, status: 400},
		"no JSON":                  {method: "POST", path: "/.auth/login/guest", kind: asJSON, body: marker, status: 400},
		"a sign-in elsewhere":      {method: "POST", path: "/.auth/login/guest", kind: asJSON, body: `{"name":"x"}`, origin: "https://evil.example", status: 403},
		"an unknown provider":      {method: "GET", path: "/.auth/login/" + marker, status: 404},
		"no session":               {method: "POST", path: "/api/negotiate", status: 401},
		"a forged session":         {method: "POST", path: "/api/negotiate", cookie: base64.RawURLEncoding.EncodeToString([]byte(`{"t":"default","u":"`+ada.ID+`","e":9999999999}`)) + "." + marker, status: 401},
		"a token of another":       {method: "GET", path: "/api/getToken?userId=" + ada.ID, cookie: cookie(frank), status: 403},
		"a token of a guest":       {method: "GET", path: "/api/getToken?userId=1234", status: 401},
		"others' private chat":     {method: "GET", path: "/api/chats/" + private.ID, cookie: cookie(frank), status: 404},
		"others' private messages": {method: "GET", path: "/api/chats/" + private.ID + "/messages", cookie: cookie(frank), status: 404},
		"a page of chats":          {method: "GET", path: "/api/chats/" + private.ID + "/messages?limit=" + marker, cookie: cookie(ada), status: 400},
		"a path out of the page":   {method: "GET", path: "/..%2f..%2f..%2fetc%2fpasswd", status: 404},
		"nothing there":            {method: "GET", path: "/api/" + marker, status: 404},
	} {
		l.cases++
		r, err := http.NewRequest(c.method, at+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.token == "" && strings.HasPrefix(c.path, "/api/hubs/"):
			r.Header.Set("Authorization", "Bearer "+l.sign(topology.AccessKey, at+c.path, time.Hour, token.Options{}))
		case c.token != "-" && c.token != "":
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		for header, value := range map[string]string{"Content-Type": c.kind, "Origin": c.origin} {
			if value != "" {
				r.Header.Set(header, value)
			}
		}
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: "chatr_session", Value: c.cookie})
			l.secret(c.cookie)
		}
		status, body := l.do(r)
		if status != c.status || len(body) == 0 {
			t.Errorf("%s: got %d %q, want %d and a reason", name, status, body, c.status)
		}
	}
	l.check()
}

// do makes a request. A server that refuses a body may not read it to its end.
func (l *lab) do(r *http.Request) (status int, body []byte) {
	l.t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		l.t.Errorf("%s %.80s: %v", r.Method, r.URL.Path, err)
		return 0, nil
	}
	defer res.Body.Close()
	body, _ = io.ReadAll(res.Body)
	return res.StatusCode, body
}

// cookie is p's session.
func cookie(p *people.Person) string {
	r, _ := http.NewRequest("GET", p.Front, nil)
	for _, c := range p.HTTP.Jar.Cookies(r.URL) {
		if c.Name == "chatr_session" {
			return c.Value
		}
	}
	p.T.Fatalf("%s has no session cookie", p.Name)
	return ""
}

// TestForgedEvents says in payloads that one is somebody else.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ada, bob, eve := people.Come(t, l.top.A, "Ada", people.Plain), people.Come(t, l.top.A, "Bob", people.Plain), people.Come(t, l.top.A, "Eve", people.Plain)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	bob.Do("joinChat", tea)
	for name, err := range map[string]error{
		"deleting another's chat":     eve.Send("deleteChat", tea),
		"taking a chat over":          eve.Send("createChat", people.Object{"id": tea, "name": marker}),
		"talking where one is not":    eve.Say(tea, marker),
		"a chat that there is not":    eve.Send("joinChat", people.UUID(99)),
		"a chat that cannot be":       eve.Send("joinChat", marker),
		"a private chat with nobody":  eve.Send("createPrivateChat", people.Object{"initiatorUserId": ada.ID, "targetUserId": marker}),
		"a private chat with oneself": eve.Send("createPrivateChat", people.Object{"initiatorUserId": ada.ID, "targetUserId": eve.ID}),
		"an unknown event":            eve.Send(strings.ToLower(marker), marker),
		"an event of the platform":    eve.Send("connected", people.Object{"userId": ada.ID}),
		"a title of a megabyte":       eve.Send("createChat", people.Object{"id": people.UUID(98), "name": strings.Repeat("x", 1_000_000)}),
	} {
		l.cases++
		if !people.IsNack(err) {
			t.Errorf("%s: got %v, want a nack", name, err)
		}
	}
	eve.Do("userConnected", people.Object{"userName": marker, "userId": ada.ID})
	eve.Do("leaveChat", people.Object{"chatId": tea, "userName": "Bob", "userId": bob.ID})
	eve.Do("userEnterIdle", ada.ID)
	ada.Await("that Eve, and nobody else, is idle", people.Is("userIsIdle", eve.ID))
	eve.Do("joinChat", tea)
	body, _ := json.Marshal(people.Object{"message": "I am Ada", "fromUserId": ada.ID, "fromUserName": "Ada", "from": "server"})
	eve.Frame(`{"type":"sendToGroup","group":"` + tea + `","fromUserId":"` + ada.ID + `","dataType":"json","data":` + string(body) + `}`)
	if e := bob.Await("what Eve says", people.Line("I am Ada")); e.Author() != eve.ID {
		t.Errorf("Eve's line is said to be from %q, want %q", e.Author(), eve.ID)
	}
	eve.Frame(`{"type":"sendToGroup","group":"` + tea + `","dataType":"json","data":{"chatEvent":"chatDeleted","data":"` + tea + `"}}`)
	if err := eve.Conn.SendToGroup(t.Context(), tea, webpubsub.Text("after that"), wsclient.SendOptions{}); err != nil {
		t.Errorf("what Eve says after a refusal: %v", err)
	}
	bob.Await("what Eve says next", people.Line("after that"))
	if heard := bob.All(func(e people.Event) bool { return e.Group == tea && strings.Contains(e.Data, "chatDeleted") }); heard != nil {
		t.Errorf("got %+v, want nothing of what looks like a server message", heard)
	}
	testkit.Eventually(t, people.Patience, func() bool {
		all, err := ada.History(tea)
		return err == nil && len(all) == 2 && all[0].UserID == eve.ID && all[0].Text == "I am Ada"
	}, "the history says that it was Eve")
	for _, p := range []*people.Person{ada, bob} {
		for _, name := range []string{"chatDeleted", "error", "joinPrivateChat", "userOffline"} {
			if told := p.All(people.Named(name)); told != nil {
				t.Errorf("%s was told: %+v", p.Name, told)
			}
		}
		if told := p.All(func(e people.Event) bool { return strings.Contains(e.Data, marker) }); told != nil {
			t.Errorf("%s was told: %+v", p.Name, told)
		}
	}
	if told := ada.All(people.Is("userIsIdle", ada.ID)); told != nil {
		t.Error("Ada was made idle by another")
	}
	_, answer := ada.Call("GET", "/api/chats", nil)
	chat := answer["chats"].(people.Object)[tea].(people.Object)
	if members := chat["members"].(people.Object); chat["owner"] != ada.ID || members[bob.ID] == nil || members[ada.ID] == nil {
		t.Errorf("the chat afterwards: %v, want it Ada's with Bob in it", chat)
	}
	l.check()
}

// TestFailuresDoNotFillTheLog fails again and again, in each way that is worth a line: operators see that it happens, and their disk
// stays empty.
func TestFailuresDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	const times = 200
	l := newLab(t)
	eve := people.Come(t, l.top.A, "Eve", people.Plain)
	for range times {
		if err := eve.Send("dance", "x"); !people.IsNack(err) {
			t.Fatalf("an unknown event: got %v, want a nack", err)
		}
	}
	address := clientURL(t, l.top.A, "lab", token.Options{Subject: "eve"})
	for range times {
		if got := l.answer(address, false, "no JSON"); got.code != 1007 {
			t.Fatalf("no JSON: got %+v, want code 1007", got)
		}
	}
	for _, what := range []string{`"msg":"user event"`, `"msg":"client broke the protocol"`} {
		if n := strings.Count(l.top.Gateways[0].Log(), what); n == 0 || n > times/2 {
			t.Errorf("%s is logged %d times for %d failures", what, n, times)
		}
	}
}

// TestSlowHeaders begins a hundred requests and does not end them.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var slow []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", hostOf(l.top.A))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /client/hubs/lab?x="+marker+" HTTP/1.1\r\nHost: x\r\nX-A: "); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	if _, err := people.Dial(t, clientURL(t, l.top.A, "lab", token.Options{}), people.Plain); err != nil {
		t.Errorf("somebody else meanwhile: %v", err)
	}
	for _, conn := range slow {
		_ = conn.SetReadDeadline(time.Now().Add(people.Patience))
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Errorf("headers that never end: the connection is still there after %v", people.Patience)
			break
		}
	}
	l.check()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
