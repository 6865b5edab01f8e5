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

	// Entries that their consumer has not touched for deadAfter go to another, which looks at every sweep. A
	// consumer touches what it has at every renewal. Nothing is stored while a dead consumer seems to live, and people
	// who come back meanwhile do not see what was said just before; too soon costs no more than work done twice.
	deadAfter = 10 * time.Second
	sweep     = 10 * time.Second
	renewal   = 3 * time.Second

	// One member of a group reads at a time, so that entries are handed over in the log's order. Its turn outlives
	// it by a little more than deadAfter: whoever is next first takes over what it has left.
	turnTime = deadAfter + 2*time.Second

	// A consumer without entries that has not been heard of for this long is forgotten.
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
	defer c.endTurn(ctx)
	again := pauses()
	for ctx.Err() == nil {
		err := c.round(ctx)
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

// takeTurn gives the turn to ARGV[1], unless somebody else has it, and says whether it did.
var takeTurn = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)

// dropTurn takes it away from ARGV[1].
var dropTurn = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1`)

func (c *consumer) turnKey() string { return c.stream + ":turn:" + c.group }

// turn takes or keeps the group's turn to read and reports whether c has it.
func (c *consumer) turn(ctx context.Context) (bool, error) {
	return takeTurn.Run(ctx, c.log.client, []string{c.turnKey()}, c.id, turnTime.Milliseconds()).Bool()
}

// endTurn lets another member read at once.
func (c *consumer) endTurn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPause)
	defer cancel()
	_ = dropTurn.Run(ctx, c.log.client, []string{c.turnKey()}, c.id).Err() // else it ends by itself
}

// round waits for the turn, takes over what dead consumers have left, when that is due, and else reads what is new.
func (c *consumer) round(ctx context.Context) error {
	mine, err := c.turn(ctx)
	if err != nil {
		return err
	}
	if !mine {
		_ = backoff.Sleep(ctx, block)
		return nil
	}
	if time.Since(c.swept) >= sweep {
		if err := c.takeOver(ctx); err != nil {
			return c.mend(ctx, err)
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
		return c.mend(ctx, err)
	}
	return c.process(ctx, read[0].Messages)
}

// mend makes the consumer group if that is what is missing, and returns any other error.
func (c *consumer) mend(ctx context.Context, err error) error {
	if !strings.HasPrefix(err.Error(), "NOGROUP") {
		return err
	}
	err = c.log.client.XGroupCreateMkStream(ctx, c.stream, c.group, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") { // another member was faster
		return fmt.Errorf("make consumer group: %w", err)
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

// process hands messages over until handle has taken them, and confirms them. If ctx ends before they are taken, they are
// given back for the next consumer.
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

// confirm lasts through a Redis that is away, until ctx ends: if newer entries were read first, these would come again
// behind them.
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

// decode leaves out what is no entry of ours: nobody could ever take it, and it would hold up the rest.
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

// handOver calls handle until it has taken entries or ctx ends.
func (c *consumer) handOver(ctx context.Context, entries []messagelog.Entry) error {
	for again := pauses(); len(entries) > 0; {
		if c.handle(ctx, entries) == nil { // whoever handles says why not
			return nil
		}
		if err := again.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps the turn and touches entries at every renewal, so that nobody takes them over, until release is called.
func (c *consumer) hold(ctx context.Context, ids []string) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for backoff.Sleep(ctx, renewal) == nil {
			c.touch(ctx, ids)
		}
	}()
	return func() { cancel(); <-ended }
}

// touch keeps the turn and makes entries look as if they had just been read. An error is no reason to stop working on
// them: they are ours until somebody else has them.
func (c *consumer) touch(ctx context.Context, ids []string) {
	_, _ = c.turn(ctx)
	_ = c.log.client.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: c.stream, Group: c.group, Consumer: c.id, Messages: ids,
	}).Err()
}

// giveBack makes entries look long untouched, so that the next consumer takes them over at once.
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

// forgetDead removes consumers that have nothing and are gone, so that restarts do not add up.
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
