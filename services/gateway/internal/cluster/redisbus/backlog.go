package redisbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Backlog bounds what the server keeps of what nodes have published, for those that were not connected meanwhile.
type Backlog struct {
	Window time.Duration `default:"1m" min:"5s" max:"1h" help:"how long what gateways publish is kept in Redis, for those that have lost their connection to it meanwhile; a longer outage is told to clients by closing them"`
	Bytes  int64         `default:"67108864" min:"1048576" max:"17179869184" help:"how many bytes of Redis' memory that may take, in all; what is older goes earlier then"`
}

// field is the name of the one field of an entry.
const field = "d"

// positionsKept is how many positions a node remembers: where the newest is not found, since the server that has it died before it was
// copied, an older one is.
const positionsKept = 3

// Bounds of what a node remembers of what it has published, in case that the server loses it after it was answered.
const (
	tailTime  = 10 * time.Second
	tailBytes = 8 << 20
)

// entriesAtOnce is how many entries are read by one command. One has a pipeline's payloads at most.
const entriesAtOnce = 64

// backlog is a node's view of the stream on the server in which all nodes keep what they publish by PostKept, each entry the payloads of a
// pipeline. A node's position is an entry up to which it has been told everything. When it comes back it reads from there what it has
// missed. Which of that it had been told nevertheless, receivers know by the numbers of payloads.
//
// What the server has lost of what this node has published, as a replica that became the master without having got it, the node publishes
// again: its tail is as much of that as a failover can lose.
type backlog struct {
	key     string
	bounds  Backlog
	numbers atomic.Uint64 // of payloads: the last that was given

	moved chan struct{} // has a token when there is a new position

	mu        sync.Mutex // guards the following
	positions []string   // of entries, the newest last
	tail      []kept     // the newest last
	tailBytes int
}

// kept is an entry that this node has added.
type kept struct {
	id    string
	batch []byte
	added time.Time
}

// reached says that everything up to an entry has been delivered.
func (g *backlog) reached(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.positions); n > 0 && g.positions[n-1] == id {
		return
	}
	if len(g.positions) == positionsKept {
		g.positions = g.positions[1:]
	}
	g.positions = append(slices.Clip(g.positions), id)
	wake(g.moved)
}

// remember adds an entry to the tail.
func (g *backlog) remember(id string, batch []byte) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tail = append(g.tail, kept{id, batch, now})
	g.tailBytes += len(batch)
	forget := 0
	for forget < len(g.tail)-1 && (g.tailBytes > tailBytes || now.Sub(g.tail[forget].added) > tailTime) {
		g.tailBytes -= len(g.tail[forget].batch)
		g.tail[forget].batch = nil
		forget++
	}
	g.tail = g.tail[forget:]
}

// appendPayload adds a payload to a batch.
func appendPayload(batch []byte, topic string, payload []byte) []byte {
	batch = binary.AppendUvarint(batch, uint64(len(topic)))
	batch = append(batch, topic...)
	batch = binary.AppendUvarint(batch, uint64(len(payload)))
	return append(batch, payload...)
}

// errBatch says that an entry of the backlog is none that a node would write.
var errBatch = errors.New("an entry of the backlog is malformed")

// eachPayload calls do for the payloads of a batch, in their order.
func eachPayload(batch string, do func(topic, payload string)) error {
	next := func() (part string, ok bool) {
		size, n := binary.Uvarint(bytesOf(batch))
		if n <= 0 || size > uint64(len(batch)-n) {
			return "", false
		}
		part, batch = batch[n:n+int(size)], batch[n+int(size):]
		return part, true
	}
	for len(batch) > 0 {
		topic, ok := next()
		payload, also := next()
		if !ok || !also {
			return errBatch
		}
		do(topic, payload)
	}
	return nil
}

// position publishes to a channel the id of the backlog's last entry. What was published before is delivered before that, so that a node
// which hears it has been told everything up to the entry. It makes an entry if there is none that will last, since a position that is not
// found proves nothing, and removes what is out of bounds. Some servers do not say how much memory it takes: then only the window counts.
var position = redis.NewScript(`
local t = redis.call('TIME')
local now, window, most = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[2]), tonumber(ARGV[3])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = last and last[1]
if not id or now - tonumber(string.match(id, '^%d+')) > window / 4 then id = redis.call('XADD', KEYS[1], '*', 'd', '') end
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', now - window))
local used = redis.pcall('MEMORY', 'USAGE', KEYS[1])
if type(used) == 'number' and used > most then
	redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', string.format('%.0f', math.floor(redis.call('XLEN', KEYS[1]) * most / used * 0.9)))
end
return redis.call('PUBLISH', ARGV[1], id)`)

// positionPause is the shortest time between two positions.
const positionPause = 100 * time.Millisecond

// watchPosition has the server say at every interval, and after new subscriptions, up to where everything has been delivered.
func (s *session) watchPosition(l *link) error {
	ticker := time.NewTicker(echoInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ticker.C:
		case <-s.subscribed:
		}
		if s.caughtUp.Load() {
			s.askPosition(l)
		}
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-time.After(positionPause):
		}
	}
}

// askPosition has the server say the position, and reports whether it does. Without it the position is an older one, so that more is read
// up. Whether the server works at all, the echo finds out.
func (s *session) askPosition(l *link) bool {
	g := &s.bus.backlog
	ctx, cancel := context.WithTimeout(s.ctx, 2*echoInterval)
	defer cancel()
	err := position.Run(ctx, l.client, []string{g.key}, l.echo, g.bounds.Window.Milliseconds(), g.bounds.Bytes).Err()
	if s.ctx.Err() == nil {
		s.bus.notePosition(err)
	}
	return err == nil
}

// findPosition waits for this node's first position, so that from now on it can read up what it misses.
func (s *session) findPosition(l *link) error {
	if !s.askPosition(l) {
		return nil // it works all the same, but will not know what it has missed
	}
	select {
	case <-s.bus.backlog.moved:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// catchUp publishes again what the server has lost, and delivers what this node has missed since the session before. It reports whether
// that is everything.
func (s *session) catchUp(l *link) (complete bool, err error) {
	if err := s.restoreTail(l); err != nil {
		return false, fmt.Errorf("publish again what redis has lost: %w", err)
	}
	from, err := s.startingPoint(l)
	if err != nil {
		return false, fmt.Errorf("find the position in the backlog: %w", err)
	}
	complete = from != ""
	for {
		read := 0
		if from != "" {
			if from, read, err = s.readUp(l, from); err != nil {
				return false, fmt.Errorf("read the backlog: %w", err)
			}
		}
		s.bus.metrics.readUp.Add(float64(read))
		if s.gate.release() {
			return complete, nil
		}
		complete = complete && from != "" // what was held back became too much, and is read up as well
	}
}

// startingPoint returns the newest position of this node that the server has, or nothing if it has none.
func (s *session) startingPoint(l *link) (id string, err error) {
	g := &s.bus.backlog
	g.mu.Lock()
	positions := g.positions
	g.mu.Unlock()
	for _, id := range slices.Backward(positions) {
		found, err := l.client.XRange(s.ctx, g.key, id, id).Result()
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return id, nil
		}
	}
	return "", nil
}

// readUp delivers what comes in the backlog after an entry. It returns the last entry, and how many payloads were delivered.
func (s *session) readUp(l *link, after string) (last string, delivered int, err error) {
	checked := time.Now()
	for {
		entries, err := l.client.XRangeN(s.ctx, s.bus.backlog.key, "("+after, "+", entriesAtOnce).Result()
		if err != nil {
			return after, delivered, err
		}
		for _, e := range entries {
			batch, _ := e.Values[field].(string)
			if err := eachPayload(batch, func(topic, payload string) {
				if s.bus.topics.has(s.bus.prefix + topic) {
					s.gate.deliver(topic, bytesOf(payload))
					delivered++
				}
			}); err != nil {
				s.bus.log.Error("read the backlog", "entry", e.ID, "error", err)
			}
			after = e.ID
		}
		s.idle()
		if len(entries) < entriesAtOnce {
			return after, delivered, nil
		}
		if time.Since(checked) > echoInterval/2 { // else there may be silence, which would end the session
			checked = time.Now()
			if err := l.checkEcho(); err != nil {
				return after, delivered, err
			}
		}
	}
}

// restoreTail publishes again what this node has published last and the server does not have, though it had answered: it was killed before
// others had it, or has come back with less. Of several entries it has lost the newer ones.
func (s *session) restoreTail(l *link) error {
	g := &s.bus.backlog
	g.mu.Lock()
	tail := g.tail
	g.mu.Unlock()
	oldest := ""
	if first, err := l.client.XRangeN(s.ctx, g.key, "-", "+", 1).Result(); err != nil {
		return err
	} else if len(first) > 0 {
		oldest = first[0].ID
	}
	lost := len(tail)
	for ; lost > 0; lost-- {
		id := tail[lost-1].id
		if oldest != "" && olderID(id, oldest) { // removed in its time
			break
		}
		found, err := l.client.XRange(s.ctx, g.key, id, id).Result()
		if err != nil {
			return err
		}
		if len(found) > 0 {
			break
		}
	}
	for i, k := range tail[lost:] {
		var list []post
		if err := eachPayload(string(k.batch), func(topic, payload string) {
			list = append(list, post{channel: s.bus.prefix + topic, payload: bytesOf(payload), kept: true})
		}); err != nil {
			return err
		}
		pipe := l.client.TxPipeline()
		added := s.queueBatch(pipe, k.batch)
		for _, p := range list {
			pipe.Publish(s.ctx, p.channel, p.payload)
		}
		if _, err := pipe.Exec(s.ctx); err != nil {
			return err
		}
		g.mu.Lock()
		tail[lost+i].id = added.Val()
		g.mu.Unlock()
		s.bus.metrics.restored.Add(float64(len(list)))
	}
	if n := len(tail) - lost; n > 0 {
		s.bus.log.Warn("redis had lost what was published; it is published again", "entries", n)
	}
	return nil
}

// queueBatch adds to a pipeline the command that makes an entry.
func (s *session) queueBatch(pipe redis.Pipeliner, batch []byte) *redis.StringCmd {
	return pipe.XAdd(s.ctx, &redis.XAddArgs{Stream: s.bus.backlog.key, Values: []any{field, batch}})
}

// olderID reports whether an entry is older than another one.
func olderID(a, b string) bool {
	var aTime, aNumber, bTime, bNumber uint64
	_, _ = fmt.Sscanf(a, "%d-%d", &aTime, &aNumber)
	_, _ = fmt.Sscanf(b, "%d-%d", &bTime, &bNumber)
	return aTime < bTime || aTime == bTime && aNumber < bNumber
}

// Bounds of what a gate holds back.
const (
	maxHeld      = 1 << 16
	maxHeldBytes = 64 << 20
)

// gate holds back what a new session brings in, until what was missed before has been delivered.
type gate struct {
	deliver func(topic string, payload []byte)
	open    atomic.Bool

	mu       sync.Mutex // guards the following
	held     []heldBack
	bytes    int
	overflow bool // more came in than is held back; all of it is in the backlog, but for answers to questions, which nobody waits for
}

type heldBack struct {
	topic   string
	payload []byte
}

// pass delivers a payload, or holds it back.
func (g *gate) pass(topic string, payload []byte) {
	if g.open.Load() || !g.hold(topic, payload) {
		g.deliver(topic, payload)
	}
}

// hold reports whether it has held back a payload: the gate is not open.
func (g *gate) hold(topic string, payload []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open.Load():
		return false
	case len(g.held) >= maxHeld || g.bytes+len(payload) > maxHeldBytes:
		g.overflow = true
		g.held, g.bytes = nil, 0
	case !g.overflow:
		g.held = append(g.held, heldBack{topic, payload})
		g.bytes += len(payload)
	}
	return true
}

// release delivers what is held back and opens the gate. It reports false when too much had come to be held back: that is to be read up.
func (g *gate) release() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.overflow {
		g.overflow = false
		return false
	}
	for _, h := range g.held {
		g.deliver(h.topic, h.payload)
	}
	g.held, g.bytes = nil, 0
	g.open.Store(true)
	return true
}
