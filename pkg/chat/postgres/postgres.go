// Package postgres keeps the chat in Postgres 15 or newer, for any number of processes.
//
// A rule over several rows holds because its transaction locks first: the users it concerns in the order of
// their ids, then the room, or the rooms in the order of theirs. Statements that follow see what was committed before the lock. Everything runs at
// the isolation level "read committed".
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// migrationLock is the advisory lock under which one process at a time migrates; the number has no meaning.
const migrationLock = 0x63686174

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a chat.Store in a Postgres database.
type Store struct{ pool *pgxpool.Pool }

var _ chat.Store = (*Store)(nil)

// Open prepares a store at a URL such as "postgres://user:password@host/database", with pgx's parameters such as
// pool_max_conns and connect_timeout (here 5 s unless given). It does not connect: the database may come later, and
// Ready tells. The schema is made by Migrate.
func Open(ctx context.Context, url string) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the address of Postgres: %w; write it like postgres://user:password@host:5432/database", err)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
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
	return &Store{pool: pool}, nil
}

// Migrate brings the schema of the database at url up to date.
func Migrate(ctx context.Context, url string) error {
	s, err := Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Migrate(ctx)
}

// Migrate applies what the schema lacks, in one transaction under a lock. The version of the schema is the number
// of migrations applied.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS chatr_schema (version integer NOT NULL)`); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM chatr_schema`).Scan(&version); err != nil {
			return err
		}
		if version > len(files) {
			return fmt.Errorf("the chat store has schema %d and this program knows %d; run a newer chatr", version, len(files))
		}
		for i, name := range files[version:] {
			script, err := migrations.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(script)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO chatr_schema (version) VALUES ($1)`, version+i+1); err != nil {
				return err
			}
		}
		return nil
	})
	return annotate(err, "migrate the chat store")
}

// Ready returns nil, or why the store cannot be used now. A newer schema is fine: migrations only add, so that
// processes of the last release go on while the next is rolled out, or rolled back.
func (s *Store) Ready(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var version int
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM chatr_schema`).Scan(&version)
	if err != nil && !hasCode(err, undefinedTable) {
		return fmt.Errorf("reach the chat store: %w", err)
	}
	if version < len(files) {
		return fmt.Errorf("the chat store has schema %d and needs %d; run chatr migrate", version, len(files))
	}
	return nil
}

// Unreachable reports whether err says that the server could not be connected to or is starting, so that waiting
// may help. A wrong password or an unknown database is not that.
func Unreachable(err error) bool {
	var connect *pgconn.ConnectError
	var answer *pgconn.PgError
	return errors.As(err, &connect) && (!errors.As(err, &answer) || answer.Code == cannotConnectNow)
}

// Close waits for running calls and closes the connections.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// write runs f in a transaction. An error of f's undoes what it did.
func (s *Store) write(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, f)
}

// annotate says what was being done, unless nothing went wrong.
func annotate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// Conditions by their SQLSTATE.
const (
	uniqueViolation  = "23505"
	undefinedTable   = "42P01"
	cannotConnectNow = "57P03" // starting, or shutting down
)

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// querier is a transaction or the pool.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// collect reads all rows, each by scan.
func collect[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], query string, args ...any) ([]T, error) {
	rows, _ := q.Query(ctx, query, args...) // rows carry the error
	return pgx.CollectRows(rows, scan)
}

// orNow is the time given or, for the zero time, now.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Truncate(time.Microsecond)
}
