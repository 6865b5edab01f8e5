package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// postgresDB is Postgres 15 or newer, for any number of processes.
//
// A rule over several rows holds because its transaction locks first: the users it concerns in the order of their ids,
// then the room, or the rooms in the order of theirs. Statements that follow see what was committed before the lock.
// Everything runs at the isolation level "read committed".
type postgresDB struct {
	dialect
	pool    *pgxpool.Pool
	resetAt atomic.Int64 // when all connections were last thrown away, in nanoseconds since 1970
	failed  atomic.Int64 // see failures

	messages  atomic.Int64   // stored by this process; see stored
	analyzing sync.WaitGroup // of Close
}

// How long a connection is used: some minutes, each another number.
const (
	connLifetime       = 5 * time.Minute
	connLifetimeJitter = 2 * time.Minute
)

// OpenPostgres prepares a store at a URL such as "postgres://user:password@host/database", with pgx's parameters such as
// pool_max_conns and connect_timeout (here 5 s unless given). With several hosts, target_session_attrs=read-write finds
// the one that can write. It does not connect: the database may come later, and Ready tells. The schema is made by
// Migrate.
func OpenPostgres(ctx context.Context, url string) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the address of Postgres: %w; write it like postgres://user:password@host:5432/database", err)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if !strings.Contains(url, "pool_max_conn_lifetime") { // one that is kept leads to where its server was found, wherever it has gone since
		cfg.MaxConnLifetime, cfg.MaxConnLifetimeJitter = connLifetime, connLifetimeJitter
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// A process that vanishes without a word must not keep its locks.
		_, err := conn.Exec(ctx, `SET idle_in_transaction_session_timeout = '15s'`)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the connections to Postgres: %w", err)
	}
	return newStore(&postgresDB{dialect: dialect{words: postgresWords}, pool: pool}), nil
}

// MigratePostgres brings the schema of the database at url up to date.
func MigratePostgres(ctx context.Context, url string) error {
	s, err := OpenPostgres(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Migrate(ctx)
}

// Unreachable reports whether err says that the server could not be connected to or is starting, so that waiting
// may help. A wrong password or an unknown database is not that.
func Unreachable(err error) bool {
	var connect *pgconn.ConnectError
	var answer *pgconn.PgError
	return errors.As(err, &connect) && (!errors.As(err, &answer) || answer.Code == cannotConnectNow)
}

// Conditions by their SQLSTATE.
const (
	readOnly         = "25006"
	deadlock         = "40P01"
	undefinedTable   = "42P01"
	diskFull         = "53100"
	lockNotAvailable = "55P03" // lock_timeout
	queryCanceled    = "57014" // statement_timeout
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
	cannotConnectNow = "57P03" // starting, or shutting down
)

func stateOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func postgresWords(mark string) string {
	switch argument, isAny := strings.CutPrefix(mark, "any "); {
	case mark == "":
		return ""
	case isAny:
		return "= ANY(" + argument + ")"
	}
	switch mark {
	case "lock":
		return "FOR NO KEY UPDATE"
	case "skip":
		return "FOR NO KEY UPDATE SKIP LOCKED"
	case "now":
		return "clock_timestamp()"
	case "greatest", "least":
		return mark
	case "lazy":
		return " AND set_config('synchronous_commit', 'off', true) = 'off'"
	}
	if flag, ok := strings.CutPrefix(mark, "true "); ok {
		return flag
	}
	if later, ok := strings.CutPrefix(mark, "now+"); ok {
		return "(clock_timestamp() + " + later + "::bigint * interval '1 microsecond')"
	}
	panic("an unknown mark: " + mark)
}

func (db *postgresDB) given(first int, columns ...column) (string, []any) {
	var arrays, names []string
	var args []any
	for i, c := range columns {
		arrays, names = append(arrays, fmt.Sprintf("$%d::%s[]", first+i, c.kind)), append(names, c.name)
		args = append(args, c.values)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ") AS given (" + strings.Join(names, ", ") + ")", args
}

func (db *postgresDB) query(ctx context.Context, query string, args ...any) rows {
	r, err := db.pool.Query(ctx, db.sql(query), args...)
	if err != nil {
		db.note(err)
		return failed{err}
	}
	return &pgRows{Rows: r, end: func() { db.note(r.Err()) }}
}

func (db *postgresDB) alter(ctx context.Context, query string, args ...any) rows {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		db.note(err)
		return failed{err}
	}
	r, err := conn.Query(ctx, db.sql(query), args...)
	if err != nil {
		db.release(conn, err)
		return failed{err}
	}
	return &pgRows{Rows: r, end: func() { db.release(conn, r.Err()) }}
}

func (db *postgresDB) exec(ctx context.Context, query string, args ...any) (int64, error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		db.note(err)
		return 0, err
	}
	tag, err := conn.Exec(ctx, db.sql(query), args...)
	db.release(conn, err)
	return tag.RowsAffected(), err
}

// attempts is how often a transaction is tried that others are in the way of. Locks are taken in one order, so it takes a
// process of the version before, or a schema that is being migrated, to make a circle.
const attempts = 20

// errAgain asks for the transaction to be run again from its start.
var errAgain = errors.New("changed while it was being locked")

func (db *postgresDB) write(ctx context.Context, f func(tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.writeOnce(ctx, f)
		if attempt == attempts || !errors.Is(err, errAgain) && stateOf(err) != deadlock {
			return err
		}
	}
}

func (db *postgresDB) writeOnce(ctx context.Context, f func(tx) error) (err error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		db.note(err)
		return err
	}
	t := &pgTx{db: db, conn: conn}
	done := false
	defer func() {
		if !done { // f panics
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		db.release(conn, err)
	}()
	t.send("BEGIN ISOLATION LEVEL READ COMMITTED")
	t.send("SET LOCAL chatr.writer = 'events'") // see the triggers of migration 6
	if err = f(t); err == nil {
		err = t.commit(ctx)
	} else {
		t.rollback(ctx)
	}
	done = true
	return err
}

// note counts what says that the server may not be usable.
func (db *postgresDB) note(err error) {
	if err != nil && (stateOf(err) == "" || isUnwritable(stateOf(err))) {
		db.failed.Add(1)
	}
}

func (db *postgresDB) failures() int64 { return db.failed.Load() }

// isUnwritable says of an SQLSTATE that a connection with it is of no use any more.
func isUnwritable(state string) bool {
	switch state {
	case readOnly, diskFull, adminShutdown, crashShutdown, cannotConnectNow:
		return true
	}
	return false
}

// release gives a connection back, or throws it away when it cannot write: after a switchover it may be to a server that
// only reads, for ever, and so may be all others.
func (db *postgresDB) release(conn *pgxpool.Conn, err error) {
	db.note(err)
	state := stateOf(err)
	if isUnwritable(state) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = conn.Conn().Close(ctx)
		cancel()
	}
	conn.Release()
	if isUnwritable(state) && state != diskFull {
		// Not for each of many that fail at once.
		if last, now := db.resetAt.Load(), time.Now().UnixNano(); now-last > int64(100*time.Millisecond) && db.resetAt.CompareAndSwap(last, now) {
			db.pool.Reset()
		}
	}
}

// begins is how many statements begin a transaction.
const begins = 2

// pgTx is a transaction of which the statements that wait go with the next one whose result matters. BEGIN is the first.
type pgTx struct {
	db      *postgresDB
	conn    *pgxpool.Conn
	waiting *pgx.Batch
}

func (t *pgTx) send(query string, args ...any) {
	if t.waiting == nil {
		t.waiting = &pgx.Batch{}
	}
	t.waiting.Queue(t.db.sql(query), args...)
}

func (t *pgTx) lockName(kind, tenant, name string) {
	t.send(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, kind+" "+tenant+" "+name)
}

func (t *pgTx) shareName(kind, tenant, name string) {
	t.send(`SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))`, kind+" "+tenant+" "+name)
}

// flush sends what waits, and a statement, and returns what that one answers.
func (t *pgTx) flush(ctx context.Context, query string, args []any) (pgx.BatchResults, error) {
	t.send(query, args...)
	batch := t.waiting
	t.waiting = nil
	results := t.conn.SendBatch(ctx, batch)
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return nil, err
		}
	}
	return results, nil
}

func (t *pgTx) query(ctx context.Context, query string, args ...any) rows {
	if t.waiting == nil {
		r, err := t.conn.Query(ctx, t.db.sql(query), args...)
		if err != nil {
			return failed{err}
		}
		return &pgRows{Rows: r}
	}
	results, err := t.flush(ctx, query, args)
	if err != nil {
		return failed{err}
	}
	r, err := results.Query()
	if err != nil {
		_ = results.Close()
		return failed{err}
	}
	return &pgRows{Rows: r, end: func() { _ = results.Close() }} // what went wrong is in the rows
}

func (t *pgTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if t.waiting == nil {
		tag, err := t.conn.Exec(ctx, t.db.sql(query), args...)
		return tag.RowsAffected(), err
	}
	results, err := t.flush(ctx, query, args)
	if err != nil {
		return 0, err
	}
	tag, err := results.Exec()
	return tag.RowsAffected(), errors.Join(err, results.Close())
}

func (t *pgTx) commit(ctx context.Context) error {
	if t.waiting != nil && t.waiting.Len() == begins && t.conn.Conn().PgConn().TxStatus() == 'I' {
		return nil // nothing has happened
	}
	results, err := t.flush(ctx, "COMMIT", nil)
	if err != nil {
		t.rollback(ctx)
		return err
	}
	tag, err := results.Exec()
	if err = errors.Join(err, results.Close()); err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// rollback ends the transaction, or the connection.
func (t *pgTx) rollback(ctx context.Context) {
	c := t.conn.Conn()
	if c.IsClosed() || c.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		_ = c.Close(ctx)
	}
}

// pgRows are rows whose times are of UTC.
type pgRows struct {
	pgx.Rows
	end func() // what is to be done once they are read, if anything
}

func (r *pgRows) Scan(dest ...any) error {
	if err := r.Rows.Scan(dest...); err != nil {
		return err
	}
	for _, d := range dest {
		switch at := d.(type) {
		case *time.Time:
			*at = at.UTC()
		case **time.Time:
			if *at != nil {
				utc := (*at).UTC()
				*at = &utc
			}
		}
	}
	return nil
}

func (r *pgRows) Close() {
	r.Rows.Close()
	if r.end != nil {
		r.end()
		r.end = nil
	}
}

func (db *postgresDB) schema(ctx context.Context) (version int, err error) {
	err = get(ctx, db, into{&version}, `SELECT coalesce(max(version), 0) FROM chatr_schema`)
	if stateOf(err) == undefinedTable {
		return 0, nil
	}
	return version, err
}

// learnAt are the numbers of messages at which the planner is told what the tables are like. A plan that was made for empty
// tables, and kept, takes any index, and reads a whole room, or all users, for one row; the server's own analysis comes up
// to a minute later, when a new store may be full already.
var learnAt = []int64{500, 5_000, 50_000}

func (db *postgresDB) stored(messages int) {
	now := db.messages.Add(int64(messages))
	for _, at := range learnAt {
		if now >= at && now-int64(messages) < at {
			db.analyzing.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				_, _ = db.exec(ctx, `ANALYZE users, connections, rooms, members, departures, messages, blocks, room_events, effects`)
			})
		}
	}
}

// newerSchema is fine: migrations only add, so that processes of the last release go on while the next is rolled out, or
// rolled back.
func (*postgresDB) newerSchema() bool { return true }

func (db *postgresDB) tryWrite(ctx context.Context, version int) error {
	_, err := db.exec(ctx, `UPDATE chatr_schema SET version = version WHERE version = $1`, version)
	return err
}

func (*postgresDB) said(err error) bool { return stateOf(err) != "" }

// postgresReason returns why the server cannot be used, if err says that it cannot: there is no connection, it was lost, or it
// cannot write.
func postgresReason(err error) string {
	var connect *pgconn.ConnectError
	var network *net.OpError
	switch state := stateOf(err); {
	case state == readOnly:
		return chat.ReasonReadOnly
	case state == diskFull:
		return chat.ReasonFull
	case state == lockNotAvailable, state == queryCanceled:
		return chat.ReasonSlow
	case strings.HasPrefix(state, "57P"):
		return chat.ReasonStopping
	case state != "":
		return ""
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), pgconn.SafeToRetry(err):
		return chat.ReasonUnreachable
	}
	return ""
}

// close waits for running calls and closes the connections.
func (db *postgresDB) close() error {
	db.analyzing.Wait()
	db.pool.Close()
	return nil
}
