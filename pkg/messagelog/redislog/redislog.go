// Package redislog is a messagelog.Log of Redis Streams, one for each log name.
//
// Appends go through one queue into pipelines. They are not tried again: the caller learns of a failure and
// decides. A stream is bounded by length and age; metrics and an error in the log say so before anything is
// dropped that a consumer has not confirmed.
package redislog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/messagelog"
)

// Bounds of what waits to be appended; beyond, Append fails.
const (
	maxWaiting      = 1 << 16
	maxWaitingBytes = 64 << 20
)

// Bounds of one pipeline. A pipeline has at least one entry, however large.
const (
	maxPipeline      = 512
	maxPipelineBytes = 1 << 20
)

var (
	errFull   = errors.New("message log: too much is waiting to be appended")
	errClosed = errors.New("message log is closed")
)

// Options bound a log and say where it reports.
type Options struct {
	Prefix  string                // first part of each key; default "chatr"
	MaxAge  time.Duration         // entries older than this may be dropped; default 7 days
	MaxLen  int64                 // entries beyond this number may be dropped, oldest first; default 1,000,000
	Logger  *slog.Logger          // default: slog.Default()
	Metrics prometheus.Registerer // nil: none
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = "chatr"
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 7 * 24 * time.Hour
	}
	if o.MaxLen <= 0 {
		o.MaxLen = 1_000_000
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Log keeps its entries in Redis.
type Log struct {
	client  redis.UniversalClient
	options Options
	metrics *metrics
	checks  checks

	background sync.WaitGroup // the writer, while there is something to append, and checks

	mu      sync.Mutex // guards the following
	waiting []item
	bytes   int  // of data in waiting
	writing bool // the writer runs
	closed  bool
}

var _ messagelog.Log = (*Log)(nil)

// item is an entry on its way to its stream.
type item struct {
	name  string
	entry messagelog.Entry
	done  func(error)
}

// New returns a log that owns client. The client must not retry commands, as those of package redisconn do not:
// a second XADD would double an entry.
func New(client redis.UniversalClient, o Options) *Log {
	o = o.withDefaults()
	l := &Log{client: client, options: o, metrics: newMetrics(o.Metrics)}
	l.checks.init()
	return l
}

// Close waits for what has been appended and closes the client. Append fails from then on.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.background.Wait()
	return l.client.Close()
}

// Ready asks Redis whether it serves.
func (l *Log) Ready(ctx context.Context) error {
	if err := l.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("message log: %w", err)
	}
	return nil
}

func (l *Log) stream(name string) string { return l.options.Prefix + ":log:" + name }

// Append queues e. While Redis does not serve, what is queued fails within seconds.
func (l *Log) Append(name string, e messagelog.Entry, done func(error)) {
	if err := l.enqueue(item{name, e, done}); err != nil {
		l.report([]item{{name, e, done}}, err)
	}
}

func (l *Log) enqueue(i item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errClosed
	case len(l.waiting) >= maxWaiting || l.bytes+len(i.entry.Data.Bytes) > maxWaitingBytes:
		return errFull
	}
	l.waiting = append(l.waiting, i)
	l.bytes += len(i.entry.Data.Bytes)
	if !l.writing {
		l.writing = true
		l.background.Go(l.write)
	}
	return nil
}

// dequeue returns all items that wait. When there are none, it records that the writer has ended.
func (l *Log) dequeue() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.waiting
	l.waiting, l.bytes = nil, 0
	l.writing = len(taken) > 0
	return taken
}

// write appends what waits, pipeline after pipeline, until nothing does.
func (l *Log) write() {
	for batch := l.dequeue(); len(batch) > 0; batch = l.dequeue() {
		for len(batch) > 0 {
			n := pipelineLen(batch)
			if err := l.send(batch[:n]); err != nil { // the rest would fail the same way, after the same time
				l.report(batch[n:], err)
				break
			}
			batch = batch[n:]
		}
	}
}

// pipelineLen says how many items fit into one pipeline.
func pipelineLen(list []item) int {
	bytes := 0
	for n, i := range list[:min(len(list), maxPipeline)] {
		if bytes += len(i.entry.Data.Bytes); bytes > maxPipelineBytes && n > 0 {
			return n
		}
	}
	return min(len(list), maxPipeline)
}

// send appends list as one pipeline and reports each item. Its error is that of a connection that failed.
func (l *Log) send(list []item) error {
	ctx := context.Background() // the client bounds each command
	pipe := l.client.Pipeline()
	for _, i := range list {
		pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: l.stream(i.name), MaxLen: l.options.MaxLen, Approx: true, Values: encode(i.entry),
		})
	}
	answers, err := pipe.Exec(ctx)
	names := map[string]bool{}
	for n, answer := range answers {
		l.report(list[n:n+1], answer.Err())
		names[list[n].name] = true
	}
	if refused := redis.Error(nil); err != nil && !errors.As(err, &refused) {
		return err
	}
	for name := range names {
		if l.checks.due(name) {
			l.background.Go(func() { l.check(ctx, name) })
		}
	}
	return nil
}

// report counts the items and calls their done.
func (l *Log) report(list []item, err error) {
	result := "stored"
	if err != nil {
		result = "failed"
		err = fmt.Errorf("append to message log: %w", err)
	}
	l.metrics.appended.WithLabelValues(result).Add(float64(len(list)))
	for _, i := range list {
		if i.done != nil {
			i.done(err)
		}
	}
}
