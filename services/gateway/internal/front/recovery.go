package front

import (
	"errors"
	"fmt"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// recover gives a reliable connection a new socket, wherever the connection is. A refusal is an upgrade and a close with
// 1008, since SDKs take any other answer as "try again" (client-json.md 8.2); such an answer is returned when that
// is what the client should do.
func (h *handshake) recover(id, token string) *refusal {
	c, err := h.recoverable(id, token)
	var name string
	switch {
	case err == nil:
		name = c.Conn().Subprotocol
	case errors.Is(err, errLater):
		h.front.Log.Debug("put a recovery off", "hub", h.hub.String(), "connection", id, "error", err)
		return refuseForNow()
	default:
		_, name = selectCodec("", socket.OfferedSubprotocols(h.r))
	}
	sock, acceptErr := socket.Accept(h.w, h.r, name, h.config.Compression)
	if acceptErr != nil {
		h.front.Log.Debug("accept socket", "hub", h.hub.String(), "connection", id, "error", acceptErr)
		return nil
	}
	if err != nil {
		h.front.metrics.refused.WithLabelValues("101").Inc()
		h.front.Log.Debug("refuse recovery", "hub", h.hub.String(), "error", err)
		h.front.Sockets.Go(func() { sock.Refuse(hub.CodePolicy, err.Error()) })
		return nil
	}
	h.front.metrics.recovered.Inc()
	c.Serve(sock, "")
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
func (h *handshake) recoverable(id, token string) (*session.Client, error) {
	if h.front.Node.Handoffs.Moving(id) {
		return nil, errLater
	}
	conn := h.front.Conns.Conn(id)
	switch {
	case conn == nil:
		return h.takeOver(id, token)
	case conn.Hub != h.hub || !conn.Codec.Reliable():
		return nil, errEnded
	}
	c := conn.Owner.(*session.Client)
	if !c.MayReconnect(token) {
		return nil, errToken
	}
	return c, nil
}

// takeOver brings a connection from another node to this one.
func (h *handshake) takeOver(id, token string) (*session.Client, error) {
	if h.countedAsHandshake = h.front.Admission.beginConnecting(h.tenant.Name); !h.countedAsHandshake {
		return nil, errLater
	}
	c := h.front.Clients.New(h.front.Upstream.Open(h.hub, id), h.tenant.Name, session.Mode{})
	err := c.TakeOver(h.r.Context(), h.hub, id, token, func(t handoff.ConnState) (hub.ConnOptions, error) {
		codec, ok := protocol.ByName(t.Subprotocol)
		if !ok {
			return hub.ConnOptions{}, fmt.Errorf("the connection speaks %.50q, which this node does not know", t.Subprotocol)
		}
		h.front.Admission.addTakenOver(h.tenant.Name)
		return hub.ConnOptions{ID: id, Hub: h.hub, UserID: t.UserID, Codec: codec, Subprotocol: codec.Name(),
			Permissions: t.Permissions.Permissions(), KeepAlive: keepAlive(h.config)}, nil
	})
	switch {
	case err == nil:
		h.front.metrics.taken.Inc()
		return c, nil
	case errors.Is(err, handoff.ErrNotFound):
		return nil, errEnded
	}
	h.front.Log.Info("take a connection over from another node", "hub", h.hub.String(), "connection", id, "error", err)
	return nil, errLater
}
