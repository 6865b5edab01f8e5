package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
)

// orderWait is how long a user event waits for connected to reach the same handler first.
const orderWait = 10 * time.Second

// Session is one connection as handlers see it. Its methods are safe for concurrent use; user events are posted
// one at a time.
type Session struct {
	up  *Upstream
	hub webpubsub.HubKey
	id  string

	caller *asrs.Caller // of a client of the ancestor protocol; else nil

	mu          sync.Mutex // guards the following
	userID      string
	subprotocol string
	state       string // connection state, opaque (event-handler.md section 8)
	lastID      uint64 // ce-id; 0 is that of connect
	accepted    bool
	established bool
	closed      bool
	jar         http.CookieJar
	turn        chan struct{} // holds a token while a user event is under way; made by the first
	events      int           // user events under way or waiting
	early       []move        // before it was established, in order
	pending     []lifecycle   // not yet delivered, in order: connected, joined and left, disconnected
	submitted   bool          // the first of pending is in a host's hands
	connected   chan struct{} // closed when connected is no longer pending; nil: nobody waits for it
	isHeld      bool          // others can tell its end if this process dies
	posting     bool          // the first of pending is on its way to a handler
	given       bool          // another process goes on with the session
	unsaid      bool          // closed while nobody here could tell: given, or not yet taken
	reason      string        // why it was closed, if that is unsaid
}

// move is a group that the connection has joined or left.
type move struct {
	kind  kind
	group string
}

// lifecycle is an event to deliver that nobody waits for: connected, disconnected, joined or left.
type lifecycle struct {
	kind    kind
	group   string // that was joined or left
	id      uint64
	time    time.Time
	body    []byte
	pause   time.Duration // before it is tried again
	counted *host         // whose limit it counts against
}

// Open returns the Session of a new connection.
func (u *Upstream) Open(hub webpubsub.HubKey, connID string) *Session {
	return &Session{up: u, hub: hub, id: connID}
}

// Accepted is what a connect event's answer says about the connection.
type Accepted struct {
	Handled     bool     // a handler was asked; else everything stays as the token says
	UserID      *string  // nil: keep the token's
	Roles       []string // nil: keep the token's
	Groups      []string // nil: keep the token's
	Subprotocol string   // empty: not chosen by the handler
	Greeting    []byte   // of the ancestor protocol: the first text frame
}

// Refused is the error of Connect: the client gets Status and Body instead of an upgrade.
type Refused struct {
	Status      int
	ContentType string
	Body        []byte
	cause       error
}

// Error implements error.
func (r *Refused) Error() string { return "the connection was refused: " + r.cause.Error() }

// Unwrap returns the Failure that led to it.
func (r *Refused) Unwrap() error { return r.cause }

// Connect asks the hub's handler whether the connection may be, and what it is to be (event-handler.md section
// 5). Without a handler the answer is yes. r is the handshake, claims returns those of its token, offered
// are its subprotocols. An error is a *Refused. A request that was sent is not interrupted by ctx: a handler that has
// accepted must hear of the end, which Closed tells it.
func (s *Session) Connect(ctx context.Context, r *http.Request, userID string, claims func() map[string][]string, offered []string) (Accepted, error) {
	s.mu.Lock()
	s.userID = userID
	s.mu.Unlock()
	to, ok := s.targetOf(lifecycle{kind: kindConnect})
	if !ok {
		s.accept(nil)
		return Accepted{}, nil
	}
	body, err := json.Marshal(connectRequest(r, claims(), offered))
	if err != nil {
		return Accepted{}, refuse(&Failure{Reason: ReasonAnswer, detail: err})
	}
	e := s.event(cloudevents.Connect, string(kindConnect), 0, time.Now())
	e.ContentType, e.Body = cloudevents.TypeSystem, body

	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.up.cfg.ConnectTimeout)
	defer cancel()
	a, failure := s.up.call(call, ctx, s, to, kindConnect, e, maxConnectAnswer)
	if failure != nil {
		return Accepted{}, refuse(failure)
	}
	accepted, failure := s.readConnect(a)
	if failure != nil {
		s.up.metrics.failed(kindConnect, failure.Reason)
		return Accepted{}, refuse(failure)
	}
	s.accept(accepted.UserID)
	return accepted, nil
}

func (s *Session) accept(userID *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = true
	if userID != nil {
		s.userID = *userID
	}
}

// Established says that the handshake is done: later events carry userID and subprotocol, and the connected
// event goes out, then joined for each of the groups that the connection begins with and whatever Joined and Left
// have said meanwhile; nothing if Closed came first. It does not block.
func (s *Session) Established(userID, subprotocol string, groups ...string) {
	s.mu.Lock()
	s.userID, s.subprotocol = userID, subprotocol
	s.mu.Unlock()
	s.hold()
	s.tell(lifecycle{kind: kindConnected, time: time.Now(), body: []byte("{}")})
	for _, group := range groups {
		s.queueMove(move{kindJoined, group})
	}
	for moves := s.takeEarly(); len(moves) > 0; moves = s.takeEarly() {
		for _, m := range moves {
			s.queueMove(m)
		}
	}
}

// takeEarly returns the moves that wait for the connection to be established, which it is when there are none.
func (s *Session) takeEarly() []move {
	s.mu.Lock()
	defer s.mu.Unlock()
	moves := s.early
	s.early = nil
	s.established = len(moves) == 0
	return moves
}

// GroupJoined says that the connection has joined a group: the joined event goes out if a handler wants it. It does not
// block.
func (s *Session) GroupJoined(group string) { s.moved(move{kindJoined, group}) }

// GroupLeft says that the connection has left a group, also by its end, which Closed must follow.
func (s *Session) GroupLeft(group string) { s.moved(move{kindLeft, group}) }

func (s *Session) moved(m move) {
	if s.caller != nil { // the ancestor has no such events
		return
	}
	if _, ok := s.up.presenceTarget(s.hub, string(m.kind), m.group); !ok {
		return
	}
	s.mu.Lock()
	early := !s.established
	if early && !s.closed {
		s.early = append(s.early, m)
	}
	s.mu.Unlock()
	if !early {
		s.queueMove(m)
	}
}

func (s *Session) queueMove(m move) {
	body, err := json.Marshal(cloudevents.PresenceBody{Group: m.group})
	if err != nil { // a string always has a JSON form
		return
	}
	s.queue(lifecycle{kind: m.kind, group: m.group, time: time.Now(), body: body})
}

// Closed says that the connection is gone for good. When it had been accepted, the disconnected event goes out,
// after whatever is still under way. It does not block.
func (s *Session) Closed(reason string) {
	s.mu.Lock()
	tell := s.accepted && !s.closed && !s.given
	if !s.closed && !tell {
		s.unsaid, s.reason = true, reason
	}
	s.closed, s.early = true, nil
	s.mu.Unlock()
	if tell {
		s.tell(disconnected(reason))
	}
}

func disconnected(reason string) lifecycle {
	body, err := json.Marshal(cloudevents.DisconnectedBody{Reason: reason})
	if err != nil { // a string always has a JSON form
		body = []byte("{}")
	}
	return lifecycle{kind: kindDisconnected, time: time.Now(), body: body}
}

// Event brings a user event to the hub's handler and listeners and returns what the connection is to receive as a message
// from the server, nil for nothing (event-handler.md section 6). It blocks. Without a handler an event has arrived when the
// logs of its listeners have it. Errors are ErrNoHandler or a *Failure.
func (s *Session) Event(ctx context.Context, name string, d webpubsub.Data) (*webpubsub.Data, error) {
	return s.user(ctx, name, d, true)
}

// Invoke is Event for an event that must have an answer, which listeners do not give (event-handler.md section 6.3).
func (s *Session) Invoke(ctx context.Context, name string, d webpubsub.Data) (*webpubsub.Data, error) {
	return s.user(ctx, name, d, false)
}

func (s *Session) user(ctx context.Context, name string, d webpubsub.Data, listenersCount bool) (*webpubsub.Data, error) {
	to, handled := s.userTarget(name)
	listeners := s.up.userListeners(s.hub, name)
	if !handled && (!listenersCount || len(listeners) == 0) {
		s.up.metrics.failed(kindUser, ReasonNoHandler)
		return nil, ErrNoHandler
	}
	ctx, cancel := context.WithTimeout(ctx, s.up.cfg.EventTimeout)
	defer cancel()
	data, failure := s.postUser(ctx, to, listeners, name, d)
	if failure != nil {
		return nil, failure
	}
	return data, nil
}

// userTarget returns the first handler that wants a user event.
func (s *Session) userTarget(name string) (target, bool) {
	if s.caller != nil {
		return s.ancestorTarget(kindUser)
	}
	return s.up.userTarget(s.hub, name)
}

// postUser copies a user event to logs and posts it, unless there is no handler to post it to.
func (s *Session) postUser(ctx context.Context, to target, logs []string, name string, d webpubsub.Data) (*webpubsub.Data, *Failure) {
	id, failure := s.begin(ctx, to.host)
	if failure != nil {
		s.up.metrics.failed(kindUser, failure.Reason)
		return nil, failure
	}
	defer s.end()
	e := s.event(cloudevents.UserPrefix+name, name, id, time.Now())
	e.ContentType, e.Body, e.Metadata = contentType(d.Type), d.Bytes, d.Metadata
	copied := s.copyUser(logs, e, d)
	if to.host == nil {
		if failure = await(ctx, len(logs), copied); failure != nil {
			s.up.metrics.failed(kindUser, failure.Reason)
		}
		return nil, failure
	}
	a, failure := s.up.call(ctx, ctx, s, to, kindUser, e, maxUserAnswer)
	if failure != nil {
		return nil, failure
	}
	data, failure := s.readUser(a)
	if failure != nil {
		s.up.metrics.failed(kindUser, failure.Reason)
	}
	return data, failure
}

// begin gives a user event its id and waits for its turn: no other of this connection is under way, and
// connected has reached h if that is where it goes.
func (s *Session) begin(ctx context.Context, h *host) (id uint64, failure *Failure) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, &Failure{Reason: ReasonCanceled}
	}
	s.lastID++
	id = s.lastID
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	s.events++
	s.mu.Unlock()

	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.leave()
		return 0, interrupted(ctx)
	}
	if failure := s.awaitConnected(ctx, h); failure != nil {
		s.end()
		return 0, failure
	}
	return id, nil
}

// end gives the turn to the next.
func (s *Session) end() {
	<-s.turn
	s.leave()
}

// leave lets lifecycle events go that waited for user events.
func (s *Session) leave() {
	s.mu.Lock()
	s.events--
	s.mu.Unlock()
	s.submit()
}

func (s *Session) awaitConnected(ctx context.Context, h *host) *Failure {
	connected := s.pendingConnected()
	if connected == nil {
		return nil
	}
	if to, ok := s.targetOf(lifecycle{kind: kindConnected}); !ok || to.host != h {
		return nil
	}
	timer := time.NewTimer(orderWait)
	defer timer.Stop()
	select {
	case <-connected:
		return nil
	case <-timer.C:
		return &Failure{Reason: ReasonUnordered}
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// pendingConnected returns a channel that is closed when connected is no longer pending, or nil if it is not.
func (s *Session) pendingConnected() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 || s.pending[0].kind != kindConnected {
		return nil
	}
	if s.connected == nil {
		s.connected = make(chan struct{})
	}
	return s.connected
}

// event returns an event of this connection, without its body.
func (s *Session) event(typ, name string, id uint64, at time.Time) cloudevents.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cloudevents.Event{
		Type: typ, Name: name, Hub: s.hub.Hub, ConnectionID: s.id, ID: id, Time: at,
		UserID: s.userID, Subprotocol: s.subprotocol, State: s.state,
	}
}

// maxCookies of one connection and handler; more are ignored, as are longer ones than maxCookieBytes.
const (
	maxCookies     = 20
	maxCookieBytes = 4096
)

// keepCookies notes the cookies of an answer for later events of this connection, which lets a handler be
// sticky (event-handler.md section 4). They go back to the host that set them, whatever the path.
func (s *Session) keepCookies(resp *http.Response) {
	cookies := resp.Cookies()
	if len(cookies) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jar == nil {
		s.jar = newJar()
	}
	for _, c := range cookies {
		c.Domain, c.Path = "", "/"
		if len(c.Name)+len(c.Value) > maxCookieBytes || len(s.jar.Cookies(resp.Request.URL)) >= maxCookies {
			continue
		}
		s.jar.SetCookies(resp.Request.URL, []*http.Cookie{c})
	}
}

func (s *Session) addCookies(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jar == nil {
		return
	}
	for _, c := range s.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
}

func contentType(t webpubsub.DataType) string {
	switch t {
	case webpubsub.DataJSON:
		return cloudevents.TypeJSON
	case webpubsub.DataBinary:
		return cloudevents.TypeBinary
	case webpubsub.DataProtobuf:
		return cloudevents.TypeProtobuf
	}
	return cloudevents.TypeText // also of an invocation without data (event-handler.md section 6.3)
}

// queryWithoutToken returns the parameters of a handshake that handlers may see.
func queryWithoutToken(r *http.Request) map[string][]string {
	query := r.URL.Query()
	delete(query, "access_token")
	return query
}

// headersWithoutSecrets returns the headers of a handshake that handlers may see, Host among them, which the
// http package keeps apart (event-handler.md section 5.1).
func headersWithoutSecrets(r *http.Request) map[string][]string {
	headers := make(map[string][]string, len(r.Header)+1)
	for name, values := range r.Header {
		if name != "Authorization" && !strings.HasPrefix(name, "X-Asrs-Internal-") {
			headers[name] = values
		}
	}
	headers["Host"] = []string{r.Host}
	return headers
}
