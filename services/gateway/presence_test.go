package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chatr-dev/chatr/pkg/tenant"
)

// diary is an event handler that notes what it hears of each connection, in order.
type diary struct {
	tenant.Handler

	mu    sync.Mutex
	heard map[string][]string // by connection
}

// keepDiary returns a handler of all system and presence events.
func keepDiary(t *testing.T, groups ...string) *diary {
	d := &diary{heard: map[string][]string{}}
	d.Handler = handler(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		line := strings.TrimPrefix(r.Header.Get("ce-type"), "azure.webpubsub.")
		if strings.HasPrefix(line, "gp.") {
			line += string(body)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		id := r.Header.Get("ce-connectionId")
		d.heard[id] = append(d.heard[id], line)
	})
	d.UserEvents, d.PresenceEvents, d.PresenceGroups = "", []string{"joined", "left"}, groups
	return d
}

// wantHeard waits until the diary has exactly these lines of a connection.
func (d *diary) wantHeard(t *testing.T, connID string, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("got %q", got)
		}
	}()
	eventually(t, fmt.Sprintf("%q, in order", want), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		got = slices.Clone(d.heard[connID])
		return slices.Equal(got, want)
	})
}

// Each way into and out of a group is told, in order: at connect, by the client, by REST on another node, and by the
// end of the connection.
//
// checklist:E11
func TestPresenceEvents(t *testing.T) {
	t.Parallel()
	d := keepDiary(t)
	pairsOf(t, withHandler(d.Handler), func(t *testing.T, a, b *server) {
		eachPubSub(t, func(t *testing.T, codec string) {
			c := a.join(codec, "ana", "given", "given")
			id := c.Info().ConnectionID
			must(t, c.Join(within(t), "own"))
			must(t, c.Join(within(t), "own")) // again is no move
			must(t, b.rest().AddConnectionToGroup(within(t), "by rest", id))
			must(t, b.rest().AddUserToGroup(within(t), "by user", "ana"))
			must(t, c.Leave(within(t), "own"))
			must(t, b.rest().RemoveConnectionFromGroup(within(t), "by rest", id))
			must(t, c.Leave(within(t), "never joined"))
			must(t, b.rest().RemoveUserFromGroup(within(t), "by user", "ana"))
			must(t, c.Close(1000, ""))
			d.wantHeard(t, id, "sys.connect", "sys.connected", `gp.joined{"group":"given"}`, `gp.joined{"group":"own"}`,
				`gp.joined{"group":"by rest"}`, `gp.joined{"group":"by user"}`, `gp.left{"group":"own"}`, `gp.left{"group":"by rest"}`,
				`gp.left{"group":"by user"}`, `gp.left{"group":"given"}`, "sys.disconnected")
		})
	})
}

// Simple clients have no frames to join by, and are told of all the same.
//
// checklist:E11
func TestPresenceOfSimpleClients(t *testing.T) {
	t.Parallel()
	d := keepDiary(t, "room-*")
	s := start(t, withHandler(d.Handler))
	c := s.join("", "ana", "room-1", "hall")
	must(t, s.rest().AddUserToGroup(within(t), "room-2", "ana"))
	must(t, s.rest().AddUserToGroup(within(t), "lobby", "ana"))
	var id string
	eventually(t, "the connection is heard of", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for connID := range d.heard {
			id = connID
		}
		return id != ""
	})
	must(t, s.rest().RemoveUserFromGroup(within(t), "room-1", "ana"))
	must(t, c.Close(1000, ""))
	d.wantHeard(t, id, "sys.connect", "sys.connected", `gp.joined{"group":"room-1"}`, `gp.joined{"group":"room-2"}`,
		`gp.left{"group":"room-1"}`, `gp.left{"group":"room-2"}`, "sys.disconnected")
}
