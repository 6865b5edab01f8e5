package redislog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/messagelog"
)

const (
	batchSize = 100
	block     = time.Second // how long a read waits for entries, and at most how long Consume outlives its context

	// A consumer renews its claim on the entries it works on every renewal. Entries whose claim has not been renewed for
	// deadAfter go to another consumer, which looks for such entries every sweep. Until a dead consumer is noticed, nothing
	// is stored, and people who come back do not see what was said just before; to take entries over too early costs
	// no more than work done twice.
	deadAfter = 10 * time.Second
	sweep     = 10 * time.Second
	renewal   = 3 * time.Second

	// One member of a group reads at a time, the one that holds the group's lock, so that entries are handed over in the log's
	// order. The lock of a member that dies lasts a little longer than deadAfter, so that the next member first takes over
	// the entries that the dead one has left.
	lockTime = deadAfter + 2*time.Second

	// A consumer that has no entries and has been idle for this long is removed from the group.
	forgetAfter = time.Hour

	firstPause = 100 * time.Millisecond // before trying again
	lastPause  = 5 * time.Second
)

func pauses() backoff.Backoff { return backoff.Backoff{First: firstPause, Last: lastPause} }

// consumer is one call of Consume: a member of a consumer group.
type consumer struct {
	log    *Log
	name   string // of the log
	stream string
	group  string
	id     string
	handle func(context.Context, []messagelog.Entry) error
	swept  time.Time
}

// Consume reads the named log as a member of a consumer group, from the oldest entry there is. It lasts through
// a Redis that goes away, and starts again at the oldest entry if Redis has forgotten the group.
func (l *Log) Consume(ctx context.Context, name, group string, handle func(context.Context, []messagelog.Entry) error) error {
	c := &consumer{log: l, name: name, stream: l.stream(name), group: group, id: rand.Text(), handle: handle}
	defer c.unlock(ctx)
	again := pauses()
	for ctx.Err() == nil {
		err := c.readOnce(ctx)
		switch {
		case err == nil:
			again.Reset()
			continue
		case ctx.Err() != nil:
			return nil
		case !again.Failed(): // once per outage
			l.options.Logger.Warn("message log cannot be read", "log", name, "error", err)
		}
		_ = again.Wait(ctx)
	}
	return nil
}

// lockScript gives the lock to the member ARGV[1] for ARGV[2] milliseconds, unless another member holds it, and returns
// whether it did.
var lockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)

// unlockScript takes the lock away from the member ARGV[1], if it holds it.
var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1`)

// lockKey has its word from older versions, which read beside this one during an upgrade.
func (c *consumer) lockKey() string { return c.stream + ":turn:" + c.group }

// lock takes the group's lock, or keeps it for lockTime from now, and reports whether c holds it.
func (c *consumer) lock(ctx context.Context) (bool, error) {
	return lockScript.Run(ctx, c.log.client, []string{c.lockKey()}, c.id, lockTime.Milliseconds()).Bool()
}

// unlock lets another member read at once.
func (c *consumer) unlock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPause)
	defer cancel()
	_ = unlockScript.Run(ctx, c.log.client, []string{c.lockKey()}, c.id).Err() // otherwise it expires
}

// readOnce waits for the lock, takes over what dead consumers have left if that is due, and then processes one batch of new
// entries.
func (c *consumer) readOnce(ctx context.Context) error {
	locked, err := c.lock(ctx)
	if err != nil {
		return err
	}
	if !locked {
		_ = backoff.Sleep(ctx, block)
		return nil
	}
	if time.Since(c.swept) >= sweep {
		if err := c.takeOver(ctx); err != nil {
			return c.createGroup(ctx, err)
		}
		c.swept = time.Now()
		c.forgetDead(ctx)
		if c.log.checks.due(c.name) {
			c.log.check(ctx, c.name)
		}
	}
	read, err := c.log.client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: c.group, Consumer: c.id, Streams: []string{c.stream, ">"}, Count: batchSize, Block: block,
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return c.createGroup(ctx, err)
	}
	return c.process(ctx, read[0].Messages)
}

// createGroup creates the consumer group if err says that it is missing, and returns any other error.
func (c *consumer) createGroup(ctx context.Context, err error) error {
	if !strings.HasPrefix(err.Error(), "NOGROUP") {
		return err
	}
	err = c.log.client.XGroupCreateMkStream(ctx, c.stream, c.group, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") { // another member was faster
		return fmt.Errorf("create consumer group: %w", err)
	}
	return nil
}

// takeOver processes the entries of consumers that are dead.
func (c *consumer) takeOver(ctx context.Context) error {
	for start := "0-0"; ; {
		messages, next, err := c.log.client.XAutoClaim(ctx, &redis.XAutoClaimArgs{
			Stream: c.stream, Group: c.group, Consumer: c.id, MinIdle: deadAfter, Start: start, Count: batchSize,
		}).Result()
		if err != nil {
			return err
		}
		if err := c.process(ctx, messages); err != nil {
			return err
		}
		if next == "0-0" {
			return nil
		}
		start = next
	}
}

// process calls handle until it succeeds, and confirms the messages. If ctx ends before that, they are given back for the next
// consumer.
func (c *consumer) process(ctx context.Context, messages []redis.XMessage) error {
	if len(messages) == 0 {
		return nil
	}
	ids := make([]string, len(messages))
	for i, m := range messages {
		ids[i] = m.ID
	}
	release := c.hold(ctx, ids)
	if err := c.handOver(ctx, c.decode(messages)); err != nil {
		release()
		c.giveBack(ctx, ids)
		return err
	}
	err := c.confirm(ctx, ids)
	release()
	return err
}

// confirm tries until it succeeds or ctx ends. If it gave up while Redis is away and newer entries were read first, these
// would be handed over again after them, out of order.
func (c *consumer) confirm(ctx context.Context, ids []string) error {
	for again := pauses(); ; {
		err := c.acknowledge(ctx, ids)
		if err == nil {
			c.log.metrics.consumed.WithLabelValues(c.name).Add(float64(len(ids)))
			return nil
		}
		if !again.Failed() { // once per outage
			c.log.options.Logger.Warn("message log entries cannot be confirmed; it is tried again", "log", c.name, "error", err)
		}
		if again.Wait(ctx) != nil {
			return fmt.Errorf("confirm entries: %w", err)
		}
	}
}

// acknowledge makes one attempt, also when ctx has just ended.
func (c *consumer) acknowledge(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPause)
	defer cancel()
	return c.log.client.XAck(ctx, c.stream, c.group, ids...).Err()
}

// decode leaves out messages that are no entries of ours: no handler could process them, and the entries behind them would
// wait for ever.
func (c *consumer) decode(messages []redis.XMessage) []messagelog.Entry {
	entries := make([]messagelog.Entry, 0, len(messages))
	for _, m := range messages {
		e, err := decode(m)
		if err != nil {
			c.log.options.Logger.Error("message log entry left out", "log", c.name, "error", err)
			continue
		}
		entries = append(entries, e)
	}
	return entries
}

// lastCall is how long a call of handle may go on when ctx ends. Were it cut off, whoever it calls might have had the entries, and would
// get them again.
const lastCall = 2 * time.Second

// handOver calls handle until it succeeds or ctx ends.
func (c *consumer) handOver(ctx context.Context, entries []messagelog.Entry) error {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastCall, cancel) })()
	for again := pauses(); len(entries) > 0; {
		if c.handle(call, entries) == nil { // handle has logged why it failed
			return nil
		}
		if err := again.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hold renews the lock and the claim on entries until release is called, so that no other member takes them over.
func (c *consumer) hold(ctx context.Context, ids []string) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for backoff.Sleep(ctx, renewal) == nil {
			c.renew(ctx, ids)
		}
	}()
	return func() { cancel(); <-ended }
}

// renew keeps the lock and makes entries look as if they had just been read. An error is no reason to stop working on
// them: they are ours until another member has taken them over.
func (c *consumer) renew(ctx context.Context, ids []string) {
	_, _ = c.lock(ctx)
	_ = c.log.client.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: c.stream, Group: c.group, Consumer: c.id, Messages: ids,
	}).Err()
}

// giveBack makes entries look as if they had been idle for long, so that the next consumer takes them over at once.
func (c *consumer) giveBack(ctx context.Context, ids []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPause)
	defer cancel()
	args := []any{"XCLAIM", c.stream, c.group, c.id, 0}
	for _, id := range ids {
		args = append(args, id)
	}
	args = append(args, "IDLE", (2 * deadAfter).Milliseconds(), "JUSTID")
	_ = c.log.client.Do(ctx, args...).Err() // else they are taken over later
}

// forgetDead removes consumers that have no entries and are gone: each restart makes a new one.
func (c *consumer) forgetDead(ctx context.Context) {
	all, err := c.log.client.XInfoConsumers(ctx, c.stream, c.group).Result()
	if err != nil {
		return // the next sweep tries again
	}
	for _, other := range all {
		if other.Pending == 0 && other.Idle > forgetAfter {
			_ = c.log.client.XGroupDelConsumer(ctx, c.stream, c.group, other.Name).Err()
		}
	}
}
