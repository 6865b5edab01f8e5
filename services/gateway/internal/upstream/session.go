package upstream

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
)

// maxOrderWait is how long a user event waits for the connected event to reach the same handler first.
const maxOrderWait = 10 * time.Second

// Session is one connection as handlers see it. Its methods are safe for concurrent use.
//
// The order in which a handler gets the events of a connection is made of four rules. User events are posted one at a time, in the order
// in which UserEvent.Put is called, and so are questions about messages to groups, by Question.Put; neither waits for the other (turns).
// Lifecycle events wait in pending, and only the first of them is with a host (submitted), which retries it until it is delivered or
// given up. A user event waits for connected, and so does a question. Disconnected waits for all of both that have been prepared.
type Session struct {
	up  *Upstream
	hub webpubsub.HubKey
	id  string

	caller *asrs.Caller // of a client of the ancestor protocol; else nil

	cookies cookieStore

	mu              sync.Mutex // guards the following
	userID          string
	subprotocol     string
	state           string // connection state, opaque (event-handler.md section 8)
	lastID          uint64 // ce-id; 0 is that of connect
	accepted        bool   // connect was answered with yes, or no handler was asked: the end is to be reported
	established     bool   // the handshake is done, and earlyChanges have been queued
	closed          bool
	turns           [2]chan struct{}   // by sequence: holds a token while one of its events is under way; made by the first
	userEvents      int                // user events and questions under way or waiting
	earlyChanges    []membershipChange // that came before the connection was established, in order
	pending         []lifecycle        // lifecycle events that are not delivered, in order
	submitted       bool               // a host has the session in its queue, for the first of pending
	connected       chan struct{}      // closed when the connected event is no longer pending; nil: no user event waits for that
	held            bool               // another process can report its end if this one dies
	claimed         bool               // this process reports the end for another one, from whose entry it is
	end             *pendingEvent      // the disconnected event that the other one was about to send, if it was
	unwritten       bool               // the next event waits until what is held is written
	posting         bool               // the first of pending is being posted
	handedOver      bool               // another process goes on with the session
	closeUnreported bool               // closed while it was handed over, or before it was resumed
	closeReason     string             // why it was closed, if closeUnreported
}

// membershipChange says that the connection has joined or left a group.
type membershipChange struct {
	kind  eventKind // kindJoined or kindLeft
	group string
}

// lifecycle is an event that is delivered in the background: connected, disconnected, joined or left.
type lifecycle struct {
	kind       eventKind
	group      string // that was joined or left
	id         uint64
	time       time.Time
	body       []byte
	pause      time.Duration // before the last retry
	reservedAt *host         // against whose limit it counts
	copyTo     []string      // logs that get it once it is sure that it is this process that sends it
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

// Connect asks the hub's handler whether the connection is accepted, and with which user, roles, groups and subprotocol
// (event-handler.md section 5). Without a handler it is. r is the handshake, claims returns those of its token, offered are its
// subprotocols. An error is a *Refused. It blocks for at most Config.ConnectTimeout. A request that was sent is not interrupted
// when ctx ends: a handler that accepts must be told of the end, for which Closed is to be called.
func (s *Session) Connect(
	ctx context.Context, r *http.Request, userID string, claims func() map[string][]string, offered []string,
) (Accepted, error) {
	s.mu.Lock()
	s.userID = userID
	s.mu.Unlock()
	to, ok := s.lifecycleTarget(lifecycle{kind: kindConnect})
	if !ok {
		s.setAccepted(nil)
		return Accepted{}, nil
	}
	body, err := json.Marshal(connectRequest(r, claims(), offered))
	if err != nil {
		return Accepted{}, refusedBecause(&Failure{Reason: ReasonAnswer, detail: err})
	}
	e := s.event(cloudevents.Connect, string(kindConnect), 0, time.Now())
	e.ContentType, e.Body = cloudevents.TypeSystem, body

	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.up.cfg.ConnectTimeout)
	defer cancel()
	a, failure := s.up.callWithRetries(call, ctx, s, to, kindConnect, e, maxConnectAnswer)
	if failure != nil {
		return Accepted{}, refusedBecause(failure)
	}
	var accepted Accepted
	if s.caller != nil {
		accepted, failure = a.acceptedAncestor(s.caller.Subprotocol)
	} else if accepted, failure = a.accepted(); failure == nil {
		failure = s.setState(a)
	}
	if failure != nil {
		s.up.metrics.addFailure(kindConnect, failure.Reason)
		return Accepted{}, refusedBecause(failure)
	}
	s.setAccepted(accepted.UserID)
	return accepted, nil
}

// setAccepted records that the connection is accepted, with another user if userID is not nil.
func (s *Session) setAccepted(userID *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = true
	if userID != nil {
		s.userID = *userID
	}
}

// Established says that the handshake is done: later events carry userID and subprotocol, and the connected
// event goes out, then joined for each of the groups that the connection begins with, then the changes that GroupJoined and
// GroupLeft have reported meanwhile; nothing if Closed came first. It does not block.
func (s *Session) Established(userID, subprotocol string, groups ...string) {
	s.mu.Lock()
	s.userID, s.subprotocol = userID, subprotocol
	s.mu.Unlock()
	s.hold(true)
	s.reportLifecycle(lifecycle{kind: kindConnected, time: time.Now(), body: []byte("{}")})
	for _, group := range groups {
		s.queueLifecycle(membershipEvent(membershipChange{kindJoined, group}))
	}
	for changes := s.takeEarlyChanges(); len(changes) > 0; changes = s.takeEarlyChanges() {
		for _, m := range changes {
			s.queueLifecycle(membershipEvent(m))
		}
	}
}

// takeEarlyChanges returns the changes that wait for the connection to be established. When there are none it is: the check and
// the mark are under one lock, so that no change comes in between and overtakes.
func (s *Session) takeEarlyChanges() []membershipChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := s.earlyChanges
	s.earlyChanges = nil
	s.established = len(changes) == 0
	return changes
}

// GroupJoined says that the connection has joined a group: the joined event goes out if a handler wants it. It does not
// block.
func (s *Session) GroupJoined(group string) { s.membershipChanged(membershipChange{kindJoined, group}) }

// GroupLeft says that the connection has left a group, also because it has ended, which Closed must then report after it. It does
// not block.
func (s *Session) GroupLeft(group string) { s.membershipChanged(membershipChange{kindLeft, group}) }

// membershipChanged queues the event of a change, or keeps the change until the connection is established.
func (s *Session) membershipChanged(m membershipChange) {
	if s.caller != nil { // the ancestor protocol has no such events
		return
	}
	if _, ok := s.up.presenceTarget(s.hub, string(m.kind), m.group); !ok {
		return
	}
	s.mu.Lock()
	early := !s.established
	if early && !s.closed {
		s.earlyChanges = append(s.earlyChanges, m)
	}
	s.mu.Unlock()
	if !early {
		s.queueLifecycle(membershipEvent(m))
	}
}

// membershipEvent returns the event that tells handlers of a membership change.
func membershipEvent(m membershipChange) lifecycle {
	body, err := json.Marshal(cloudevents.PresenceBody{Group: m.group})
	if err != nil { // a string always has a JSON form
		body = []byte("{}")
	}
	return lifecycle{kind: m.kind, group: m.group, time: time.Now(), body: body}
}

// Closed says that the connection has ended for good. If it had been accepted, the disconnected event goes out, after whatever is
// still under way. Only the first call counts. It does not block.
func (s *Session) Closed(reason string) {
	s.mu.Lock()
	report := s.accepted && !s.closed && !s.handedOver
	if !s.closed && !report {
		s.closeUnreported, s.closeReason = true, reason
	}
	s.closed, s.earlyChanges = true, nil
	end := s.end
	s.mu.Unlock()
	switch {
	case report && end != nil:
		s.reportLifecycle(lifecycle{kind: kindDisconnected, id: end.ID, time: end.Time, body: end.Body})
	case report:
		s.reportLifecycle(disconnected(reason))
	}
}

// disconnected returns the event of a connection's end.
func disconnected(reason string) lifecycle {
	body, err := json.Marshal(cloudevents.DisconnectedBody{Reason: reason})
	if err != nil { // a string always has a JSON form
		body = []byte("{}")
	}
	return lifecycle{kind: kindDisconnected, time: time.Now(), body: body}
}

// awaitConnected waits until h has the connected event, if that is pending and goes to h.
func (s *Session) awaitConnected(ctx context.Context, h *host) *Failure {
	s.mu.Lock()
	if len(s.pending) == 0 || s.pending[0].kind != kindConnected {
		s.mu.Unlock()
		return nil
	}
	if s.connected == nil {
		s.connected = make(chan struct{})
	}
	connected := s.connected
	s.mu.Unlock()
	if to, ok := s.lifecycleTarget(lifecycle{kind: kindConnected}); !ok || to.host != h {
		return nil
	}
	timer := time.NewTimer(maxOrderWait)
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

// event returns an event of this connection, without its body.
func (s *Session) event(typ, name string, id uint64, at time.Time) cloudevents.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cloudevents.Event{
		Type: typ, Name: name, Hub: s.hub.Hub, ConnectionID: s.id, ID: id, Time: at,
		UserID: s.userID, Subprotocol: s.subprotocol, State: s.state,
	}
}

// contentType is the content type of a user event with data of type t (event-handler.md section 6.1).
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

// queryWithoutToken returns the parameters of a handshake that handlers may see. A token is none of them, however its name is
// spelt.
func queryWithoutToken(r *http.Request) map[string][]string {
	query := httpx.ParseQuery(r.URL.RawQuery)
	maps.DeleteFunc(query, func(name string, _ []string) bool { return strings.EqualFold(name, "access_token") })
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
