package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// MaxGroups is how many groups one connection may be in. The protocol names no limit; memory does.
const MaxGroups = 10_000

// ConnOptions is what is fixed about a connection.
type ConnOptions struct {
	ID     string
	Hub    webpubsub.HubKey
	UserID string         // empty: anonymous
	Codec  protocol.Codec // how frames look, and whether the connection is reliable
	// Subprotocol is the name that was negotiated. For a simple client its event handler may have chosen it, so that it need
	// not be the name of Codec.
	Subprotocol string
	Permissions webpubsub.Permissions
	KeepAlive   time.Duration // interval of pings, 1 to 120 s (client-json.md section 10); 0: none
	HandedOver  bool          // another node has handed the connection over to this one, which may have made it long before
	Owner       any           // what the maker of the connection keeps with it
	// OnClosed is called once, from a goroutine that it must not block, when the connection has ended for good.
	OnClosed func(*Conn, Closing)
	// OnMembershipChange is called when the connection has joined or left a group, in order and from a goroutine that it must
	// not block; before OnClosed also for each group that it was still in. The groups that it begins with are not reported.
	// It may be nil.
	OnMembershipChange func(c *Conn, group string, joined bool)
}

// Conn is one client connection. It outlives its socket when its codec is reliable. Methods are safe for concurrent use.
type Conn struct {
	ConnOptions
	w *writer

	// ReaderBusy says that the reader is at work on a request and does not read, so that no sign of life can be seen.
	ReaderBusy atomic.Bool

	groups map[string]struct{} // guarded by Registry.mu
	ended  bool                // guarded by Registry.mu

	shadow   atomic.Pointer[Conn] // of a connection that is being handed over, see handoff.go
	shadowOf *Conn                // whose shadow this is; nil: it is none

	mu   sync.Mutex // guards Permissions and the following
	acks ackMemory

	writing
}

// writing is the part of a connection that only the owner of its writer touches.
type writing struct {
	state    connState
	compress bool // the socket's client takes compressed frames

	sock    *socket.Socket // the last one; closed when state is detached
	places  []place        // on all lists that the connection is on
	outbox  *outbox        // what waits for a slow client; nil while it keeps up
	unacked *unackedBuffer // of a reliable connection

	mixedIn  uint64 // segment in which what comes from several sources waits for it
	stagedIn uint64 // segment in which it has a stage
	stage    int    // which of the writer's stages that is

	detachments uint64      // how often it has been detached
	expiry      *time.Timer // of a detached connection

	pingScheduled  bool   // it is on the wheel
	activityAtPing uint32 // the socket's activity at the last ping
}

// connState is where a connection is in its life, see lifecycle.go.
type connState uint8

const (
	stateNew connState = iota // before its first socket
	stateAttached
	stateDetached
	stateEnded
)

// place is where a connection stands in its writer's part of a list.
type place struct {
	list  *list
	index int
}

// reportMembership reports that c has joined or left a list, if that is a group's.
func (c *Conn) reportMembership(l *list, joined bool) {
	if c.OnMembershipChange != nil && l.group != "" {
		c.OnMembershipChange(c, l.group, joined)
	}
}

// Allows reports whether the connection may do p with group.
func (c *Conn) Allows(p webpubsub.Permission, group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Permissions.Allows(p, group)
}

// Grant allows p for the literal group; it returns webpubsub.ErrRuleLimit when there are too many, or ErrHandoff.
func (c *Conn) Grant(p webpubsub.Permission, group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Frozen() {
		return ErrHandoff
	}
	return c.Permissions.Grant(p, group)
}

// Revoke denies p for the literal group; it returns webpubsub.ErrRuleLimit when there are too many, or ErrHandoff.
func (c *Conn) Revoke(p webpubsub.Permission, group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Frozen() {
		return ErrHandoff
	}
	return c.Permissions.Revoke(p, group)
}

// KnowsAckID reports whether a request with that ackId has succeeded before (client-json.md 3.2).
func (c *Conn) KnowsAckID(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acks.has(id)
}

// RememberAckID remembers that the request with that ackId has succeeded. It forgets the oldest of more than 1,000.
func (c *Conn) RememberAckID(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks.add(id)
}

// PermissionsAndAckIDs returns the connection's permissions and the ackIds it remembers, oldest first, for another node. The
// connection is frozen.
func (c *Conn) PermissionsAndAckIDs() (webpubsub.Permissions, []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Permissions, slices.Concat(c.acks.ids[c.acks.next:], c.acks.ids[:c.acks.next])
}

// maxAcks is how many ackIds a connection remembers (client-json.md 3.2).
const maxAcks = 1000

// ackMemory is the last maxAcks ackIds. SDKs count upwards, so that most ids are known to be new by max alone, and the search
// through all of them is rare.
type ackMemory struct {
	ids  []uint64 // a ring once it has maxAcks
	next int      // index of the oldest, which the next id replaces
	max  uint64   // the largest id ever
}

// has reports whether id is among the ackIds.
func (a *ackMemory) has(id uint64) bool {
	if id > a.max {
		return false
	}
	for _, known := range a.ids {
		if known == id {
			return true
		}
	}
	return false
}

// add adds id, in the place of the oldest when there are maxAcks.
func (a *ackMemory) add(id uint64) {
	a.max = max(a.max, id)
	if len(a.ids) < maxAcks {
		a.ids = append(a.ids, id)
		return
	}
	a.ids[a.next] = id
	a.next = (a.next + 1) % maxAcks
}
