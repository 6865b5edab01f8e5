// Package roster keeps for each node, beside a lease in Redis, the connections whose end an application wants to hear
// of. A node that finds another one's lease lapsed takes over what that one has left, each connection exactly once among
// the survivors, to say what the dead node cannot say any more.
//
// All is written behind, in batches: nothing waits for it. A list says at least what its node had a moment before it died.
// A node that was taken for dead and is not finds out which connections others have taken.
package roster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Lease is how long a node lives without renewing its lease, unless Options say otherwise.
const Lease = 6 * time.Second

const (
	batch     = 500 // entries of one command
	writeWait = 200 * time.Millisecond
	callTime  = 3 * time.Second
)

// Options say who keeps a roster, and what it does with it.
type Options struct {
	Node   string
	Prefix string        // of keys
	Lease  time.Duration // 0: Lease

	// All yields the connections that the node has, with what to keep about each.
	All func() iter.Seq2[string, []byte]
	// Lapsed is called with a connection of a node that is dead or seems to be, which is kept as this node's own until Drop.
	// It may block.
	Lapsed func(node, id string, entry []byte)
	// Told is called with a connection of this node about which another one has called Tell. It must not block.
	Told func(id string)
}

// Roster is one node's list and its view of the others' leases. Its methods are safe for concurrent use.
type Roster struct {
	Options
	client redis.UniversalClient
	log    *slog.Logger
	hurry  chan struct{} // asks for a renewal

	mu        sync.Mutex        // guards the following
	pending   map[string][]byte // to be written; nil: to be removed
	inherited map[string][]byte // from dead nodes
	told      map[string][]any  // by node: connections whose end has been told for it
	rewrite   bool              // what Redis has may differ from what there is
	claimed   bool              // others may have taken some
	writing   bool              // all is being written
	renewed   time.Time         // when the lease was renewed last
	steady    time.Time         // since when every call has succeeded; zero: the last one has not
	well      bool              // the last call has succeeded
}

// New returns a roster that works while Run does. The client is closed with it.
func New(client redis.UniversalClient, log *slog.Logger, o Options) *Roster {
	if o.Lease <= 0 {
		o.Lease = Lease
	}
	return &Roster{Options: o, client: client, log: log, pending: map[string][]byte{}, inherited: map[string][]byte{}, told: map[string][]any{}, well: true, hurry: make(chan struct{})}
}

// Keep notes a connection, or something new about it.
func (r *Roster) Keep(id string, entry []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inherited, id)
	r.pending[id] = entry
}

// Drop forgets a connection, be it the node's own or one of a dead node.
func (r *Roster) Drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inherited, id)
	r.pending[id] = nil
}

// Tell notes that the end of a dead node's connection is being told, so that the node knows if it is not dead.
func (r *Roster) Tell(node, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told[node] = append(r.told[node], id)
}

func (r *Roster) key(name string) string { return "{" + r.Prefix + ":roster}:" + name }

func (r *Roster) held(node string) string { return r.key("held:" + node) }

// Run works until ctx ends. Then the lease ends too, unless there are connections left for others to take.
func (r *Roster) Run(ctx context.Context) error {
	defer r.client.Close()
	var work sync.WaitGroup
	work.Go(func() { r.every(ctx, r.Lease/3, r.hurry, r.renew) })
	work.Go(func() { r.every(ctx, r.Lease/3, nil, r.takeOver) })
	work.Go(func() { r.every(ctx, writeWait, nil, r.write) })
	work.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return errors.Join(r.write(last), r.call(last, leave, []string{r.key("leases"), r.held(r.Node)}, r.Node).Err())
}

// Refresh renews the lease at once and returns when it is known whether others have told the end of any of this node's
// connections, or when ctx ends.
func (r *Roster) Refresh(ctx context.Context) {
	asked := time.Now()
	select {
	case r.hurry <- struct{}{}:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		done := r.renewed.After(asked) && !r.rewrite && !r.writing
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// every does something now and again, also when it is asked to, until ctx ends. It logs the first failure after a success.
func (r *Roster) every(ctx context.Context, pause time.Duration, asked <-chan struct{}, do func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		was := r.well
		if r.well = err == nil; err != nil {
			r.rewrite, r.steady = true, time.Time{}
		}
		r.mu.Unlock()
		if err != nil && was {
			r.log.Warn("keep the list of connections", "error", err)
		}
		select {
		case <-tick.C:
		case <-asked:
		case <-ctx.Done():
			return
		}
	}
}

// Each script reads the one clock that counts, that of Redis, as milliseconds.
const now = `local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

var (
	// renew answers 0, or 1 when the lease had lapsed or is new, and 2 when others have taken something meanwhile.
	renew = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if until_ and tonumber(until_) >= now then return 0 end
return 1 + redis.call('DEL', KEYS[2])`)

	// lapsed answers with the nodes whose leases have lapsed.
	lapsed = redis.NewScript(now + `
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)`)

	// claim moves some connections of a dead node to another one and answers with them, with none when none is left.
	claim = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) >= now then return {} end
local some = redis.call('HRANDFIELD', KEYS[2], ARGV[2], 'WITHVALUES')
for i = 1, #some, 2 do
	redis.call('HSET', KEYS[3], some[i], some[i + 1])
	redis.call('HDEL', KEYS[2], some[i])
end
if #some > 0 then redis.call('SET', KEYS[4], 1, 'PX', 3600000) end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return some`)

	// leave ends a lease if nothing is left.
	leave = redis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0`)
)

func (r *Roster) call(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.Run(ctx, r.client, keys, args...)
}

// renew renews the lease.
func (r *Roster) renew(ctx context.Context) error {
	was, err := r.call(ctx, renew, []string{r.key("leases"), r.key("claimed:" + r.Node)}, r.Node, r.Lease.Milliseconds()).Int()
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewed = time.Now()
	if r.steady.IsZero() {
		r.steady = r.renewed
	}
	r.rewrite, r.claimed = r.rewrite || was > 0, r.claimed || was == 2
	return nil
}

// write brings out what has changed, or all if what Redis has may differ.
func (r *Roster) write(ctx context.Context) error {
	r.mu.Lock()
	changes, all, claimed := r.pending, r.rewrite, r.claimed
	r.pending = map[string][]byte{}
	r.rewrite, r.claimed, r.writing = false, false, all
	mine := maps.Clone(r.inherited)
	told := r.told
	r.told = map[string][]any{}
	r.mu.Unlock()
	err := r.tell(ctx, told)
	switch {
	case err != nil:
	case all:
		err = r.mend(ctx, mine, claimed)
	default:
		return r.apply(ctx, changes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing = false
	if err != nil { // every sees to it that all is written again
		r.claimed = r.claimed || claimed
		for node, ids := range told {
			r.told[node] = append(r.told[node], ids...)
		}
	}
	return err
}

// tell brings out whose end has been told.
func (r *Roster) tell(ctx context.Context, told map[string][]any) error {
	if len(told) == 0 {
		return nil
	}
	_, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for node, ids := range told {
			for part := range slices.Chunk(ids, batch) {
				pipe.SAdd(ctx, r.key("told:"+node), part...)
			}
			pipe.Expire(ctx, r.key("told:"+node), time.Hour)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write whose end has been told: %w", err)
	}
	return nil
}

// mend makes the list in Redis what it should be: all that there is and what is inherited. Others may have taken
// connections, and told their end.
func (r *Roster) mend(ctx context.Context, mine map[string][]byte, claimed bool) error {
	for id, entry := range r.All() {
		mine[id] = entry
	}
	there, err := r.client.HKeys(ctx, r.held(r.Node)).Result()
	if err != nil {
		return fmt.Errorf("read the list: %w", err)
	}
	if claimed {
		told, err := r.client.SMembers(ctx, r.key("told:"+r.Node)).Result()
		if err != nil {
			return fmt.Errorf("read whose end has been told: %w", err)
		}
		for _, id := range told {
			if _, ok := mine[id]; ok {
				delete(mine, id)
				r.Told(id)
			}
		}
	}
	for _, id := range there {
		if _, ok := mine[id]; !ok {
			mine[id] = nil
		}
	}
	return r.apply(ctx, mine)
}

func (r *Roster) apply(ctx context.Context, changes map[string][]byte) error {
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var set []any
	var del []string
	for id, entry := range changes {
		if entry == nil {
			del = append(del, id)
		} else {
			set = append(set, id, entry)
		}
	}
	key := r.held(r.Node)
	_, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for part := range slices.Chunk(set, 2*batch) {
			pipe.HSet(ctx, key, part...)
		}
		for part := range slices.Chunk(del, batch) {
			pipe.HDel(ctx, key, part...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// takeOver takes what dead nodes have left, once others have had the time to renew their leases, too, since Redis was
// there. Survivors share it as they come.
func (r *Roster) takeOver(ctx context.Context) error {
	r.mu.Lock()
	steady := r.steady
	r.mu.Unlock()
	if steady.IsZero() || time.Since(steady) < r.Lease+r.Lease/3 {
		return nil
	}
	dead, err := r.call(ctx, lapsed, []string{r.key("leases")}).StringSlice()
	if err != nil {
		return fmt.Errorf("look for lapsed leases: %w", err)
	}
	for _, node := range dead {
		if node == r.Node { // about to renew
			continue
		}
		n := 0
		for {
			some, err := r.call(ctx, claim, []string{r.key("leases"), r.held(node), r.held(r.Node), r.key("claimed:" + node)}, node, batch).StringSlice()
			if err != nil {
				return fmt.Errorf("take over from a lapsed lease: %w", err)
			}
			if len(some) == 0 {
				break
			}
			for pair := range slices.Chunk(some, 2) {
				r.mu.Lock()
				r.inherited[pair[0]] = []byte(pair[1])
				r.mu.Unlock()
				r.Lapsed(node, pair[0], []byte(pair[1]))
				n++
			}
		}
		r.log.Warn("a node is gone", "node", node, "connections", n)
	}
	return nil
}
