package drive

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const testKey = "an access key for tests, long enough"

// server is a small Web PubSub service that can be told to do its work badly.
type server struct {
	*httptest.Server

	// deliver may change what a delivery is done with: it gets its number, from 1, and how to do it.
	deliver func(n int, do func())
	to      string // the user whose deliveries are counted and changed; empty: everybody's
	refuse  int    // sends to groups to refuse
	forget  bool   // connections that are to be recovered

	mu        sync.Mutex                // guards the following
	members   map[string]map[*peer]bool // by group, and by "user:" and a user's name
	peers     map[string]*peer
	delivered int
	sent      map[string][]string // by users: groups and sizes
}

// peer is a connection.
type peer struct {
	id, user string
	codec    protocol.Codec
	groups   []string

	reading sync.Mutex // held by the one who reads the connection's socket
	mu      sync.Mutex // guards the following
	socket  *websocket.Conn
	seq     uint64
	kept    [][]byte // sent and not acknowledged, the last of them being number seq
}

// faultAt has delivery number n done as fault says, which may keep it for after the next one.
func (s *server) faultAt(n int, fault func(do func(), later func(func()))) {
	var held func()
	s.deliver = func(number int, do func()) {
		if number == n {
			fault(do, func(f func()) { held = f })
			return
		}
		do()
		if held != nil {
			held()
			held = nil
		}
	}
}

func newServer(t *testing.T) *server {
	s := &server{members: map[string]map[*peer]bool{}, peers: map[string]*peer{}, sent: map[string][]string{}, deliver: func(_ int, do func()) { do() }}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /client/hubs/bench", s.client)
	mux.HandleFunc("POST /api/hubs/bench/groups/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) { s.rest(w, r, r.PathValue("name")) })
	mux.HandleFunc("POST /api/hubs/bench/users/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) { s.rest(w, r, "user:"+r.PathValue("name")) })
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) rest(w http.ResponseWriter, r *http.Request, target string) {
	body, _ := io.ReadAll(r.Body)
	group, _ := strings.CutPrefix(target, "user:")
	if group != target {
		group = ""
	}
	s.send(target, webpubsub.Message{Group: group, Data: webpubsub.Text(string(body))})
	w.WriteHeader(http.StatusAccepted)
}

func (s *server) client(w http.ResponseWriter, r *http.Request) {
	p := s.peer(w, r)
	if p == nil {
		return
	}
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: r.Header.Values("Sec-WebSocket-Protocol")})
	if err != nil {
		return
	}
	if p.id == "" {
		_ = socket.Close(1008, "unknown")
		return
	}
	p.mu.Lock()
	old := p.socket
	p.socket = socket
	_ = p.write(socket, p.codec.AppendConnected(nil, protocol.Connected{UserID: p.user, ConnectionID: p.id, ReconnectionToken: "token"}))
	for _, b := range p.kept {
		_ = p.write(socket, b)
	}
	p.mu.Unlock()
	s.join(p, append(p.groups, "user:"+p.user)...)
	if old != nil { // what it has still brought comes first
		_ = old.CloseNow()
	}
	p.reading.Lock()
	ended := s.read(p, socket)
	p.reading.Unlock()
	p.mu.Lock()
	if p.socket == socket { // else the connection has been recovered meanwhile
		p.socket = nil
	}
	p.mu.Unlock()
	if ended || !p.codec.Reliable() {
		s.leaveAll(p)
	}
}

// peer finds or makes the connection of a handshake.
func (s *server) peer(w http.ResponseWriter, r *http.Request) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := r.URL.Query().Get("awps_connection_id"); id != "" {
		if p := s.peers[id]; p != nil && !s.forget {
			return p
		}
		return &peer{}
	}
	claims, err := token.NewKeyVerifier(testKey).Verify(r.Context(), r.URL.Query().Get("access_token"))
	if err != nil {
		http.Error(w, "bad token", http.StatusUnauthorized)
		return nil
	}
	codec, ours := protocol.ByName(r.Header.Get("Sec-WebSocket-Protocol"))
	if !ours {
		codec = protocol.Simple
	}
	p := &peer{id: fmt.Sprintf("c%d", len(s.peers)), user: claims.Subject, codec: codec, groups: claims.Groups}
	s.peers[p.id] = p
	return p
}

func (s *server) join(p *peer, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.members[name] == nil {
			s.members[name] = map[*peer]bool{}
		}
		s.members[name][p] = true
	}
}

func (s *server) leave(p *peer, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members[name], p)
}

func (s *server) leaveAll(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		delete(m, p)
	}
}

// read answers requests until the socket ends, and reports whether that was meant to be for good.
func (s *server) read(p *peer, socket *websocket.Conn) (ended bool) {
	for {
		kind, b, err := socket.Read(context.Background())
		if err != nil {
			return websocket.CloseStatus(err) == websocket.StatusNormalClosure
		}
		var r protocol.Request
		if err := p.codec.Decode(kind == websocket.MessageBinary, b, &r); err != nil {
			_ = socket.Close(protocol.CloseInvalidPayload, err.Error())
			return true
		}
		var failure *protocol.Failure
		switch r.Kind {
		case protocol.JoinGroup:
			s.join(p, r.Group)
		case protocol.LeaveGroup:
			s.leave(p, r.Group)
		case protocol.SendToGroup:
			if s.refused() {
				failure = &protocol.Failure{Name: protocol.Forbidden, Message: "no"}
				break
			}
			s.note(p.user, fmt.Sprintf("%s %d", r.Group, r.DataSize()))
			s.send(r.Group, webpubsub.Message{Group: r.Group, FromUserID: p.user, Data: webpubsub.Text(string(r.Data().Bytes))})
		case protocol.SequenceAck:
			p.mu.Lock()
			p.kept = p.kept[max(0, len(p.kept)-int(p.seq-r.SequenceID)):]
			p.mu.Unlock()
		case protocol.Invoke:
			_ = p.write(socket, p.codec.AppendInvokeResponse(nil, r.InvocationID, r.Data(), nil))
		}
		if r.HasAck {
			_ = p.write(socket, p.codec.AppendAck(nil, r.AckID, failure))
		}
	}
}

func (s *server) note(user, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[user] = append(s.sent[user], what)
}

func (s *server) refused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse--
	return s.refuse >= 0
}

// send delivers in one order to all members.
func (s *server) send(target string, m webpubsub.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	envelope := protocol.NewEnvelope(&m)
	for p := range s.members[target] {
		if s.to != "" && p.user != s.to {
			p.push(envelope)
			continue
		}
		s.delivered++
		s.deliver(s.delivered, func() { p.push(envelope) })
	}
}

func (p *peer) push(e protocol.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	b, _ := p.codec.AppendMessage(nil, e)
	b = p.codec.AppendNumbered(nil, b, p.seq)
	if p.codec.Reliable() {
		p.kept = append(p.kept, b)
	}
	if p.socket != nil {
		_ = p.write(p.socket, b)
	}
}

// write sends a frame; a lost socket is noticed by its reader.
func (p *peer) write(socket *websocket.Conn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	kind := websocket.MessageText
	if p.codec.Binary() {
		kind = websocket.MessageBinary
	}
	return socket.Write(context.Background(), kind, b)
}
