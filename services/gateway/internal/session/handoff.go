package session

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
)

// handoffState is what goes along with a connection to another node, beside what the node itself keeps of it. Nodes of the
// version before read it, and write it.
type handoffState struct {
	Key     []byte                 `json:"key"` // of reconnection tokens
	Session json.RawMessage        `json:"session"`
	Streams *stream.State          `json:"streams,omitempty"`
	States  *groupstate.ConnStates `json:"states,omitempty"`
}

// encodeHandoff returns the client's handoffState with what event handlers' side and streams have of it.
func (c *Client) encodeHandoff(events []byte, streams *stream.State) []byte {
	b, err := json.Marshal(handoffState{c.ReconnectionKey(), events, streams, c.statesToHandOff()})
	if err != nil { // it holds nothing that has no JSON form
		return nil
	}
	return b
}

// decodeHandoff makes the client, whose connection has come from another node, go on with what has come along.
func (c *Client) decodeHandoff(conn *hub.Conn, b []byte) error {
	var h handoffState
	if err := json.Unmarshal(b, &h); err != nil {
		return err
	}
	c.conn, c.key = conn, h.Key
	c.restoreStreams(h.Streams)
	c.mu.Lock()
	c.states = h.States
	c.mu.Unlock()
	return c.events.Resume(h.Session)
}

// Hooks is what clients do when their connections move between nodes. The owner of each connection must be a *Client.
func Hooks() handoff.Hooks {
	client := func(c *hub.Conn) *Client { return c.Owner.(*Client) }
	return handoff.Hooks{
		Admit:         func(c *hub.Conn, token string) bool { return client(c).MayReconnect(token) },
		AwaitRequests: func(ctx context.Context, c *hub.Conn) error { return client(c).awaitIdle(ctx) },
		Export: func(c *hub.Conn) []byte {
			return client(c).encodeHandoff(client(c).events.Export(), client(c).streamsToHandOff((*stream.Set).Export))
		},
		HandOver: func(c *hub.Conn) ([]byte, error) {
			events, err := client(c).events.HandOver()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", handoff.ErrMoving, err)
			}
			return client(c).encodeHandoff(events, client(c).streamsToHandOff((*stream.Set).HandOver)), nil
		},
		CancelHandOver: func(c *hub.Conn) {
			client(c).keepStreams()
			client(c).events.CancelHandOver()
		},
		Resume: func(c *hub.Conn, state []byte) {
			if err := client(c).decodeHandoff(c, state); err != nil {
				client(c).shared.log.Error("what came along with a connection from another node", "connection", c.ID, "error", err)
			}
		},
	}
}
