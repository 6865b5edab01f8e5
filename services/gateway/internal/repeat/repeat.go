// Package repeat remembers which requests that may come twice have been carried out, so that each is carried out once whichever
// gateway it meets: in Redis, or without Redis in this process, with which it is forgotten.
//
// A request is claimed before it is carried out, and its outcome noted afterwards. One whose claim is not followed by an outcome
// within ClaimTime may have been carried out or not, like one of Unknown outcome: it is claimed anew with Again, and whoever
// carries it out sees to it that its effect is had once (node.Node.SendRepeatable).
package repeat

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

const (
	// Window is how long after it was sent first a request may be repeated.
	Window = 5 * time.Minute
	// ClaimTime is how long a request may be under way; then it counts as one of unknown outcome.
	ClaimTime = 6 * time.Second

	storeTime = 3 * time.Second
)

// Bounds of what is remembered in this process. In Redis a request takes some 200 bytes.
const (
	maxRequests       = 250_000
	maxTenantRequests = 100_000
)

// ErrFull says that no more requests can be remembered now.
var ErrFull = errors.New("too many requests of the last minutes are remembered; send it later, or without a request id")

// Request says which request is meant.
type Request struct {
	Tenant string
	ID     string        // within the tenant: of which hub, client and request
	Print  string        // of what it asks for, without spaces
	Keep   time.Duration // how long it is remembered
}

// State is what is known of a request that is claimed.
type State int

// The states. With the first two the claim is the caller's.
const (
	First     State = iota // it has not been carried out
	Again                  // it has been tried, and nobody knows whether it was carried out
	Done                   // it has been carried out
	UnderWay               // somebody carries it out now
	Different              // its id has been used for something else
)

// Outcome is how the caller of a claim has fared.
type Outcome int

// The outcomes.
const (
	CarriedOut Outcome = iota // once and for all
	NotDone                   // certainly not; with First it is forgotten
	Unknown
)

// Claim is the right to carry a request out.
type Claim struct {
	request Request
	token   string
	state   State
}

// MessageID names the request among all, in 32 characters.
func (c Claim) MessageID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s/%s", len(c.request.Tenant), c.request.Tenant, c.request.ID))
	return hex.EncodeToString(sum[:16])
}

// Requests remembers. It is safe for concurrent use.
type Requests struct {
	client redis.UniversalClient // nil: in this process
	prefix string

	mu      sync.Mutex // guards the following
	entries map[string]*list.Element
	order   list.List      // of *entry, by the time of their end as far as their Keep is the same
	tenants map[string]int // how many entries each has
}

type entry struct {
	key, tenant string
	record      record
	ends        time.Time
}

// record is what is known of a request.
type record struct {
	state State // Done; UnderWay; or Again, when nobody knows
	until time.Time
	token string
	print string
}

// New returns a memory in client's Redis, whose keys begin with prefix; or in this process if client is nil. The client stays
// the caller's.
func New(client redis.UniversalClient, prefix string) *Requests {
	return &Requests{client: client, prefix: prefix, entries: map[string]*list.Element{}, tenants: map[string]int{}}
}

func (r *Requests) key(q Request) string {
	return fmt.Sprintf("%s:repeat:%d/%s/%s", r.prefix, len(q.Tenant), q.Tenant, q.ID)
}

// Claim says what is known of q, and claims it with First and Again. Errors are ErrFull and cluster.ErrUnavailable.
func (r *Requests) Claim(ctx context.Context, q Request) (Claim, State, error) {
	c := Claim{request: q, token: token()}
	var err error
	if r.client == nil {
		c.state, err = r.claimHere(q, c.token, time.Now())
	} else {
		c.state, err = r.claimRedis(ctx, q, c.token)
	}
	return c, c.state, err
}

// Finish notes the outcome of a claim, unless somebody else has claimed the request meanwhile. An error is cluster.ErrUnavailable;
// the request then becomes one of unknown outcome by itself.
func (r *Requests) Finish(ctx context.Context, c Claim, o Outcome) error {
	if o == NotDone && c.state == Again {
		o = Unknown // as before
	}
	if r.client != nil {
		return r.finishRedis(ctx, c, o)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[r.key(c.request)]
	if e == nil || e.Value.(*entry).record.token != c.token {
		return nil
	}
	switch record := &e.Value.(*entry).record; o {
	case CarriedOut:
		record.state = Done
	case Unknown:
		record.state = Again
	case NotDone:
		r.forget(e)
	}
	return nil
}

func token() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// claimHere is Claim in this process.
func (r *Requests) claimHere(q Request, token string, now time.Time) (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.order.Front(); e != nil && !now.Before(e.Value.(*entry).ends); e = r.order.Front() {
		r.forget(e)
	}
	key := r.key(q)
	e := r.entries[key]
	if e != nil && !now.Before(e.Value.(*entry).ends) { // behind one that is kept longer
		r.forget(e)
		e = nil
	}
	if e == nil {
		if len(r.entries) >= maxRequests || r.tenants[q.Tenant] >= maxTenantRequests {
			return 0, ErrFull
		}
		r.tenants[q.Tenant]++
		r.entries[key] = r.order.PushBack(&entry{key, q.Tenant, record{UnderWay, now.Add(ClaimTime), token, q.Print}, now.Add(q.Keep)})
		return First, nil
	}
	known := &e.Value.(*entry).record
	switch {
	case known.print != q.Print:
		return Different, nil
	case known.state == Done:
		return Done, nil
	case known.state == UnderWay && now.Before(known.until):
		return UnderWay, nil
	}
	known.state, known.until, known.token = UnderWay, now.Add(ClaimTime), token
	return Again, nil
}

// forget drops an entry. The caller has mu.
func (r *Requests) forget(e *list.Element) {
	gone := r.order.Remove(e).(*entry)
	delete(r.entries, gone.key)
	if r.tenants[gone.tenant]--; r.tenants[gone.tenant] == 0 {
		delete(r.tenants, gone.tenant)
	}
}

// In Redis a record is a string of four words: its state (done, under or again), until when it is under way in milliseconds of
// Redis's clock, the token of its claim, and the print. KEYS[1] is the record.

// claim claims it with the token ARGV[1] for ARGV[2] ms, as a request of the print ARGV[3] that is kept for ARGV[4] ms, and returns the State.
var claim = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = redis.call('GET', KEYS[1])
local claimed = string.format('under %.0f %s %s', now + ARGV[2], ARGV[1], ARGV[3])
if not known then
	redis.call('SET', KEYS[1], claimed, 'PX', ARGV[4])
	return 0
end
local state, till, token, print = string.match(known, '^(%S+) (%S+) (%S+) (%S+)$')
if print ~= ARGV[3] then return 4 end
if state == 'done' then return 2 end
if state == 'under' and tonumber(till) > now then return 3 end
redis.call('SET', KEYS[1], claimed, 'KEEPTTL')
return 1`)

// finish notes the state ARGV[2] for the claim with the token ARGV[1]; none: it is forgotten.
var finish = redis.NewScript(`
local known = redis.call('GET', KEYS[1])
if not known then return 0 end
local state, till, token, print = string.match(known, '^(%S+) (%S+) (%S+) (%S+)$')
if token ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2] .. ' 0 ' .. token .. ' ' .. print, 'KEEPTTL')
return 1`)

func (r *Requests) claimRedis(ctx context.Context, q Request, token string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	n, err := claim.Run(ctx, r.client, []string{r.key(q)}, token, ClaimTime.Milliseconds(), q.Print, q.Keep.Milliseconds()).Int()
	if err != nil {
		return 0, fmt.Errorf("%w: claim a request that may be repeated: %w", cluster.ErrUnavailable, err)
	}
	return State(n), nil
}

func (r *Requests) finishRedis(ctx context.Context, c Claim, o Outcome) error {
	state := map[Outcome]string{CarriedOut: "done", Unknown: "again"}[o]
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := finish.Run(ctx, r.client, []string{r.key(c.request)}, c.token, state).Err(); err != nil {
		return fmt.Errorf("%w: note the outcome of a request that may be repeated: %w", cluster.ErrUnavailable, err)
	}
	return nil
}
