package sqlitelog

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/logtest"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

func TestLog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) func() messagelog.Log {
		path := filepath.Join(t.TempDir(), "log ?#%.db")
		return func() messagelog.Log { return open(t, path, Options{}) }
	})
}

func open(t testing.TB, path string, o Options) *Log {
	t.Helper()
	l, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func said(text string) messagelog.Entry {
	return messagelog.Entry{
		Hub:  webpubsub.HubKey{Tenant: "tenant", Hub: "chat"},
		Time: time.Now(), Group: "room", ConnectionID: "c1", FromUserID: "ann", Data: webpubsub.Text(text),
	}
}

// add appends entries with these texts and waits until they are kept.
func add(t testing.TB, l *Log, texts ...string) {
	t.Helper()
	done := make(chan error)
	for _, text := range texts {
		l.Append("log", said(text), func(err error) { done <- err })
	}
	for range texts {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// consume starts a consumer and returns the texts it gets.
func consume(t testing.TB, l *Log, name string) <-chan string {
	texts := make(chan string, 100_000)
	go l.Consume(t.Context(), "log", name, func(_ context.Context, batch []messagelog.Entry) error { //nolint:errcheck // ends with the test
		for _, e := range batch {
			texts <- string(e.Data.Bytes)
		}
		return nil
	})
	return texts
}

// TestAckedEntriesSurviveKill kills a process while it appends and looks for every entry that was acked.
func TestAckedEntriesSurviveKill(t *testing.T) {
	if path := os.Getenv("SQLITELOG_CHILD"); path != "" {
		appendForever(t, path)
	}
	path := filepath.Join(t.TempDir(), "log.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestAckedEntriesSurviveKill$")
	cmd.Env = append(os.Environ(), "SQLITELOG_CHILD="+path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			acked = append(acked, text)
		}
		if len(acked) == 2000 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if len(acked) < 2000 {
		t.Fatalf("acked before the kill: got %d, want 2000 or more", len(acked))
	}
	texts := consume(t, open(t, path, Options{}), "consumer")
	for i, want := range acked {
		select {
		case got := <-texts:
			if got != want {
				t.Fatalf("entry %d: got %q, want %q", i, got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("entry %d of %d acked is lost", i, len(acked))
		}
	}
}

func appendForever(t *testing.T, path string) {
	l := open(t, path, Options{})
	inFlight := make(chan struct{}, 100)
	for i := 0; ; i++ {
		inFlight <- struct{}{}
		text := fmt.Sprint("line ", i)
		l.Append("log", said(text), func(err error) {
			if err == nil {
				fmt.Println("acked", text)
			}
			<-inFlight
		})
	}
}

// TestConsumerWakesAtOnce appends when the consumer has nothing to do. Polling would need its interval on average. A busy
// machine may need several attempts.
func TestConsumerWakesAtOnce(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log.db"), Options{})
	texts := consume(t, l, "consumer")
	const rounds = 20
	testkit.Eventually(t, time.Minute, func() bool {
		start := time.Now()
		for i := range rounds {
			add(t, l, fmt.Sprint(i))
			<-texts
		}
		return time.Since(start)/rounds < 20*time.Millisecond
	}, "from append to handle it takes less than 20 ms on average")
}

func TestTrim(t *testing.T) {
	var logged bytes.Buffer
	path := filepath.Join(t.TempDir(), "log.db")
	l := open(t, path, Options{MaxAge: time.Hour, MaxLength: 10, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	trim := func(now time.Time, want ...string) {
		t.Helper()
		logged.Reset()
		if err := l.trim(now); err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 && logged.Len() > 0 {
			t.Errorf("log after trimming: got %s, want none", &logged)
		}
		for _, w := range want {
			if !strings.Contains(logged.String(), w) {
				t.Errorf("log after trimming: got %s, want %s", &logged, w)
			}
		}
	}
	number := func(first, n int) (texts []string) {
		for i := range n {
			texts = append(texts, fmt.Sprint(first+i))
		}
		return texts
	}
	expect := func(texts <-chan string, want ...string) {
		t.Helper()
		for _, w := range want {
			if got := <-texts; got != w {
				t.Fatalf("entry: got %s, want %s", got, w)
			}
		}
	}
	add(t, l, number(0, 20)...)
	trim(time.Now()) // nobody has missed anything
	texts := consume(t, l, "quick")
	expect(texts, number(10, 10)...)

	stuck := make(chan struct{})
	unstick := make(chan struct{})
	go l.Consume(t.Context(), "log", "slow", func(context.Context, []messagelog.Entry) error { //nolint:errcheck // ends with the test
		stuck <- struct{}{}
		<-unstick
		return errors.New("cannot")
	})
	<-stuck
	trim(time.Now(), "msg=\"message log will soon drop entries that a consumer has not read\" log=log consumer=slow entries=2")
	add(t, l, number(20, 4)...)
	expect(texts, number(20, 4)...)
	trim(time.Now(), "msg=\"message log drops entries that a consumer has not read\" log=log consumer=slow entries=4")
	if strings.Contains(logged.String(), "quick") {
		t.Errorf("alarm for a consumer that has read all: %s", &logged)
	}
	trim(time.Now().Add(50*time.Minute), "will soon drop", "entries=10")
	trim(time.Now().Add(61*time.Minute), "drops entries", "entries=10")
	add(t, l, "new")
	expect(texts, "new")
	expect(consume(t, l, "late"), "new")
	close(unstick)
}

// TestFullQueueRefuses appends more than may wait, before anything can be written.
func TestFullQueueRefuses(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log.db"), Options{})
	results := make(chan error, maxQueued+10)
	blocked, unblock := make(chan struct{}), make(chan struct{})
	l.Append("log", said("first"), func(error) { close(blocked); <-unblock })
	<-blocked // the writer hangs in done, which a caller should not do
	for range maxQueued + 10 {
		l.Append("log", said("more"), func(err error) { results <- err })
	}
	close(unblock)
	kept, refused := 0, 0
	for range maxQueued + 10 {
		switch err := <-results; {
		case err == nil:
			kept++
		case errors.Is(err, ErrFull):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if kept != maxQueued || refused != 10 {
		t.Errorf("kept and refused: got %d and %d, want %d and 10", kept, refused, maxQueued)
	}
}

func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := open(t, path, Options{})
	acks := make(chan error, 100)
	for range 100 {
		l.Append("log", said("last words"), func(err error) { acks <- err })
	}
	ended := make(chan error)
	go func() {
		ended <- l.Consume(context.Background(), "other log", "consumer", func(context.Context, []messagelog.Entry) error { return nil })
	}()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := <-acks; err != nil {
			t.Errorf("an entry queued before closing: %v", err)
		}
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("consume after closing: got %v, want %v", err, ErrClosed)
	}
	l.Append("log", said("too late"), func(err error) { acks <- err })
	if err := <-acks; !errors.Is(err, ErrClosed) {
		t.Errorf("append after closing: got %v, want %v", err, ErrClosed)
	}
	if err := l.Ready(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("ready after closing: got %v, want %v", err, ErrClosed)
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, filepath.Join(b.TempDir(), "log.db"), Options{})
	inFlight := make(chan struct{}, 1000)
	for b.Loop() {
		inFlight <- struct{}{}
		l.Append("log", said("a line of some forty characters, as usual"), func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-inFlight
		})
	}
	for range cap(inFlight) {
		inFlight <- struct{}{}
	}
}

// A log that a version before events has made is read on, and takes events.
func TestSchemaOfVersionOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`
		CREATE TABLE entries (seq INTEGER PRIMARY KEY, log TEXT NOT NULL, tenant TEXT NOT NULL, hub TEXT NOT NULL, group_name TEXT NOT NULL,
			connection_id TEXT NOT NULL, user_id TEXT NOT NULL, time INTEGER NOT NULL, type INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
		CREATE INDEX entries_log ON entries (log, seq);
		CREATE TABLE consumers (log TEXT NOT NULL, consumer TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (log, consumer)) STRICT, WITHOUT ROWID;
		INSERT INTO entries VALUES (1, 'history', 'acme', 'chat', 'room', 'c1', 'ana', 1000000, 1, x'6f6c64');
		PRAGMA user_version = 1`)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	for range 2 { // and once more, as schema 2
		l, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		l.Append("history", messagelog.Entry{Data: webpubsub.Text("new"), Event: &messagelog.Event{Type: "t", Name: "n", ID: 7}}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = l.Consume(ctx, "history", "me", func(_ context.Context, batch []messagelog.Entry) error {
			first, last := batch[0], batch[len(batch)-1]
			if string(first.Data.Bytes) == "old" && first.Event != nil || last.Event == nil || last.Event.ID != 7 {
				t.Errorf("got %+v, want a message and then events", batch)
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		l.Close()
	}
}
