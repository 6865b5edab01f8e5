package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// reconnectionLife is how long a reconnection token is valid (auth.md section 6).
const reconnectionLife = 7 * 24 * time.Hour

// greeting is the first message of a PubSub connection's socket. A reliable one gets a new token each time.
func (g *Gateway) greeting(c *hub.Conn) protocol.Connected {
	connected := protocol.Connected{UserID: c.UserID, ConnectionID: c.ID}
	if c.Codec.Reliable() {
		connected.ReconnectionToken = reconnectionToken(g.secret, c.ID, time.Now().Add(reconnectionLife))
	}
	return connected
}

// recover gives a reliable connection a new socket. It always upgrades, since SDKs take any other answer as "try
// again"; a refusal is a close with 1008 (client-json.md 8.2).
func (g *Gateway) recover(w http.ResponseWriter, n *newcomer, id, token string) {
	c, err := g.recoverable(n, id, token)
	var name string
	if err == nil {
		name = c.conn.Name
	} else {
		_, name = selectCodec("", socket.Offered(n.r))
	}
	sock, acceptErr := socket.Accept(w, n.r, name)
	if acceptErr != nil {
		g.log.Debug("accept socket", "hub", n.hub.String(), "connection", id, "error", acceptErr)
		return
	}
	if err != nil {
		g.metrics.refused.WithLabelValues("101").Inc()
		g.log.Debug("refuse recovery", "hub", n.hub.String(), "error", err)
		g.sockets.Go(func() { sock.Refuse(hub.CodePolicy, err.Error()) })
		return
	}
	g.metrics.recovered.Inc()
	g.serve(c, sock)
}

// recoverable returns the client of the connection, if the token proves a right to it.
func (g *Gateway) recoverable(n *newcomer, id, token string) (*client, error) {
	if !checkReconnectionToken(g.secret, id, token, time.Now()) {
		//lint:ignore ST1005 the client shows it
		return nil, errors.New("The reconnection token is not valid.")
	}
	c := g.conns.Conn(id)
	if c == nil || c.Hub != n.hub || !c.Codec.Reliable() {
		//lint:ignore ST1005 the client shows it
		return nil, errors.New("The connection does not exist any more.")
	}
	return c.Owner.(*client), nil
}

// reconnectionToken returns a text that only we can make: until when it is valid, and a code over that and the
// connection's id.
func reconnectionToken(secret []byte, connID string, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, reconnectionCode(secret, b, connID)...))
}

func checkReconnectionToken(secret []byte, connID, token string, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	if !hmac.Equal(b[8:], reconnectionCode(secret, b[:8], connID)) {
		return false
	}
	return now.Unix() <= int64(binary.BigEndian.Uint64(b))
}

func reconnectionCode(secret, expires []byte, connID string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write(expires)
	mac.Write([]byte(connID))
	return mac.Sum(nil)
}
