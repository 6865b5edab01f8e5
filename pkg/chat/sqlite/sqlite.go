// Package sqlite keeps the chat in one SQLite file, for a deployment of one machine.
//
// Writing takes turns on one connection, reading goes on beside it. What a method has reported survives the end
// of the process, however it ends; a power failure may take the last moments. Several processes may use one
// file.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// readers is how many queries run at once.
const readers = 4

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a chat.Store in a SQLite file.
type Store struct {
	writer *sql.DB // one connection, whose transactions take the write lock at once
	reader *sql.DB
}

var _ chat.Store = (*Store)(nil)

// Open opens the file, creating it if need be. Its folder must exist. The schema is made by Migrate.
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s := &Store{}
	if s.writer, err = openPool(path, 1, "_txlock=immediate"); err != nil {
		return nil, err
	}
	if err := s.writer.Ping(); err != nil { // makes the file, with its journal mode
		s.writer.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if s.reader, err = openPool(path, readers, "_pragma=query_only(1)"); err != nil {
		s.writer.Close()
		return nil, err
	}
	return s, nil
}

func openPool(path string, connections int, option string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: option +
		"&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=foreign_keys(1)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Migrate applies what the schema lacks, in one transaction. The version of the schema is the number of
// migrations applied.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
			return err
		}
		if version > len(files) {
			return newerError(version, len(files))
		}
		for _, name := range files[version:] {
			script, err := migrations.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(script)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, len(files)))
		return err
	})
	return annotate(err, "migrate the chat store")
}

// Ready returns nil, or why the store cannot be used now.
func (s *Store) Ready(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var version int
	if err := s.reader.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return fmt.Errorf("reach the chat store: %w", err)
	}
	switch {
	case version < len(files):
		return fmt.Errorf("the chat store has schema %d and needs %d; run chatr migrate", version, len(files))
	case version > len(files):
		return newerError(version, len(files))
	}
	return nil
}

func newerError(version, known int) error {
	return fmt.Errorf("the chat store has schema %d and this program knows %d; run a newer chatr", version, known)
}

// Close closes the file.
func (s *Store) Close() error { return errors.Join(s.reader.Close(), s.writer.Close()) }

// write runs f in a transaction that holds the write lock from its start, so that nothing f reads changes
// before it ends. An error of f's undoes what it did.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// annotate says what was being done, unless nothing went wrong.
func annotate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// change runs a statement and reports how many rows it changed.
func change(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// querier is a transaction or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows, each by scan.
func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

func scanString(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

// orNow is the time given or, for the zero time, now.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Truncate(time.Microsecond)
}
