package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// reconnectionLife is how long a reconnection token is valid (auth.md section 6).
const reconnectionLife = 7 * 24 * time.Hour

// connected is the first message of a PubSub connection's socket. A reliable one gets a new token each time.
func (c *Client) connected() protocol.Connected {
	connected := protocol.Connected{UserID: c.conn.UserID, ConnectionID: c.conn.ID}
	if c.conn.Codec.Reliable() {
		connected.ReconnectionToken = ReconnectionToken(c.ReconnectionKey(), c.conn.ID, time.Now().Add(reconnectionLife))
	}
	return connected
}

// ReconnectionKey signs the connection's reconnection tokens. The node that made the connection derives it from a secret
// of its own; a node that has taken it over was given it.
func (c *Client) ReconnectionKey() []byte {
	if c.key != nil {
		return c.key
	}
	mac := hmac.New(sha256.New, c.shared.secret)
	mac.Write([]byte(c.conn.ID))
	return mac.Sum(nil)
}

// MayReconnect reports whether token is a valid reconnection token of the connection.
func (c *Client) MayReconnect(token string) bool {
	return checkReconnectionToken(c.ReconnectionKey(), c.conn.ID, token, time.Now())
}

// ReconnectionToken returns a text that only who has the connection can make: until when it is valid, and a code over
// that and the connection's id.
func ReconnectionToken(key []byte, connID string, expires time.Time) string {
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
