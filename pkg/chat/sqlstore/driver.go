package sqlstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// driver is a database of one kind. Statements are written once, in the words of Postgres, with these marks for what
// differs (see postgresWords and sqliteWords):
//
//	$1, $2, …     arguments; a slice is one argument
//	{any $1}      is one of the argument's elements
//	{lock}        keeps other transactions from changing the rows selected
//	{skip}        the same, passing over rows that are locked
//	{now}         the time of the database; {now+$1} so many microseconds later
//	{greatest}    of several values; {least}
//	{true a}      the flag a is set, as indexes have it in their conditions
//	{lazy}        ends a condition: what the transaction does may be forgotten when the server crashes, so nobody waits for
//	              the disk
type driver interface {
	reader
	// exec runs a statement by itself and returns how many rows it changed.
	exec(ctx context.Context, query string, args ...any) (changed int64, err error)
	// alter is exec of a statement that returns rows.
	alter(ctx context.Context, query string, args ...any) rows
	// write runs f in a transaction and commits it, unless f fails: then nothing has happened. f may be run again
	// when another transaction was in the way.
	write(ctx context.Context, f func(tx) error) error
	// given is a list of rows that a statement reads as a table: its text and its arguments, counted from $first.
	given(first int, columns ...column) (table string, args []any)

	// stored says that so many messages more have been stored.
	stored(messages int)
	migrate(ctx context.Context) error
	// schema returns the version of the schema, 0 for none.
	schema(ctx context.Context) (int, error)
	// newerSchema says whether a schema newer than the program's may be worked with.
	newerSchema() bool
	known() (int, error)
	// tryWrite writes something, to see whether that can be done now.
	tryWrite(ctx context.Context, version int) error
	// failures counts what has gone wrong so far in a way that makes the database's being ready doubtful.
	failures() int64
	// said reports whether an error is one that the database itself has answered with.
	said(err error) bool
	close() error
}

// reader is a transaction, or the database for statements by themselves.
type reader interface {
	// query runs a statement that returns rows, which carry its error.
	query(ctx context.Context, query string, args ...any) rows
}

type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// tx is a transaction that holds its locks until it ends. It is for one goroutine.
type tx interface {
	reader
	exec(ctx context.Context, query string, args ...any) (changed int64, err error)
	// send has a statement run before the next one, or before the end: together with that, in one round trip.
	send(query string, args ...any)
	// lockName keeps other transactions from changing, or making, what has a name, which no lock of a row can when there
	// is none.
	lockName(kind, tenant, name string)
	// shareName keeps out whoever wants to lock a name, and nobody else.
	shareName(kind, tenant, name string)
}

// column is one of the columns of given.
type column struct {
	name   string
	kind   string // of Postgres
	values any    // a slice; all columns have as many
}

// words replace the marks of a statement; each kind of database has its own.
type words func(mark string) string

// dialect writes statements in the words of a database, each once.
type dialect struct {
	words  words
	finish func(string) string // what remains to be done to a statement; nil: nothing
	done   memo[string]
}

// memo remembers what was made of a text. It is safe for concurrent use.
type memo[T any] struct {
	mu    sync.RWMutex
	known map[string]T
}

func (m *memo[T]) load(text string) (T, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	made, ok := m.known[text]
	return made, ok
}

// store keeps what was made of a text and returns it, or what somebody else has kept meanwhile.
func (m *memo[T]) store(text string, made T) (kept T, isOther bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, ok := m.known[text]; ok {
		return other, true
	}
	if m.known == nil {
		m.known = map[string]T{}
	}
	m.known[text] = made
	return made, false
}

func (d *dialect) sql(text string) string {
	if known, ok := d.done.load(text); ok {
		return known
	}
	var b strings.Builder
	rest := text
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			break
		}
		mark, end, closed := strings.Cut(after, "}")
		if !closed {
			panic("a mark without an end in " + text)
		}
		b.WriteString(d.words(mark))
		rest = end
	}
	done := d.words("") + b.String()
	if d.finish != nil {
		done = d.finish(done)
	}
	done, _ = d.done.store(text, done)
	return done
}

// errNone says that there was no row.
var errNone = errors.New("no row")

// into is where the columns of a row go.
type into []any

// get reads the first row, or returns errNone.
func get(ctx context.Context, q reader, dest into, query string, args ...any) error {
	r := q.query(ctx, query, args...)
	defer r.Close()
	if !r.Next() {
		if err := r.Err(); err != nil {
			return err
		}
		return errNone
	}
	if err := r.Scan(dest...); err != nil {
		return err
	}
	r.Close()
	return r.Err()
}

// find is get for what may be unknown: chat.ErrNotFound for no row.
func find(ctx context.Context, q reader, dest into, query string, args ...any) error {
	err := get(ctx, q, dest, query, args...)
	if errors.Is(err, errNone) {
		return chat.ErrNotFound
	}
	return err
}

// collect reads all rows, each by scan.
func collect[T any](ctx context.Context, q reader, scan func(row rows) (T, error), query string, args ...any) ([]T, error) {
	r := q.query(ctx, query, args...)
	defer r.Close()
	var all []T
	for r.Next() {
		row, err := scan(r)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	r.Close()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

func scanString(row rows) (s string, err error) { return s, row.Scan(&s) }

// failed are rows that there are none of.
type failed struct{ err error }

func (failed) Next() bool          { return false }
func (f failed) Scan(...any) error { return f.err }
func (f failed) Err() error        { return f.err }
func (failed) Close()              {}

// annotate says what was being done, unless nothing went wrong. An error that says of the store that it cannot be used now is a
// *chat.NotReady: whoever asks the store again whether it is ready may be answered by another connection, which has not been
// lost yet.
func annotate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if reason := notReadyReason(err); reason != "" {
		err = &chat.NotReady{Reason: reason, Err: err}
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// notReadyReason returns why the store cannot be used, if err says that it cannot.
func notReadyReason(err error) string {
	switch reason := cmp.Or(postgresReason(err), sqliteReason(err)); {
	case reason != "":
		return reason
	case errors.Is(err, context.DeadlineExceeded):
		return chat.ReasonSlow
	}
	return ""
}

// orNow is the time given or, for the zero time, now.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Truncate(time.Microsecond)
}

// asJSON is a list as SQLite reads it.
func asJSON(list any) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // lists of texts and numbers
	}
	return string(text)
}
