// Package logtest holds every messagelog.Log to one suite.
package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// patience is how long a test waits for what should happen; longer than a log may take to hand over what a dead
// process held.
const patience = 75 * time.Second

// Run tests a kind of log. database makes an empty one and returns what opens it, each time as another process
// would, after the log opened before was closed if that is an io.Closer; both end with the test they are given.
func Run(t *testing.T, database func(t *testing.T) (open func() messagelog.Log)) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"entries are whole", whole},
		{"order is kept", order},
		{"logs are apart", logsApart},
		{"consumers are apart", consumersApart},
		{"a late consumer sees all", lateConsumer},
		{"what failed comes again", redelivery},
		{"a restart goes on", restart},
		{"what was not confirmed comes again", unconfirmed},
		{"two of one consumer share", sharing},
		{"appending while consuming", meanwhile},
	} {
		t.Run(test.name, func(t *testing.T) {
			open := database(t)
			test.run(&suite{T: t, open: open, log: open()})
		})
	}
}

type suite struct {
	*testing.T
	open func() messagelog.Log
	log  messagelog.Log
}

var hub = webpubsub.HubKey{Tenant: "tenant", Hub: "chat"}

func entry(group, text string) messagelog.Entry {
	return messagelog.Entry{Hub: hub, Group: group, ConnectionID: "c1", FromUserID: "ann", Time: time.Now(), Data: webpubsub.Text(text)}
}

// append appends entries and waits until they are kept.
func (s *suite) append(name string, entries ...messagelog.Entry) {
	s.Helper()
	done := make(chan error, 2*len(entries)) // room for calls too many
	for _, e := range entries {
		s.log.Append(name, e, func(err error) { done <- err })
	}
	for i := range entries {
		select {
		case err := <-done:
			if err != nil {
				s.Fatal(err)
			}
		case <-time.After(patience):
			s.Fatalf("done was called %d times for %d entries", i, len(entries))
		}
	}
}

// texts makes n entries of a group, numbered from 0.
func texts(group string, n int) (entries []messagelog.Entry) {
	for i := range n {
		entries = append(entries, entry(group, fmt.Sprintf("%s %d", group, i)))
	}
	return entries
}

// reader consumes a log and remembers what it got.
type reader struct {
	mu      sync.Mutex // guards the following
	entries []messagelog.Entry
	changed chan struct{} // closed and renewed with each batch

	stop func() // ends consuming and waits for that
}

// read starts consuming. before, unless nil, may refuse a batch.
func (s *suite) read(log messagelog.Log, name, consumer string, before func([]messagelog.Entry) error) *reader {
	s.Helper()
	r := &reader{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := log.Consume(ctx, name, consumer, func(_ context.Context, batch []messagelog.Entry) error {
			if before != nil {
				if err := before(batch); err != nil {
					return err
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.entries = append(r.entries, batch...)
			close(r.changed)
			r.changed = make(chan struct{})
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("consume: got %v, want nil or the context's error", err)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			s.Error("consuming has not ended with its context")
		}
	})
	s.Cleanup(r.stop)
	return r
}

// wait returns once n entries have come, with what has come.
func (s *suite) wait(n int, readers ...*reader) []messagelog.Entry {
	s.Helper()
	deadline := time.After(patience)
	for {
		var all []messagelog.Entry
		changed := make(chan struct{}, len(readers))
		for _, r := range readers {
			r.mu.Lock()
			all = append(all, r.entries...)
			next := r.changed
			r.mu.Unlock()
			go func() { <-next; changed <- struct{}{} }()
		}
		if len(all) >= n {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			s.Fatalf("entries: got %d, want %d", len(all), n)
		}
	}
}

func lines(entries []messagelog.Entry) (all []string) {
	for _, e := range entries {
		all = append(all, string(e.Data.Bytes))
	}
	return all
}

func (s *suite) equal(what string, got, want []string) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// close closes a log that can be closed, as the end of its process would.
func (s *suite) close() {
	s.Helper()
	if c, ok := s.log.(io.Closer); ok {
		if err := c.Close(); err != nil {
			s.Fatal(err)
		}
	}
}

func whole(s *suite) {
	want := []messagelog.Entry{
		entry("room", "hello"),
		{Hub: hub, Group: "anonymous", ConnectionID: "c2", Data: webpubsub.Text("")},
		{Hub: hub, Group: "json", ConnectionID: "c3", FromUserID: "bob", Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte("{ \"b\":1, \"a\" : 2 }")}},
		{Hub: hub, Group: "binary", ConnectionID: "c4", FromUserID: "bob", Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{0, 255, 254, '\n', 0}}},
		{Hub: hub, Group: "proto", ConnectionID: "c5", FromUserID: "bob", Data: webpubsub.Data{Type: webpubsub.DataProtobuf, Bytes: []byte{10, 0}}},
		{Hub: webpubsub.HubKey{Tenant: "other", Hub: "chat"}, Group: "room", ConnectionID: "c6", FromUserID: "__proto__", Data: webpubsub.Text("of another tenant")},
		{Hub: hub, Group: strings.Repeat("ü", webpubsub.MaxGroupName), ConnectionID: "c7", FromUserID: "a\x00b", Data: webpubsub.Text("a\x00b")},
		{Hub: hub, Group: "large", ConnectionID: "c8", Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: bytes.Repeat([]byte{'x'}, webpubsub.MaxMessageBytes)}},
		{Hub: hub, ConnectionID: "c9", FromUserID: "bob", Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte("{}")},
			Event: &messagelog.Event{Type: "azure.webpubsub.sys.connected", Name: "connected", ID: 1<<64 - 1, Subprotocol: "json.webpubsub.azure.v1", State: "eyJuIjoxfQ=="}},
		{Hub: hub, ConnectionID: "c9", Data: webpubsub.Text("x"), Event: &messagelog.Event{Type: "azure.webpubsub.user.e", Name: "e"}},
	}
	for i := range want {
		want[i].Time = time.Date(2026, 1, 2, 3, 4, 5, i*int(time.Millisecond), time.UTC)
	}
	if err := s.log.Ready(s.Context()); err != nil {
		s.Fatalf("ready: %v", err)
	}
	s.append("log", want...)
	ids := map[string]bool{}
	for i, got := range s.wait(len(want), s.read(s.log, "log", "consumer", nil)) {
		if got.ID == "" || len(got.ID) > 64 || ids[got.ID] {
			s.Errorf("id %q is empty, long or not unique", got.ID)
		}
		ids[got.ID] = true
		w := want[i]
		if !got.Time.Equal(w.Time) {
			s.Errorf("time of entry %d: got %v, want %v", i, got.Time, w.Time)
		}
		if !bytes.Equal(got.Data.Bytes, w.Data.Bytes) || got.Data.Type != w.Data.Type {
			s.Errorf("data of entry %d: got %v with %d bytes, want %v with %d", i, got.Data.Type, len(got.Data.Bytes), w.Data.Type, len(w.Data.Bytes))
		}
		if got.Hub != w.Hub || got.Group != w.Group || got.ConnectionID != w.ConnectionID || got.FromUserID != w.FromUserID {
			s.Errorf("entry %d: got %v %.20q of %q by %q, want %v %.20q of %q by %q", i,
				got.Hub, got.Group, got.ConnectionID, got.FromUserID, w.Hub, w.Group, w.ConnectionID, w.FromUserID)
		}
		if (got.Event == nil) != (w.Event == nil) || got.Event != nil && *got.Event != *w.Event {
			s.Errorf("entry %d: got event %+v, want %+v", i, got.Event, w.Event)
		}
	}
}

func order(s *suite) {
	const groups, each = 5, 100
	var wg sync.WaitGroup
	for g := range groups {
		wg.Go(func() { s.append("log", texts(fmt.Sprint("group", g), each)...) })
	}
	wg.Wait()
	byGroup := map[string][]string{}
	for _, e := range s.wait(groups*each, s.read(s.log, "log", "consumer", nil)) {
		byGroup[e.Group] = append(byGroup[e.Group], string(e.Data.Bytes))
	}
	for g := range groups {
		group := fmt.Sprint("group", g)
		s.equal("entries of "+group, byGroup[group], lines(texts(group, each)))
	}
}

func logsApart(s *suite) {
	one, two := s.read(s.log, "one", "consumer", nil), s.read(s.log, "two", "consumer", nil)
	s.append("one", texts("1", 20)...)
	s.append("two", texts("2", 20)...)
	s.append("nobody reads this", texts("3", 20)...)
	s.equal("log one", lines(s.wait(20, one)), lines(texts("1", 20)))
	s.equal("log two", lines(s.wait(20, two)), lines(texts("2", 20)))
}

func consumersApart(s *suite) {
	ann, bob := s.read(s.log, "log", "ann", nil), s.read(s.log, "log", "bob", nil)
	s.append("log", texts("room", 20)...)
	s.equal("read by ann", lines(s.wait(20, ann)), lines(texts("room", 20)))
	s.equal("read by bob", lines(s.wait(20, bob)), lines(texts("room", 20)))
}

func lateConsumer(s *suite) {
	s.append("log", texts("room", 20)...)
	early := s.read(s.log, "log", "early", nil)
	s.wait(20, early)
	early.stop()
	s.equal("read by a late consumer", lines(s.wait(20, s.read(s.log, "log", "late", nil))), lines(texts("room", 20)))
}

// redelivery refuses the first batches: the same come again, nothing overtakes them.
func redelivery(s *suite) {
	var refused []string // of one handler at a time
	s.append("log", texts("room", 5)...)
	r := s.read(s.log, "log", "consumer", func(batch []messagelog.Entry) error {
		if len(refused) < 3 {
			refused = append(refused, string(batch[0].Data.Bytes))
			return errors.New("not now")
		}
		return nil
	})
	s.append("log", texts("more", 5)...)
	s.equal("entries", lines(s.wait(10, r)), append(lines(texts("room", 5)), lines(texts("more", 5))...))
	s.equal("first of each refused batch", refused, []string{"room 0", "room 0", "room 0"})
}

func restart(s *suite) {
	r := s.read(s.log, "log", "consumer", nil)
	s.append("log", texts("before", 10)...)
	last := s.wait(10, r)[9]
	r.stop() // waits, so what was handled is confirmed
	s.append("log", texts("between", 10)...)
	s.close()
	s.log = s.open()
	s.append("log", texts("after", 10)...)
	got := s.wait(20, s.read(s.log, "log", "consumer", nil))
	s.equal("entries after a restart", lines(got), append(lines(texts("between", 10)), lines(texts("after", 10))...))
	if got[0].ID == last.ID {
		s.Errorf("the id %s was used twice", last.ID)
	}
}

// unconfirmed ends a consumer while its handler fails: another gets what it had.
func unconfirmed(s *suite) {
	s.append("log", texts("room", 5)...)
	tried := make(chan struct{}, 1000)
	r := s.read(s.log, "log", "consumer", func([]messagelog.Entry) error {
		tried <- struct{}{}
		return errors.New("never")
	})
	<-tried
	r.stop()
	s.close()
	s.log = s.open()
	got := lines(s.wait(5, s.read(s.log, "log", "consumer", nil)))
	s.equal("entries for the next", got, lines(texts("room", 5)))
}

// sharing runs one consumer twice: each entry goes to one of them, once as nothing fails.
func sharing(s *suite) {
	one, two := s.read(s.log, "log", "consumer", nil), s.read(s.log, "log", "consumer", nil)
	want := texts("room", 300)
	s.append("log", want[:100]...)
	s.append("log", want[100:]...)
	s.wait(len(want), one, two)
	one.stop()
	two.stop()
	got := lines(s.wait(len(want), one, two)) // with what came meanwhile
	slices.Sort(got)
	sorted := lines(want)
	slices.Sort(sorted)
	s.equal("entries of both", got, sorted)
}

// meanwhile appends from several goroutines while two consumers read, one of which fails now and then.
func meanwhile(s *suite) {
	const writers, each = 4, 500
	batches := 0
	flaky := s.read(s.log, "log", "flaky", func([]messagelog.Entry) error {
		if batches++; batches%3 == 0 {
			return errors.New("not now")
		}
		return nil
	})
	steady := s.read(s.log, "log", "steady", nil)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { s.append("log", texts(fmt.Sprint("group", w), each)...) })
	}
	wg.Wait()
	for name, r := range map[string]*reader{"flaky": flaky, "steady": steady} {
		byGroup := map[string][]string{}
		for _, e := range s.wait(writers*each, r) {
			byGroup[e.Group] = append(byGroup[e.Group], string(e.Data.Bytes))
		}
		for w := range writers {
			group := fmt.Sprint("group", w)
			s.equal(group+" for "+name, byGroup[group], lines(texts(group, each)))
		}
	}
}
