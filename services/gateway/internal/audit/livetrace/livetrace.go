// Package livetrace tells operators what happens while it happens (service-limits-and-ops.md section 6): a SignalR hub in
// its JSON protocol over a WebSocket, without negotiation. A listener gets events from when it asks for them, in order;
// when it reads too slowly some are left out, and it is told how many.
package livetrace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// end stands behind each message of SignalR's JSON protocol.
const end = '\x1e'

// MaxListeners is how many may listen to a tenant on one node.
const MaxListeners = 20

const (
	readLimit = 16 << 10 // of one frame of a listener
	queue     = 512      // frames that wait for a listener
	beat      = 15 * time.Second
	silence   = 2 * beat // after which a listener that says nothing is gone; SignalR clients ping at each beat
	greeting  = 15 * time.Second
	writeTime = 10 * time.Second
	closeTime = time.Second // how long a client may take to close as well

	normalClosure = 1000 // RFC 6455 section 7.4.1
)

// Event is something that has happened.
type Event struct {
	ID      int
	Time    time.Time
	Context map[string]string // what is known about it, by name
	Values  []string          // for the placeholders of its template, in their order
}

// Kinds of events. Their numbers are those of a list that only grows.
const (
	ConnectionStarted = iota + 1
	ConnectionEnded
	ConnectionAborted
	ConnectionRefused
	AuthorizationFailed
	MessageReceived
	RequestAnswered
	EventsLeftOut
)

// Levels, as the protocol numbers them.
const (
	information = 2
	warning     = 3
)

// kind describes the events of an id.
type kind struct {
	ID       int    `json:"eventId"`
	Name     string `json:"eventName"`
	Template string `json:"template"`
	Level    int    `json:"logLevel"`
}

var kinds = map[int]kind{}

func init() {
	for _, k := range []kind{
		{ConnectionStarted, "ConnectionStarted", "Connection started.", information},
		{ConnectionEnded, "ConnectionEnded", "Connection ended: {message}", information},
		{ConnectionAborted, "ConnectionAborted", "Connection aborted: {message}", warning},
		{ConnectionRefused, "ConnectionRefused", "Connection refused with {status}: {message}", warning},
		{AuthorizationFailed, "AuthorizationFailed", "Refused with {status}: {message}", warning},
		{MessageReceived, "MessageReceived", "Client asked for {operation}.", information},
		{RequestAnswered, "RequestAnswered", "{method} {url} was answered with {status} after {duration} ms.", information},
		{EventsLeftOut, "EventsLeftOut", "{count} events were left out because they were not read in time.", warning},
	} {
		kinds[k.ID] = k
	}
}

// Frame returns an event as listeners get it.
func Frame(e Event) []byte {
	if e.Values == nil {
		e.Values = []string{}
	}
	return invocation("logEvent", struct {
		Time      string            `json:"time"`
		EventID   int               `json:"eventId"`
		Context   map[string]string `json:"logContext"`
		Values    []string          `json:"values"`
		Exception *string           `json:"exceptionMessage"`
	}{e.Time.UTC().Format(time.RFC3339Nano), e.ID, e.Context, e.Values, nil})
}

// message is what either side sends after the handshake; which members count depends on the type.
type message struct {
	Type           int               `json:"type"`
	InvocationID   string            `json:"invocationId,omitempty"`
	Target         string            `json:"target,omitempty"`
	Arguments      []json.RawMessage `json:"arguments,omitempty"`
	Error          string            `json:"error,omitempty"`
	AllowReconnect bool              `json:"allowReconnect,omitempty"`
}

// Types of messages.
const (
	typeInvocation = 1
	typeCompletion = 3
	typePing       = 6
	typeClose      = 7
)

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // it holds strings and numbers only
		panic(err)
	}
	return append(b, end)
}

func invocation(target string, argument any) []byte {
	return encode(struct {
		Type      int    `json:"type"`
		Target    string `json:"target"`
		Arguments []any  `json:"arguments"`
	}{typeInvocation, target, []any{argument}})
}

// Hub has the listeners of a node. Its methods are safe for concurrent use.
type Hub struct {
	mu       sync.Mutex // guards the following
	byTenant map[string]map[*listener]struct{}
	count    map[string]int // of those connected, whether they listen or not
}

// NewHub returns a hub without listeners.
func NewHub() *Hub {
	return &Hub{byTenant: map[string]map[*listener]struct{}{}, count: map[string]int{}}
}

// Enter reports whether one more may connect. Each Enter that succeeds is followed by a Leave.
func (h *Hub) Enter(tenant string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[tenant] >= MaxListeners {
		return false
	}
	h.count[tenant]++
	return true
}

// Leave ends an Enter.
func (h *Hub) Leave(tenant string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[tenant]--; h.count[tenant] == 0 {
		delete(h.count, tenant)
	}
}

// Connected is how many are.
func (h *Hub) Connected() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, count := range h.count {
		n += count
	}
	return n
}

// Deliver gives a frame to those who listen to a tenant. It does not wait for them. The frame must not change.
func (h *Hub) Deliver(tenant string, frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.byTenant[tenant] {
		select {
		case l.frames <- frame:
		default:
			l.leftOut.Add(1)
		}
	}
}

// listener is somebody who is connected.
type listener struct {
	sock    *socket.Socket
	silence *time.Timer // ends the socket
	frames  chan []byte
	leftOut atomic.Int64
}

// Serve talks to a client until it leaves, breaks the protocol, or ctx ends. listen is called when the client asks for
// events, and returns when they come in, with what ends that.
func (h *Hub) Serve(ctx context.Context, sock *socket.Socket, tenant string, listen func(context.Context) (end func(), err error)) (err error) {
	sock.SetLimit(readLimit)
	l := &listener{sock: sock, frames: make(chan []byte, queue), silence: time.AfterFunc(greeting, func() { _ = sock.Close() })}
	defer l.silence.Stop()
	defer func() { l.close(err) }()
	if err := l.send(nil, sock.HandshakeResponse()); err != nil {
		return err
	}
	if err := l.greet(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		if l.write(ctx) != nil {
			_ = sock.Close() // frees the reader, as does:
		}
	})
	context.AfterFunc(ctx, func() {
		sock.BeginClose(closeTime)
		time.AfterFunc(2*closeTime, func() { _ = sock.Close() }) // also frees a writer that nobody reads from
	})
	defer func() {
		cancel()
		writer.Wait()
	}()
	listening := false
	for {
		messages, err := l.read()
		if err != nil {
			return err
		}
		for _, text := range messages {
			var r message
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return fmt.Errorf("malformed message: %w", err)
			}
			switch {
			case r.Type == typeClose:
				return nil
			case r.Type != typeInvocation:
			case r.Target == "startListeningToLogEvents":
				if !listening {
					stop, err := listen(ctx)
					if err != nil {
						l.answer(r, nil, "events cannot be had at the moment; please try again")
						return err
					}
					defer stop()
					defer h.start(tenant, l)()
					listening = true
				}
				l.answer(r, nil, "")
			case strings.EqualFold(r.Target, "LogProperty"):
				l.answer(r, l.property(r), "")
			default:
				l.answer(r, nil, fmt.Sprintf("there is no method %.40q; there are startListeningToLogEvents and LogProperty", r.Target))
			}
		}
	}
}

// start has l get a tenant's events until what it returns is called.
func (h *Hub) start(tenant string, l *listener) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byTenant[tenant] == nil {
		h.byTenant[tenant] = map[*listener]struct{}{}
	}
	h.byTenant[tenant][l] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if delete(h.byTenant[tenant], l); len(h.byTenant[tenant]) == 0 {
			delete(h.byTenant, tenant)
		}
	}
}

// greet reads the handshake and answers it.
func (l *listener) greet() error {
	messages, err := l.read()
	if err != nil {
		return err
	}
	var asked struct {
		Protocol string `json:"protocol"`
		Version  int    `json:"version"`
	}
	if err := json.Unmarshal([]byte(messages[0]), &asked); err != nil || len(messages) > 1 || asked.Protocol != "json" || asked.Version != 1 {
		text := `the first message must be {"protocol":"json","version":1}, alone`
		_ = l.send(encode(map[string]string{"error": text}), nil) // it may be gone
		return fmt.Errorf("handshake: %s", text)
	}
	return l.send([]byte{'{', '}', end}, nil)
}

// read returns the messages of the next WebSocket frame.
func (l *listener) read() ([]string, error) {
	for {
		op, frame, err := l.sock.Read()
		if err != nil {
			return nil, err
		}
		l.silence.Reset(silence)
		switch op {
		case socket.Ping:
			if err := l.sock.Write(socket.AppendFrame(nil, socket.Pong, frame), time.Now().Add(writeTime)); err != nil {
				return nil, err
			}
		case socket.Text, socket.Binary:
			text, ended := strings.CutSuffix(string(frame), string(end))
			if !ended {
				return nil, fmt.Errorf("a frame of %d bytes does not end with the record separator", len(frame))
			}
			return strings.Split(text, string(end)), nil
		}
	}
}

// close sends a close frame, if the client is still there, and ends the socket.
func (l *listener) close(reason error) {
	code := normalClosure
	var e *socket.CloseError
	if errors.As(reason, &e) && !e.Remote {
		code = e.Code
	}
	if l.sock.Write(socket.AppendClose(nil, code, ""), time.Now().Add(closeTime)) == nil {
		l.sock.BeginClose(closeTime)
		l.sock.DiscardInput() // what is on the way: a reset would overtake the close frame
	}
	_ = l.sock.Close()
}

// property has the client told what the events of an id are.
func (l *listener) property(r message) []byte {
	var id int
	if len(r.Arguments) != 1 || json.Unmarshal(r.Arguments[0], &id) != nil {
		return nil
	}
	k, known := kinds[id]
	if !known {
		k = kind{ID: id, Name: "Unknown", Template: "This event is not known to this version.", Level: information}
	}
	return invocation("LogProperty", k)
}

// answer queues what a method has to say, and its completion if the client wants one.
func (l *listener) answer(r message, frame []byte, failure string) {
	if frame != nil {
		l.queue(frame)
	}
	if r.InvocationID != "" {
		l.queue(encode(message{Type: typeCompletion, InvocationID: r.InvocationID, Error: failure}))
	}
}

func (l *listener) queue(frame []byte) {
	select {
	case l.frames <- frame:
	default:
		l.leftOut.Add(1)
	}
}

// write sends what is queued, and pings, until ctx ends or the client is gone.
func (l *listener) write(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	ping := encode(message{Type: typePing})
	for {
		frame := ping
		select {
		case frame = <-l.frames:
		case <-tick.C:
		case <-ctx.Done():
			return l.farewell()
		}
		if err := l.send(frame, nil); err != nil {
			return err
		}
		if n := l.leftOut.Swap(0); n > 0 {
			if err := l.send(Frame(Event{ID: EventsLeftOut, Time: time.Now(), Values: []string{strconv.FormatInt(n, 10)}}), nil); err != nil {
				return err
			}
		}
	}
}

// farewell sends what is queued, such as what a method has failed for, and the end.
func (l *listener) farewell() error {
	for {
		select {
		case frame := <-l.frames:
			if err := l.send(frame, nil); err != nil {
				return err
			}
		default:
			return l.send(encode(message{Type: typeClose, AllowReconnect: true}), nil)
		}
	}
}

// send writes a frame's text behind what is to come first.
func (l *listener) send(text, first []byte) error {
	if text != nil {
		first = socket.AppendFrame(first, socket.Text, text)
	}
	return l.sock.Write(first, time.Now().Add(writeTime))
}
