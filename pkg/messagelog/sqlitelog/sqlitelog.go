// Package sqlitelog keeps message logs in one SQLite file, for a deployment of one process.
//
// An entry whose done was called with nil survives the end of the process, however it ends; a power failure may
// take the last moments. Appends that come while others are being written share the next transaction. Consumers
// in the process hear of an entry as soon as it is written.
package sqlitelog

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/chatr-dev/chatr/pkg/messagelog"
)

// Why an entry was not appended.
var (
	ErrClosed = errors.New("the message log is closed")
	ErrFull   = errors.New("the message log has too much waiting to be written")
)

const (
	connections    = 4         // to the file: one writes, the others read
	maxQueued      = 20_000    // entries waiting to be written
	maxQueuedBytes = 128 << 20 // and their data
	writeBatch     = 1_000     // entries of one transaction
	readBatch      = 100       // entries handed to a consumer at once
	readBatchBytes = 4 << 20   // and their data, beyond the first
	trimInterval   = time.Minute
	minPause       = 100 * time.Millisecond // before a batch is handed over again
	maxPause       = 5 * time.Second
)

//go:embed schema.sql
var schema string

// Options bound what is kept. What is older or more is deleted within a minute; when four fifths of a bound are
// reached with entries that some consumer has not confirmed, and when such are deleted, an error is logged.
type Options struct {
	MaxAge    time.Duration // 7 days if 0
	MaxLength int64         // entries of a log; 1,000,000 if 0
	Logger    *slog.Logger  // slog.Default() if nil
}

// Log is a messagelog.Log in a SQLite file, for one process at a time.
type Log struct {
	// Fixed at creation.
	db      *sql.DB
	options Options
	more    chan struct{}  // has one element when there is something in queue; never closed
	closing chan struct{}  // closed once, by Close
	done    chan struct{}  // closed by write when it ends
	inside  sync.WaitGroup // Consume calls

	last int64 // sequence of the newest entry; of write alone

	mu        sync.Mutex // guards the following
	closed    bool
	queue     []pending
	bytes     int                        // of data in queue
	grown     map[string]chan struct{}   // by log; closed and forgotten when it has grown
	consuming map[consumer]chan struct{} // has one element while somebody consumes
}

var _ messagelog.Log = (*Log)(nil)

// pending is an entry on its way into the file.
type pending struct {
	log   string
	entry messagelog.Entry
	err   error // why it will not be written
	done  func(error)
}

type consumer struct{ log, name string }

// Open opens the file, creating it if need be. Its folder must exist.
func Open(path string, o Options) (*Log, error) {
	if o.MaxAge == 0 {
		o.MaxAge = 7 * 24 * time.Hour
	}
	if o.MaxLength == 0 {
		o.MaxLength = 1_000_000
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: "_txlock=immediate" +
		"&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open message log %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	l := &Log{
		db:        db,
		options:   o,
		more:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
		grown:     map[string]chan struct{}{},
		consuming: map[consumer]chan struct{}{},
	}
	if err := l.prepare(); err != nil {
		db.Close()
		return nil, fmt.Errorf("open message log %s: %w", path, err)
	}
	go l.write()
	return l, nil
}

// prepare makes the tables and finds the newest sequence.
func (l *Log) prepare() error {
	var version int
	if err := l.db.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version > 2 {
		return fmt.Errorf("it has schema %d and this program knows 2; run a newer chatr", version)
	}
	if version == 1 {
		if err := l.addEvents(); err != nil {
			return fmt.Errorf("bring it from schema 1 to 2: %w", err)
		}
	}
	if _, err := l.db.Exec(schema + `; PRAGMA user_version = 2`); err != nil {
		return err
	}
	return l.db.QueryRow(`
		SELECT max(coalesce((SELECT max(seq) FROM entries), 0), coalesce((SELECT max(seq) FROM consumers), 0))`).Scan(&l.last)
}

// addEvents adds what schema 1 lacks, in one transaction with the note that it is there.
func (l *Log) addEvents() error {
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after Commit
	for _, column := range []string{"event_type", "event_name", "event_id", "subprotocol", "state"} {
		if _, err := tx.Exec(`ALTER TABLE entries ADD COLUMN ` + column + ` TEXT NOT NULL DEFAULT ''`); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`PRAGMA user_version = 2`); err != nil {
		return err
	}
	return tx.Commit()
}

// Append queues e and calls done when it is in the file, or with ErrFull, ErrClosed or what went wrong.
func (l *Log) Append(name string, e messagelog.Entry, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		go done(ErrClosed)
		return
	}
	p := pending{log: name, entry: e, done: done}
	if len(l.queue) >= maxQueued || l.bytes+len(e.Data.Bytes) > maxQueuedBytes {
		p.entry, p.err = messagelog.Entry{}, ErrFull
	}
	l.bytes += len(p.entry.Data.Bytes)
	l.queue = append(l.queue, p)
	select {
	case l.more <- struct{}{}:
	default: // write knows
	}
}

// write drains the queue until Close, a transaction at a time.
func (l *Log) write() {
	defer close(l.done)
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	for {
		select {
		case <-l.more:
			l.drain()
		case now := <-ticker.C:
			if err := l.trim(now); err != nil {
				l.options.Logger.Error("message log not trimmed", "error", err)
			}
		case <-l.closing:
			l.drain()
			return
		}
	}
}

// drain writes what is queued.
func (l *Log) drain() {
	l.mu.Lock()
	queue := l.queue
	l.queue, l.bytes = nil, 0
	l.mu.Unlock()
	for len(queue) > 0 {
		batch := queue[:min(len(queue), writeBatch)]
		queue = queue[len(batch):]
		err := l.insert(batch)
		if err == nil {
			l.announce(batch)
		}
		for _, p := range batch {
			if p.err == nil {
				p.err = err
			}
			p.done(p.err)
		}
	}
}

// insert writes the entries that were not refused in one transaction.
func (l *Log) insert(batch []pending) error {
	tx, err := l.db.Begin()
	if err != nil {
		return fmt.Errorf("append to the message log: %w", err)
	}
	last := l.last
	if err := insertAll(tx, batch, &last); err != nil {
		return fmt.Errorf("append to the message log: %w", errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("append to the message log: %w", err)
	}
	l.last = last
	return nil
}

func insertAll(tx *sql.Tx, batch []pending, last *int64) error {
	stmt, err := tx.Prepare(`
		INSERT INTO entries (seq, log, tenant, hub, group_name, connection_id, user_id, time, type, data,
			event_type, event_name, event_id, subprotocol, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	now := time.Now().UnixMicro()
	for _, p := range batch {
		if p.err != nil {
			continue
		}
		*last = max(*last+1, now)
		e := p.entry
		event, id := messagelog.Event{}, ""
		if e.Event != nil {
			event, id = *e.Event, strconv.FormatUint(e.Event.ID, 10)
		}
		_, err := stmt.Exec(*last, p.log, e.Hub.Tenant, e.Hub.Hub, e.Group, e.ConnectionID, e.FromUserID,
			e.Time.UnixMicro(), e.Data.Type, append([]byte{}, e.Data.Bytes...), // not nil, which would be NULL
			event.Type, event.Name, id, event.Subprotocol, event.State)
		if err != nil {
			return err
		}
	}
	return nil
}

// announce wakes the consumers of logs that have grown.
func (l *Log) announce(batch []pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range batch {
		if grown := l.grown[p.log]; grown != nil && p.err == nil {
			close(grown)
			delete(l.grown, p.log)
		}
	}
}

// watch returns a channel that is closed when the log grows.
func (l *Log) watch(name string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown[name] == nil {
		l.grown[name] = make(chan struct{})
	}
	return l.grown[name]
}

// Ready returns nil, or why the log cannot take entries now.
func (l *Log) Ready(ctx context.Context) error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	if err := l.db.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the message log: %w", err)
	}
	return nil
}

// Close writes what is queued, ends all Consume calls and their handlers' contexts, waits for them, and closes the
// file. A handler must not call it.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	l.mu.Unlock()
	<-l.done
	l.inside.Wait()
	return l.db.Close()
}
