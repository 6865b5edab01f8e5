package orphans

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

const (
	batch     = 500 // entries of one command
	writeWait = 200 * time.Millisecond
	callTime  = 3 * time.Second
)

// started is what sinceBoot counts from where the system has nothing better.
var started = time.Now()

// list is what one node has in Redis: its lease, and what is held of its connections, beside those of the other nodes.
// Its keys, scripts and entries are shared with nodes of the version before. Its methods are safe for concurrent use.
type list struct {
	client redis.UniversalClient
	log    *slog.Logger
	node   string
	prefix string // of keys

	address string        // at which others can ask this node whether it has Redis; empty: they cannot
	lease   time.Duration // how long the node lives without a sign of life

	taken    prometheus.Counter
	links    *links        // of dead nodes, that are to be ended at Redis
	orphans  chan Orphan   // claimed, on their way to Next
	renewNow chan struct{} // asks for a renewal

	mu             sync.Mutex        // guards the following
	orphansHeld    map[string][]byte // by connection: orphans that this node holds until their ends are reported
	unsure         map[string]Orphan // by connection: claimed, or not, in a call that has not been answered
	found          []Orphan          // of those, what has been claimed, to be handed out
	mustRewrite    bool              // everything is to be written again, as what Redis has may differ
	rewriteRunning bool              // everything is being written; no claim may run meanwhile (beginClaim)
	claimRunning   bool              // a claim is on its way to Redis or back
	renewed        time.Time         // when the lease was renewed last
	alone          bool              // the lease is over, and so is everybody's
	peers          map[string]string // the other nodes that had a lease when this one's was renewed last, with their addresses; empty: it has none
	until          time.Duration     // on the clock of sinceBoot, when the lease is over if it is not renewed: not later than Redis thinks
	allWellSince   time.Time         // since when the lease is renewed and every call succeeds; zero: a call has failed since
	lastCallOK     bool              // so that only the first failure is logged
}

// Orphan is a connection of a node that is dead, or seems to be, which this node has claimed.
type Orphan struct {
	Node   string
	ConnID string
	Entry  []byte // that was held of it
}

func newList(client redis.UniversalClient, log *slog.Logger, node, prefix string, lease time.Duration) *list {
	return &list{client: client, log: log, node: node, prefix: prefix, lease: lease, links: newLinks(), orphans: make(chan Orphan), renewNow: make(chan struct{}),
		orphansHeld: map[string][]byte{}, unsure: map[string]Orphan{}, peers: map[string]string{}, lastCallOK: true,
		taken: prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_connections_taken_for_dead_total",
			Help: "Connections of this gateway whose disconnected event another one has sent, since the lease of this one was over."})}
}

// key returns a key, in the one slot of a cluster that all of them have. Its first part is older than this package's name.
func (l *list) key(name string) string { return "{" + l.prefix + ":roster}:" + name }

func (l *list) heldKey(node string) string { return l.key("held:" + node) }

// leaseKept is what renew answers when the lease had not lapsed. The script has the number too.
const leaseKept = 0

// Each script reads the one clock that counts, that of Redis, as milliseconds.
const now = `local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

var (
	// renew answers leaseKept, or more if the lease had lapsed or there was none, and with the nodes whose leases have not lapsed, each
	// before its address. KEYS[2] is for nodes of the version before, which do not look at what others have claimed without it.
	renew = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('SET', ARGV[3] .. ARGV[1], ARGV[4], 'PX', 10 * ARGV[2])
local answer = {0}
if not until_ or tonumber(until_) < now then answer[1] = 1 + redis.call('DEL', KEYS[2]) end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
	answer[#answer + 1] = node
	answer[#answer + 1] = redis.call('GET', ARGV[3] .. node) or ''
end
return answer`)

	// lapsed answers with two lists: the nodes whose leases have lapsed, and those whose leases have been ended by others because of
	// that, lately, and that have not been heard of since.
	lapsed = redis.NewScript(now + `
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local gone = {}
for _, node in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
	local until_ = redis.call('ZSCORE', KEYS[1], node)
	if until_ and tonumber(until_) >= now then redis.call('ZREM', KEYS[2], node) else gone[#gone + 1] = node end
end
return {redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now), gone}`)

	// hold writes entries into a node's list, but for those that others have claimed, with which it answers. Without a lease it fails:
	// others might claim at once what it writes. So whoever has an entry written knows that nobody else has it, as long as the lease is
	// not over.
	hold = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) < now then return redis.error_reply('the lease is over') end
local any, taken = redis.call('EXISTS', KEYS[3]) == 1, {}
for i = 2, #ARGV, 2 do
	if any and redis.call('SISMEMBER', KEYS[3], ARGV[i]) == 1 then
		taken[#taken + 1] = ARGV[i]
	else
		redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
	end
end
return taken`)

	// claim moves those of some connections that a dead node still has to another one, and answers with them and their entries. From
	// then on it is the other one that reports their ends.
	claim = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) >= now then return {} end
local some = {}
for i = 2, #ARGV do
	local entry = redis.call('HGET', KEYS[2], ARGV[i])
	if entry then
		redis.call('HSET', KEYS[3], ARGV[i], entry)
		redis.call('HDEL', KEYS[2], ARGV[i])
		redis.call('SADD', KEYS[6], ARGV[i])
		some[#some + 1] = ARGV[i]
		some[#some + 1] = entry
	end
end
if #some > 0 then
	redis.call('SET', KEYS[4], 1, 'PX', 3600000)
	redis.call('PEXPIRE', KEYS[6], 3600000)
end
if redis.call('EXISTS', KEYS[2]) == 0 then
	redis.call('ZREM', KEYS[1], ARGV[1])
	redis.call('ZADD', KEYS[5], now + 900000, ARGV[1])
end
return some`)

	// leave ends a lease if nothing is left.
	leave = redis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0`)
)

func (l *list) call(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.Run(ctx, l.client, keys, args...)
}

// every calls do after each pause, and at once when asked, until ctx ends. A failure asks for everything to be written again;
// the first one after a success is logged.
func (l *list) every(ctx context.Context, pause time.Duration, asked <-chan struct{}, do func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		wasOK := l.lastCallOK
		if l.lastCallOK = err == nil; err != nil {
			l.mustRewrite, l.allWellSince = true, time.Time{}
		}
		l.mu.Unlock()
		if err != nil && wasOK {
			l.log.Warn("keep the list of connections", "error", err)
		}
		select {
		case <-tick.C:
		case <-asked:
		case <-ctx.Done():
			return
		}
	}
}

// renewLease keeps the lease until ctx ends.
func (l *list) renewLease(ctx context.Context) { l.every(ctx, l.lease/3, l.renewNow, l.renewOnce) }

func (l *list) renewOnce(ctx context.Context) error {
	asked := sinceBoot()
	keys := []string{l.key("leases"), l.key("claimed:" + l.node)}
	answer, err := l.call(ctx, renew, keys, l.node, l.lease.Milliseconds(), l.key("address:"), l.address).Slice()
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed, l.until, l.alone = time.Now(), asked+l.lease, false
	if l.allWellSince.IsZero() {
		l.allWellSince = l.renewed
	}
	l.mustRewrite = l.mustRewrite || answer[0] != int64(leaseKept)
	clear(l.peers)
	for pair := range slices.Chunk(answer[1:], 2) {
		if node, _ := pair[0].(string); node != l.node {
			l.peers[node], _ = pair[1].(string)
		}
	}
	return nil
}

// mayReport reports whether nobody can have claimed, nor can claim soon, what this node has written: its lease lasts for a while yet, or
// there is nobody who could.
func (l *list) mayReport() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone || sinceBoot() < l.until-l.lease/3
}

// askRenewal has the lease renewed at once, unless that is under way.
func (l *list) askRenewal() {
	select {
	case l.renewNow <- struct{}{}:
	default:
	}
}

// refresh renews the lease at once and returns when it is known whether others have reported the end of any of this node's
// connections, or when ctx ends.
func (l *list) refresh(ctx context.Context) {
	asked := time.Now()
	select {
	case l.renewNow <- struct{}{}:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		done := l.renewed.After(asked) && !l.mustRewrite && !l.rewriteRunning
		l.mu.Unlock()
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

// endLease ends the lease, unless there are connections left for others to claim.
func (l *list) endLease(ctx context.Context) error {
	return l.call(ctx, leave, []string{l.key("leases"), l.heldKey(l.node)}, l.node).Err()
}

// claimOrphans claims what dead nodes have held, until ctx ends. Next hands it out.
func (l *list) claimOrphans(ctx context.Context) { l.every(ctx, l.lease/3, nil, l.claimOnce) }

// claimOnce claims what dead nodes have held, once others have had the time to renew their leases, too, since Redis was
// there. Survivors share it as they come.
func (l *list) claimOnce(ctx context.Context) error {
	l.mu.Lock()
	found := l.found
	l.found = nil
	l.mu.Unlock()
	for _, orphan := range found {
		if err := l.handOut(ctx, orphan); err != nil {
			return err
		}
	}
	if !l.maySeeDead() {
		return nil
	}
	dead, gone, err := l.findDead(ctx)
	if err != nil {
		return err
	}
	l.endAllLinks(ctx, append(gone, dead...))
	for _, node := range dead {
		n, err := l.claimFrom(ctx, node)
		if err != nil {
			return fmt.Errorf("claim from a lapsed lease: %w", err)
		}
		l.log.Warn("a node is gone", "node", node, "connections", n)
	}
	return nil
}

// findDead returns the nodes whose leases have lapsed, and those whose leases have been ended because of that.
func (l *list) findDead(ctx context.Context) (dead, gone []string, err error) {
	lists, err := l.call(ctx, lapsed, []string{l.key("leases"), l.key("dead")}).Slice()
	if err != nil {
		return nil, nil, fmt.Errorf("look for lapsed leases: %w", err)
	}
	for i, to := range []*[]string{&dead, &gone} {
		nodes, _ := lists[i].([]any)
		for _, node := range nodes {
			if id, ok := node.(string); ok && id != l.node { // this one is about to renew
				*to = append(*to, id)
			}
		}
	}
	return dead, gone, nil
}

// claimFrom claims what a dead node has held, as much as this node gets of it, and returns how many connections that were.
func (l *list) claimFrom(ctx context.Context, node string) (n int, err error) {
	for {
		some, err := l.claimSome(ctx, node)
		if err != nil || len(some) == 0 {
			return n, err
		}
		for pair := range slices.Chunk(some, 2) {
			if err := l.handOut(ctx, Orphan{Node: node, ConnID: pair[0], Entry: []byte(pair[1])}); err != nil {
				return n, err
			}
			n++
		}
	}
}

// handOut gives an orphan to Next.
func (l *list) handOut(ctx context.Context, o Orphan) error {
	select {
	case l.orphans <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// claimSome claims some of what a dead node has held and returns it: ids, each before its entry. When the answer is lost, what was asked
// for is kept as unsure. writeAll then looks in Redis which of it has become this node's, and does not remove that.
func (l *list) claimSome(ctx context.Context, node string) ([]string, error) {
	if err := l.beginClaim(ctx); err != nil {
		return nil, err
	}
	wanted, some, err := l.claimWanted(ctx, node)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimRunning = false
	if err != nil {
		for _, pair := range wanted {
			l.unsure[pair.Key] = Orphan{Node: node, ConnID: pair.Key, Entry: []byte(pair.Value)}
		}
	}
	for pair := range slices.Chunk(some, 2) {
		l.orphansHeld[pair[0]] = []byte(pair[1])
	}
	return some, err
}

// claimWanted chooses what to claim from a dead node, and claims what others have not claimed meanwhile. Without anything to
// choose it ends the node's lease. wanted is what may have been claimed if there is an error.
func (l *list) claimWanted(ctx context.Context, node string) (wanted []redis.KeyValue, some []string, err error) {
	reading, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	wanted, err = l.client.HRandFieldWithValues(reading, l.heldKey(node), batch).Result()
	if err != nil {
		return nil, nil, err
	}
	args := []any{node}
	for _, pair := range wanted {
		args = append(args, pair.Key)
	}
	keys := []string{l.key("leases"), l.heldKey(node), l.heldKey(l.node), l.key("claimed:" + node), l.key("dead"), l.key("told:" + node)}
	some, err = l.call(ctx, claim, keys, args...).StringSlice()
	return wanted, some, err
}

// beginClaim waits until writeAll does not run, and then says that a claim does: writeAll removes from Redis whatever this node does not
// know of, and so would remove what is just being claimed.
func (l *list) beginClaim(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		begun := !l.rewriteRunning
		l.claimRunning = l.claimRunning || begun
		l.mu.Unlock()
		if begun {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Next waits for an orphan and returns it; ok is false when ctx has ended. This node holds the orphan until it is released.
func (l *list) Next(ctx context.Context) (o Orphan, ok bool) {
	select {
	case o = <-l.orphans:
		return o, true
	case <-ctx.Done():
		return o, false
	}
}
