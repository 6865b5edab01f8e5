package redislog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/logtest"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const patience = 20 * time.Second

func open(t testing.TB, url string, o redislog.Options) *redislog.Log {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "chatr"})
	if err != nil {
		t.Fatal(err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	l := redislog.New(client, o)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLog(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(t *testing.T) func() messagelog.Log {
		server := testkit.Redis(t)
		return func() messagelog.Log { return open(t, server.URL, redislog.Options{}) }
	})
}

// Each log is a key of its own, so that a Redis Cluster can have it where it likes.
func TestLogOnCluster(t *testing.T) {
	t.Parallel()
	servers := testkit.NewRedisCluster(t, false)
	var logs atomic.Int64
	logtest.Run(t, func(t *testing.T) func() messagelog.Log {
		prefix := fmt.Sprint("log-", logs.Add(1))
		return func() messagelog.Log { return open(t, servers.URL, redislog.Options{Prefix: prefix}) }
	})
}

func said(text string) messagelog.Entry {
	return messagelog.Entry{
		Hub: webpubsub.HubKey{Tenant: "acme", Hub: "chat"}, Group: "room", ConnectionID: "c-1", FromUserID: "ana",
		Time: time.Date(2026, 2, 3, 4, 5, 6, 789012345, time.UTC), Data: webpubsub.Text(text),
	}
}

// add appends and waits for the answer.
func add(t testing.TB, l *redislog.Log, name string, e messagelog.Entry) error {
	t.Helper()
	answered := make(chan error, 1)
	l.Append(name, e, func(err error) { answered <- err })
	select {
	case err := <-answered:
		return err
	case <-time.After(patience):
		t.Fatalf("Append has not been answered within %v", patience)
		return nil
	}
}

func mustAdd(t testing.TB, l *redislog.Log, name string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := add(t, l, name, said(text)); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

// reader is a consumer and what it has taken.
type reader struct {
	stop func()

	mu    sync.Mutex
	taken []string
}

func consume(t testing.TB, l *redislog.Log, name string, r *reader) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Consume(ctx, name, "history", r.handle); err != nil {
			t.Errorf("Consume returned %v, want nil when its context ends", err)
		}
	}()
	r.stop = func() { cancel(); <-ended }
	t.Cleanup(r.stop)
	return r
}

func (r *reader) handle(_ context.Context, batch []messagelog.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range batch {
		r.taken = append(r.taken, string(e.Data.Bytes))
	}
	return nil
}

func (r *reader) want(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	testkit.Eventually(t, patience, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		got = append(got[:0], r.taken...)
		return len(got) >= len(want)
	}, fmt.Sprintf("%d entries taken", len(want)))
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("taken %q, want %q", got, want)
	}
}

// Two processes of a consumer group do not overtake each other, so a conversation is stored as it was held.
func TestTwoMembersKeepTheOrder(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	r := &reader{}
	for range 2 {
		consume(t, open(t, server.URL, redislog.Options{}), "history", r)
	}
	l := open(t, server.URL, redislog.Options{})
	var want []string
	for i := range 50 {
		part := make([]string, 20)
		for j := range part {
			part[j] = fmt.Sprint(i, " ", j)
		}
		mustAdd(t, l, "history", part...)
		want = append(want, part...)
	}
	r.want(t, want...)
}

// A consumer that has died gives nothing back; what it held is taken over once it has been silent for long.
func TestDeadConsumersEntriesAreTakenOver(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := open(t, server.URL, redislog.Options{})
	mustAdd(t, l, "history", "one", "two")
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	const stream = "chatr:log:history"
	if err := raw.XGroupCreate(t.Context(), stream, "history", "0").Err(); err != nil {
		t.Fatal(err)
	}
	read, err := raw.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "history", Consumer: "dead", Streams: []string{stream, ">"}, Count: 1}).Result()
	if err != nil {
		t.Fatal(err)
	}
	held := read[0].Messages[0].ID
	if err := raw.Do(t.Context(), "XCLAIM", stream, "history", "dead", 0, held, "IDLE", 31_000, "JUSTID").Err(); err != nil {
		t.Fatal(err)
	}
	consume(t, l, "history", &reader{}).want(t, "one", "two")
	testkit.Eventually(t, patience, func() bool {
		pending, err := raw.XPending(t.Context(), stream, "history").Result()
		return err == nil && pending.Count == 0
	}, "everything confirmed")
}

func TestServerStopsAndReturns(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := open(t, server.URL, redislog.Options{})
	r := consume(t, l, "history", &reader{})
	mustAdd(t, l, "history", "before")
	r.want(t, "before")

	server.Stop()
	if err := add(t, l, "history", said("during")); err == nil {
		t.Error("Append while Redis is down: got no error")
	}
	if err := l.Ready(t.Context()); err == nil {
		t.Error("Ready while Redis is down: got no error")
	}
	server.Start()
	testkit.Eventually(t, patience, func() bool { return l.Ready(t.Context()) == nil }, "ready again")
	mustAdd(t, l, "history", "after")
	r.want(t, "before", "after")
}

// What was handled while Redis was away is confirmed when it is back, and before anything newer is handed over: it does
// not come again, for which a consumer would have to remember more than its last batch.
func TestHandledWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := open(t, server.URL, redislog.Options{})
	r := &reader{}
	away := make(chan struct{})
	var gone sync.Once
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	mustAdd(t, l, "history", "handled")
	go func() {
		ended <- l.Consume(ctx, "history", "history", func(ctx context.Context, batch []messagelog.Entry) error {
			gone.Do(func() { server.Stop(); close(away) })
			return r.handle(ctx, batch)
		})
	}()
	<-away
	r.want(t, "handled")
	server.Start()
	testkit.Eventually(t, patience, func() bool { return l.Ready(t.Context()) == nil }, "ready again")
	mustAdd(t, l, "history", "after")
	r.want(t, "handled", "after")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Consume returned %v, want nil when its context ends", err)
	}
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	if pending, err := raw.XPending(t.Context(), "chatr:log:history", "history").Result(); err != nil || pending.Count != 0 {
		t.Errorf("pending: got %+v, %v; want nothing left to come again", pending, err)
	}
}

func TestHungServerAnswersWithinSeconds(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := open(t, server.URL, redislog.Options{})
	mustAdd(t, l, "history", "before")
	server.Pause()
	defer server.Resume()
	const n = 2000
	var failed sync.WaitGroup
	failed.Add(n)
	start := time.Now()
	for range n {
		l.Append("history", said("lost"), func(err error) {
			if err == nil {
				t.Error("Append to a hung Redis: got no error")
			}
			failed.Done()
		})
	}
	failed.Wait()
	if waited := time.Since(start); waited > patience {
		t.Errorf("%d appends were answered after %v, want at most %v", n, waited, patience)
	}
}

func TestFlushedRedisIsReadAgain(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := open(t, server.URL, redislog.Options{})
	r := consume(t, l, "history", &reader{})
	mustAdd(t, l, "history", "before")
	r.want(t, "before")
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	if err := raw.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, l, "history", "after")
	r.want(t, "before", "after")
}

// What is no entry of ours is left out and holds up nobody.
func TestForeignEntryIsLeftOut(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	var logged syncBuffer
	l := open(t, server.URL, redislog.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	for _, values := range [][]string{{"a", "b"}, {"time", "2026-01-01T00:00:00Z", "type", "cipher"}} {
		if err := raw.XAdd(t.Context(), &redis.XAddArgs{Stream: "chatr:log:history", Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	mustAdd(t, l, "history", "ours")
	consume(t, l, "history", &reader{}).want(t, "ours")
	if got := strings.Count(logged.String(), "message log entry left out"); got != 2 {
		t.Errorf("logged %d times that an entry was left out, want 2", got)
	}
}

func TestBoundsAndAlarm(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	length := func() int64 { return raw.XLen(t.Context(), "chatr:log:history").Val() }
	fill := func(l *redislog.Log) {
		for i := range 500 {
			mustAdd(t, l, "history", fmt.Sprint(i))
		}
	}
	fill(open(t, server.URL, redislog.Options{MaxLen: 100}))
	if got := length(); got < 100 || got > 250 { // Redis drops whole nodes, of 100 entries by default
		t.Errorf("%d entries are kept, want about 100", got)
	}

	fill(open(t, server.URL, redislog.Options{}))
	mustAdd(t, open(t, server.URL, redislog.Options{MaxAge: time.Millisecond}), "history", "newest")
	testkit.Eventually(t, patience, func() bool { return length() <= 101 }, "what is old is dropped")

	if err := raw.XGroupCreate(t.Context(), "chatr:log:history", "events", "0").Err(); err != nil {
		t.Fatal(err)
	}
	fill(open(t, server.URL, redislog.Options{})) // before the first look at them, as the next is after checkEvery
	var logged syncBuffer
	full := open(t, server.URL, redislog.Options{MaxLen: 10, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	mustAdd(t, full, "history", "one too many")
	testkit.Eventually(t, patience, func() bool { return logged.String() != "" }, "the alarm is raised")
	if got := strings.Count(logged.String(), "level=ERROR"); got != 1 || !strings.Contains(logged.String(), "about to drop") {
		t.Errorf("logged %q, want one alarm", logged.String())
	}
}

func TestClosedLog(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Redis(t).URL, redislog.Options{})
	stored := false
	l.Append("history", said("last"), func(err error) { stored = err == nil })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !stored {
		t.Error("Close did not wait for what had been appended")
	}
	if err := add(t, l, "history", said("late")); err == nil {
		t.Error("Append after Close: got no error")
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
