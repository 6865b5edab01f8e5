package sqlitelog

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/messagelog"
)

// Consume calls handle with what this consumer has not confirmed until ctx ends, and returns its error, or
// ErrClosed. A second call for the same consumer waits until the first ends. What happens to the file on the way is
// logged and tried again.
func (l *Log) Consume(ctx context.Context, name, consumerName string, handle func(context.Context, []messagelog.Entry) error) error {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	who := consumer{log: name, name: consumerName}
	release, err := l.hold(ctx, who)
	if err != nil {
		return err
	}
	defer release()
	if err := l.register(ctx, who); err != nil {
		return err
	}
	again := backoff.Backoff{First: minPause, Last: maxPause}
	for {
		grown := l.watch(name) // before reading, so that nothing slips between
		found, err := l.next(ctx, who, handle)
		switch {
		case err != nil:
			err = l.wait(ctx, time.After(again.Next()), nil)
		case !found:
			err = l.wait(ctx, nil, grown)
		default:
			again.Reset()
			err = l.wait(ctx, nil, passed)
		}
		if err != nil {
			return err
		}
	}
}

// enter returns a context that also ends with Close, which waits until leave is called.
func (l *Log) enter(ctx context.Context) (entered context.Context, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	l.inside.Go(func() {
		select {
		case <-l.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	l.inside.Add(1)
	return ctx, func() { cancel(); l.inside.Done() }, nil
}

// passed is a channel that need not be waited for.
var passed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// wait returns nil after either event, or why to stop, which goes first.
func (l *Log) wait(ctx context.Context, pause <-chan time.Time, grown <-chan struct{}) error {
	select {
	case <-pause:
	case <-grown:
	case <-ctx.Done(): // also when the log is closed
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// hold waits until nobody else is this consumer.
func (l *Log) hold(ctx context.Context, who consumer) (release func(), err error) {
	l.mu.Lock()
	held := l.consuming[who]
	if held == nil {
		held = make(chan struct{}, 1)
		l.consuming[who] = held
	}
	l.mu.Unlock()
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, l.wait(ctx, nil, nil)
	}
}

// register makes a consumer known, so that trimming looks after it.
func (l *Log) register(ctx context.Context, who consumer) error {
	_, err := l.db.ExecContext(ctx, `INSERT INTO consumers (log, consumer, seq) VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING`,
		who.log, who.name)
	if err != nil {
		return fmt.Errorf("register consumer %s of message log %s: %w", who.name, who.log, err)
	}
	return nil
}

// next hands a batch to handle and confirms it; found is false when there is none.
func (l *Log) next(ctx context.Context, who consumer, handle func(context.Context, []messagelog.Entry) error) (found bool, err error) {
	batch, last, err := l.read(ctx, who)
	if err != nil && ctx.Err() == nil {
		l.options.Logger.Error("message log not read; it will be tried again", "log", who.log, "consumer", who.name, "error", err)
	}
	if err != nil || len(batch) == 0 {
		return false, err
	}
	if err := handle(ctx, batch); err != nil {
		return true, err // the handler's to report
	}
	_, err = l.db.ExecContext(context.WithoutCancel(ctx), // what has been handled need not be handled again
		`UPDATE consumers SET seq = ?3 WHERE log = ?1 AND consumer = ?2`, who.log, who.name, last)
	if err != nil {
		l.options.Logger.Error("message log not confirmed; a batch will come again", "log", who.log, "consumer", who.name, "error", err)
	}
	return true, err
}

// read returns the oldest entries that the consumer has not confirmed, and the sequence of the last of them.
func (l *Log) read(ctx context.Context, who consumer) (batch []messagelog.Entry, last int64, err error) {
	rows, err := l.db.QueryContext(ctx, `
		SELECT seq, tenant, hub, group_name, connection_id, user_id, time, type, data,
			event_type, event_name, event_id, subprotocol, state FROM entries
		WHERE log = ?1 AND seq > (SELECT seq FROM consumers WHERE log = ?1 AND consumer = ?2)
		ORDER BY seq LIMIT ?3`,
		who.log, who.name, readBatch)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for size := 0; size < readBatchBytes && rows.Next(); {
		e, seq, err := scanEntry(rows)
		if err != nil {
			return nil, 0, err
		}
		batch, last = append(batch, e), seq
		size += len(e.Data.Bytes)
	}
	return batch, last, rows.Err()
}

func scanEntry(rows *sql.Rows) (e messagelog.Entry, seq int64, err error) {
	var micro int64
	var event messagelog.Event
	var id string
	err = rows.Scan(&seq, &e.Hub.Tenant, &e.Hub.Hub, &e.Group, &e.ConnectionID, &e.FromUserID, &micro, &e.Data.Type, &e.Data.Bytes,
		&event.Type, &event.Name, &id, &event.Subprotocol, &event.State)
	if err == nil && event.Type != "" {
		event.ID, err = strconv.ParseUint(id, 10, 64)
		e.Event = &event
	}
	e.ID, e.Time = strconv.FormatInt(seq, 10), time.UnixMicro(micro).UTC()
	return e, seq, err
}

// trim deletes what is beyond the bounds, and says aloud when a consumer has not confirmed it or soon will lose it.
func (l *Log) trim(now time.Time) error {
	ctx := context.Background()
	for name := ""; ; {
		err := l.db.QueryRowContext(ctx, `SELECT coalesce(min(log), '') FROM entries WHERE log > ?1`, name).Scan(&name)
		if err != nil {
			return fmt.Errorf("find the message logs: %w", err)
		}
		if name == "" {
			return nil
		}
		if err := l.trimLog(ctx, name, now); err != nil {
			return fmt.Errorf("trim message log %s: %w", name, err)
		}
	}
}

func (l *Log) trimLog(ctx context.Context, name string, now time.Time) error {
	soon, err := l.bound(ctx, name, now, l.options.MaxAge/5*4, l.options.MaxLength/5*4)
	if err != nil {
		return err
	}
	gone, err := l.bound(ctx, name, now, l.options.MaxAge, l.options.MaxLength)
	if err != nil {
		return err
	}
	if err := l.alarm(ctx, name, gone, "message log drops entries that a consumer has not read"); err != nil {
		return err
	}
	if _, err := l.db.ExecContext(ctx, `DELETE FROM entries WHERE log = ?1 AND seq <= ?2`, name, gone); err != nil {
		return err
	}
	return l.alarm(ctx, name, soon, "message log will soon drop entries that a consumer has not read")
}

// bound returns the newest sequence that is beyond an age or a length.
func (l *Log) bound(ctx context.Context, name string, now time.Time, age time.Duration, length int64) (seq int64, err error) {
	err = l.db.QueryRowContext(ctx, `
		SELECT max(?2, coalesce((SELECT seq FROM entries WHERE log = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?3), 0))`,
		name, now.Add(-age).UnixMicro(), length).Scan(&seq)
	return seq, err
}

// alarm logs an error for each consumer that has not confirmed entries up to seq.
func (l *Log) alarm(ctx context.Context, name string, seq int64, message string) error {
	rows, err := l.db.QueryContext(ctx, `
		SELECT consumer, count(*) FROM consumers c JOIN entries e ON e.log = c.log AND e.seq > c.seq AND e.seq <= ?2
		WHERE c.log = ?1 GROUP BY consumer`,
		name, seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var consumer string
		var entries int64
		if err := rows.Scan(&consumer, &entries); err != nil {
			return err
		}
		l.options.Logger.Error(message, "log", name, "consumer", consumer, "entries", entries)
	}
	return rows.Err()
}
