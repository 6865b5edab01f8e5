package redislog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/messagelog"
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

	mu     sync.Mutex
	taken  []string
	refuse error // what handle answers, when not nil
	calls  int
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
	r.calls++
	if r.refuse != nil {
		return r.refuse
	}
	for _, e := range batch {
		r.taken = append(r.taken, string(e.Data.Bytes))
	}
	return nil
}

func (r *reader) set(refuse error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
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

func TestEntriesArriveUnchanged(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Redis(t).URL, redislog.Options{})
	want := []messagelog.Entry{
		said("hello"),
		{Hub: webpubsub.HubKey{Tenant: "a", Hub: "b"}, Group: "ünïcode 😀", Time: time.Unix(1, 0).UTC(), Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"a":[1]}`)}},
		{Group: "g", Time: time.Unix(1, 0).UTC(), Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte("\x00\xff\r\n")}},
		{Group: "empty", Time: time.Unix(1, 0).UTC(), Data: webpubsub.Data{Type: webpubsub.DataProtobuf, Bytes: []byte{}}},
	}
	for _, e := range want {
		if err := add(t, l, "history", e); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan messagelog.Entry, len(want))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go l.Consume(ctx, "history", "events", func(_ context.Context, batch []messagelog.Entry) error {
		for _, e := range batch {
			got <- e
		}
		return nil
	})
	last := ""
	for _, w := range want {
		select {
		case e := <-got:
			if e.ID <= last {
				t.Errorf("id %q does not come after %q", e.ID, last)
			}
			last = e.ID
			w.ID = e.ID
			if !reflect.DeepEqual(e, w) {
				t.Errorf("got %+v, want %+v", e, w)
			}
		case <-time.After(patience):
			t.Fatal("no entry")
		}
	}
}

func TestOrderAndLogsAreKept(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Redis(t).URL, redislog.Options{})
	const n = 2000
	var want []string
	var answers sync.WaitGroup
	answers.Add(n)
	for i := range n {
		text := fmt.Sprint(i)
		want = append(want, text)
		l.Append("history", said(text), func(err error) {
			if err != nil {
				t.Errorf("Append: %v", err)
			}
			answers.Done()
		})
	}
	answers.Wait()
	mustAdd(t, l, "audit", "other log")
	consume(t, l, "history", &reader{}).want(t, want...)
	consume(t, l, "audit", &reader{}).want(t, "other log")
}

func TestRefusedBatchComesAgain(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Redis(t).URL, redislog.Options{})
	r := consume(t, l, "history", &reader{refuse: errors.New("no store")})
	mustAdd(t, l, "history", "one", "two")
	testkit.Eventually(t, patience, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.calls >= 3 }, "handed over again")
	r.set(nil)
	r.want(t, "one", "two")

	r.stop()
	mustAdd(t, l, "history", "three")
	consume(t, l, "history", &reader{}).want(t, "three") // and nothing that has been confirmed
}

func TestUnfinishedBatchGoesToTheNextConsumerInOrder(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Redis(t).URL, redislog.Options{})
	mustAdd(t, l, "history", "one", "two")
	r := consume(t, l, "history", &reader{refuse: errors.New("no store")})
	testkit.Eventually(t, patience, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.calls > 0 }, "handed over")
	r.stop()
	mustAdd(t, l, "history", "three")
	consume(t, l, "history", &reader{}).want(t, "one", "two", "three")
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

func TestTwoConsumersShareALog(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a, b := open(t, server.URL, redislog.Options{}), open(t, server.URL, redislog.Options{})
	first, second := consume(t, a, "history", &reader{}), consume(t, b, "history", &reader{})
	const n = 300
	for i := range n {
		mustAdd(t, a, "history", fmt.Sprint(i))
	}
	count := func() int {
		first.mu.Lock()
		defer first.mu.Unlock()
		second.mu.Lock()
		defer second.mu.Unlock()
		return len(first.taken) + len(second.taken)
	}
	testkit.Eventually(t, patience, func() bool { return count() >= n }, "everything taken")
	first.stop()
	second.stop()
	if got := count(); got != n {
		t.Errorf("%d entries taken, want %d: each by one consumer", got, n)
	}
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
	var logged syncBuffer
	full := open(t, server.URL, redislog.Options{MaxLen: 10, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	for i := range 200 {
		mustAdd(t, full, "history", fmt.Sprint(i))
	}
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
