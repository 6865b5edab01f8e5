package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
)

// reconnectionLife is how long a reconnection token is valid (auth.md section 6).
const reconnectionLife = 7 * 24 * time.Hour

// greeting is the first message of a PubSub connection's socket. A reliable one gets a new token each time.
func (g *Gateway) greeting(c *client) protocol.Connected {
	connected := protocol.Connected{UserID: c.conn.UserID, ConnectionID: c.conn.ID}
	if c.conn.Codec.Reliable() {
		connected.ReconnectionToken = reconnectionToken(c.reconnectionKey(), c.conn.ID, time.Now().Add(reconnectionLife))
	}
	return connected
}

// reconnectionKey signs the connection's reconnection tokens. The node that made the connection derives it from a secret of
// its own; a node that has taken it over was given it.
func (c *client) reconnectionKey() []byte {
	if c.key != nil {
		return c.key
	}
	mac := hmac.New(sha256.New, c.g.secret)
	mac.Write([]byte(c.conn.ID))
	return mac.Sum(nil)
}

// recover gives a reliable connection a new socket, wherever the connection is. A refusal is an upgrade and a close with
// 1008, since SDKs take any other answer as "try again" (client-json.md 8.2); such an answer is returned when that
// is what the client should do.
func (g *Gateway) recover(w http.ResponseWriter, n *newcomer, id, token string) *refusal {
	c, err := g.recoverable(n, id, token)
	var name string
	switch {
	case err == nil:
		name = c.conn.Subprotocol
	case errors.Is(err, errLater):
		g.log.Debug("put a recovery off", "hub", n.hub.String(), "connection", id, "error", err)
		return refuseForNow()
	default:
		_, name = selectCodec("", socket.OfferedSubprotocols(n.r))
	}
	sock, acceptErr := socket.Accept(w, n.r, name, n.config.Compression)
	if acceptErr != nil {
		g.log.Debug("accept socket", "hub", n.hub.String(), "connection", id, "error", acceptErr)
		return nil
	}
	if err != nil {
		g.metrics.refused.WithLabelValues("101").Inc()
		g.log.Debug("refuse recovery", "hub", n.hub.String(), "error", err)
		g.sockets.Go(func() { sock.Refuse(hub.CodePolicy, err.Error()) })
		return nil
	}
	g.metrics.recovered.Inc()
	g.serve(c, sock, "")
	return nil
}

// Why a connection cannot be recovered.
var (
	//lint:ignore ST1005 the client shows it
	errToken = errors.New("The reconnection token is not valid.")
	//lint:ignore ST1005 the client shows it
	errEnded = errors.New("The connection does not exist any more.")
	errLater = errors.New("the connection cannot be recovered now")
)

// recoverable returns the client of the connection, if the token proves a right to it. A connection that lives on
// another node, which then checks the token, comes to this one first.
func (g *Gateway) recoverable(n *newcomer, id, token string) (*client, error) {
	if g.node.Handoffs.Moving(id) {
		return nil, errLater
	}
	conn := g.conns.Conn(id)
	switch {
	case conn == nil:
		return g.take(n, id, token)
	case conn.Hub != n.hub || !conn.Codec.Reliable():
		return nil, errEnded
	}
	c := conn.Owner.(*client)
	if !checkReconnectionToken(c.reconnectionKey(), id, token, time.Now()) {
		return nil, errToken
	}
	return c, nil
}

// take brings a connection from another node to this one.
func (g *Gateway) take(n *newcomer, id, token string) (*client, error) {
	if !g.begin(n.tenant.Name) {
		return nil, errLater
	}
	defer g.finish(n.tenant.Name)
	c := &client{g: g, session: g.upstream.Open(n.hub, id), tenant: n.tenant.Name}
	err := g.node.Handoffs.TakeOver(n.r.Context(), n.hub, id, token, func(s handoff.ConnState) (hub.ConnOptions, error) {
		codec, ok := protocol.ByName(s.Subprotocol)
		if !ok {
			return hub.ConnOptions{}, fmt.Errorf("the connection speaks %.50q, which this node does not know", s.Subprotocol)
		}
		g.mu.Lock()
		g.counts[n.tenant.Name]++ // it has been admitted, on the node that it comes from
		g.mu.Unlock()
		return hub.ConnOptions{ID: id, Hub: n.hub, UserID: s.UserID, Codec: codec, Subprotocol: codec.Name(),
			Permissions: s.Permissions.Permissions(), KeepAlive: keepAlive(n.config), Owner: c, OnClosed: c.gone, OnMembershipChange: c.moved}, nil
	})
	switch {
	case err == nil:
		g.metrics.taken.Inc()
		return c, nil
	case errors.Is(err, handoff.ErrNotFound):
		return nil, errEnded
	}
	g.log.Info("take a connection over from another node", "hub", n.hub.String(), "connection", id, "error", err)
	return nil, errLater
}

// luggage is what goes along with a connection to another node.
type luggage struct {
	Key     []byte          `json:"key"` // of reconnection tokens
	Session json.RawMessage `json:"session"`
	Streams *stream.State   `json:"streams,omitempty"`

	States *groupstate.ConnStates `json:"states,omitempty"`
}

func (c *client) pack(session []byte, streams *stream.State) []byte {
	b, err := json.Marshal(luggage{c.reconnectionKey(), session, streams, c.packStates()})
	if err != nil { // it holds nothing that has no JSON form
		return nil
	}
	return b
}

func (c *client) unpack(conn *hub.Conn, b []byte) error {
	var l luggage
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	c.conn, c.key = conn, l.Key
	c.takeStreams(l.Streams)
	c.mu.Lock()
	c.states = l.States
	c.mu.Unlock()
	return c.session.Resume(l.Session)
}

// hooks is what the gateway does when a connection moves between nodes.
func (g *Gateway) hooks() handoff.Hooks {
	client := func(c *hub.Conn) *client { return c.Owner.(*client) }
	return handoff.Hooks{
		Admit: func(c *hub.Conn, token string) bool {
			return checkReconnectionToken(client(c).reconnectionKey(), c.ID, token, time.Now())
		},
		AwaitRequests: func(ctx context.Context, c *hub.Conn) error { return client(c).settle(ctx) },
		Snapshot: func(c *hub.Conn) []byte {
			return client(c).pack(client(c).session.Snapshot(), client(c).giveStreams((*stream.Set).Pack))
		},
		HandOver: func(c *hub.Conn) ([]byte, error) {
			session, err := client(c).session.HandOver()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", handoff.ErrMoving, err)
			}
			return client(c).pack(session, client(c).giveStreams((*stream.Set).Give)), nil
		},
		CancelHandOver: func(c *hub.Conn) {
			client(c).takeStreamsBack()
			client(c).session.CancelHandOver()
		},
		Resume: func(c *hub.Conn, luggage []byte) {
			if err := client(c).unpack(c, luggage); err != nil {
				client(c).g.log.Error("what came along with a connection from another node", "connection", c.ID, "error", err)
			}
		},
	}
}

// reconnectionToken returns a text that only who has the connection can make: until when it is valid, and a code over
// that and the connection's id.
func reconnectionToken(key []byte, connID string, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, reconnectionCode(key, b, connID)...))
}

func checkReconnectionToken(key []byte, connID, token string, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	if !hmac.Equal(b[8:], reconnectionCode(key, b[:8], connID)) {
		return false
	}
	return now.Unix() <= int64(binary.BigEndian.Uint64(b))
}

func reconnectionCode(key, expires []byte, connID string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(expires)
	mac.Write([]byte(connID))
	return mac.Sum(nil)
}
