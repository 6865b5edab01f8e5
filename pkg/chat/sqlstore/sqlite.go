package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// readers is how many queries run at once.
const readers = 4

// sqliteDB is one SQLite file, for a deployment of one machine.
//
// Writing takes turns on one connection, reading goes on beside it. What a method has reported survives the end
// of the process, however it ends; a power failure may take the last moments. Several processes may use one
// file.
type sqliteDB struct {
	dialect
	writer *sql.DB // one connection, whose transactions take the write lock at once
	reader *sql.DB
	failed atomic.Int64 // see failures

	// Statements that have been compiled, by their text, for the writer and for the readers. Compiling one takes longer than
	// running it.
	writing, reading memo[*sql.Stmt]
}

// OpenSQLite opens the file, creating it if need be. Its folder must exist. The schema is made by Migrate.
func OpenSQLite(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db := &sqliteDB{dialect: dialect{words: sqliteWords, finish: numbered}}
	if db.writer, err = openPool(path, 1, "_txlock=immediate"); err != nil {
		return nil, err
	}
	if err := db.writer.Ping(); err != nil { // makes the file, with its journal mode
		_ = db.writer.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if db.reader, err = openPool(path, readers, "_pragma=query_only(1)"); err != nil {
		_ = db.writer.Close()
		return nil, err
	}
	return newStore(db), nil
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

const sqliteNow = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"

func sqliteWords(mark string) string {
	switch argument, isAny := strings.CutPrefix(mark, "any "); {
	case isAny:
		return "IN (SELECT value FROM json_each(" + argument + "))"
	}
	switch mark {
	case "", "lazy", "lock", "skip": // whoever writes is alone
		return ""
	case "now":
		return sqliteNow
	case "greatest":
		return "max"
	case "least":
		return "min"
	}
	if flag, ok := strings.CutPrefix(mark, "true "); ok {
		return flag + " = 1"
	}
	if later, ok := strings.CutPrefix(mark, "now+"); ok {
		return "(" + sqliteNow + " + " + later + ")"
	}
	panic("an unknown mark: " + mark)
}

var argument = regexp.MustCompile(`\$([0-9]+)`)

// numbered writes the arguments of a statement as SQLite counts them.
func numbered(text string) string { return argument.ReplaceAllString(text, "?$1") }

func (db *sqliteDB) given(first int, columns ...column) (string, []any) {
	var names []string
	n := 0
	for i, c := range columns {
		names = append(names, fmt.Sprintf("value ->> %d AS %s", i, c.name))
		n = reflect.ValueOf(c.values).Len()
	}
	list := make([][]any, n)
	for i := range list {
		for _, c := range columns {
			value := reflect.ValueOf(c.values).Index(i).Interface()
			if at, ok := value.(time.Time); ok {
				value = at.UnixMicro()
			}
			list[i] = append(list[i], value)
		}
	}
	// A limit keeps SQLite from merging this into the statement: it would go through all rows of a tenant, and read the JSON anew for
	// each of them.
	return fmt.Sprintf("(SELECT %s FROM json_each($%d) LIMIT -1) AS given", strings.Join(names, ", "), first), []any{asJSON(list)}
}

// sqliteArgs returns arguments as the file holds them: times are microseconds since 1970, lists are JSON.
func sqliteArgs(args []any) []any {
	done := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case time.Time:
			done[i] = v.UnixMicro()
		case []string, []int64:
			if reflect.ValueOf(v).IsNil() {
				v = []string{}
			}
			done[i] = asJSON(v)
		default:
			done[i] = a
		}
	}
	return done
}

// compiled returns a compiled statement of a pool.
func compiled(ctx context.Context, pool *sql.DB, known *memo[*sql.Stmt], text string) (*sql.Stmt, error) {
	if stmt, ok := known.load(text); ok {
		return stmt, nil
	}
	stmt, err := pool.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	kept, isOther := known.store(text, stmt)
	if isOther {
		_ = stmt.Close()
	}
	return kept, nil
}

func (db *sqliteDB) ask(ctx context.Context, stmt *sql.Stmt, args []any) rows {
	r, err := stmt.QueryContext(ctx, sqliteArgs(args)...)
	if err != nil {
		db.failed.Add(1)
		return failed{err}
	}
	return sqliteRows{r}
}

func (db *sqliteDB) change(ctx context.Context, stmt *sql.Stmt, args []any) (int64, error) {
	result, err := stmt.ExecContext(ctx, sqliteArgs(args)...)
	if err != nil {
		db.failed.Add(1)
		return 0, err
	}
	return result.RowsAffected()
}

func (db *sqliteDB) query(ctx context.Context, query string, args ...any) rows {
	stmt, err := compiled(ctx, db.reader, &db.reading, db.sql(query))
	if err != nil {
		db.failed.Add(1)
		return failed{err}
	}
	return db.ask(ctx, stmt, args)
}

func (db *sqliteDB) alter(ctx context.Context, query string, args ...any) rows {
	stmt, err := compiled(ctx, db.writer, &db.writing, db.sql(query))
	if err != nil {
		db.failed.Add(1)
		return failed{err}
	}
	return db.ask(ctx, stmt, args)
}

func (db *sqliteDB) exec(ctx context.Context, query string, args ...any) (int64, error) {
	stmt, err := compiled(ctx, db.writer, &db.writing, db.sql(query))
	if err != nil {
		db.failed.Add(1)
		return 0, err
	}
	return db.change(ctx, stmt, args)
}

// write runs f in a transaction that holds the write lock from its start, so that nothing f reads changes
// before it ends.
func (db *sqliteDB) write(ctx context.Context, f func(tx) error) error {
	begun, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		db.failed.Add(1)
		return err
	}
	t := &sqliteTx{db: db, tx: begun}
	if err = f(t); err == nil {
		err = t.flush(ctx)
	}
	if err != nil {
		return errors.Join(err, begun.Rollback())
	}
	if err := begun.Commit(); err != nil {
		return err
	}
	for text := range t.unknown { // for the next time: the transaction had the only connection
		_, _ = compiled(ctx, db.writer, &db.writing, text)
	}
	return nil
}

type sqliteTx struct {
	db      *sqliteDB
	tx      *sql.Tx
	waiting []statement
	unknown map[string]bool // statements that were not compiled before
}

// compiled returns a statement for this transaction.
func (t *sqliteTx) compiled(ctx context.Context, query string) (*sql.Stmt, error) {
	text := t.db.sql(query)
	if stmt, ok := t.db.writing.load(text); ok {
		return t.tx.StmtContext(ctx, stmt), nil
	}
	if t.unknown == nil {
		t.unknown = map[string]bool{}
	}
	t.unknown[text] = true
	return t.tx.PrepareContext(ctx, text)
}

func (t *sqliteTx) change(ctx context.Context, s statement) (int64, error) {
	stmt, err := t.compiled(ctx, s.query)
	if err != nil {
		return 0, err
	}
	return t.db.change(ctx, stmt, s.args)
}

type statement struct {
	query string
	args  []any
}

func (t *sqliteTx) send(query string, args ...any) {
	t.waiting = append(t.waiting, statement{query, args})
}

func (*sqliteTx) lockName(_, _, _ string) {}

func (*sqliteTx) shareName(_, _, _ string) {}

func (t *sqliteTx) flush(ctx context.Context) error {
	for _, s := range t.waiting {
		if _, err := t.change(ctx, s); err != nil {
			return err
		}
	}
	t.waiting = nil
	return nil
}

func (t *sqliteTx) query(ctx context.Context, query string, args ...any) rows {
	if err := t.flush(ctx); err != nil {
		return failed{err}
	}
	stmt, err := t.compiled(ctx, query)
	if err != nil {
		return failed{err}
	}
	return t.db.ask(ctx, stmt, args)
}

func (t *sqliteTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := t.flush(ctx); err != nil {
		return 0, err
	}
	return t.change(ctx, statement{query, args})
}

// sqliteRows are rows whose times are microseconds since 1970.
type sqliteRows struct{ *sql.Rows }

func (r sqliteRows) Close() { _ = r.Rows.Close() } // what went wrong is in Err

func (r sqliteRows) Scan(dest ...any) error {
	micros := make([]*int64, len(dest))
	columns := make([]any, len(dest))
	for i, d := range dest {
		switch d.(type) {
		case *time.Time, **time.Time:
			columns[i] = &micros[i]
		default:
			columns[i] = d
		}
	}
	if err := r.Rows.Scan(columns...); err != nil {
		return err
	}
	for i, d := range dest {
		switch at := d.(type) {
		case *time.Time:
			if micros[i] == nil {
				return fmt.Errorf("column %d has no time", i)
			}
			*at = time.UnixMicro(*micros[i]).UTC()
		case **time.Time:
			*at = nil
			if micros[i] != nil {
				utc := time.UnixMicro(*micros[i]).UTC()
				*at = &utc
			}
		}
	}
	return nil
}

func (*sqliteDB) stored(int) {}

func (db *sqliteDB) schema(ctx context.Context) (version int, err error) {
	return version, get(ctx, db, into{&version}, `PRAGMA user_version`)
}

// newerSchema is not fine: only one program uses a file.
func (*sqliteDB) newerSchema() bool { return false }

// tryWrite changes the file's header to what it is.
func (db *sqliteDB) tryWrite(ctx context.Context, version int) error {
	_, err := db.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version))
	return err
}

func (db *sqliteDB) failures() int64 { return db.failed.Load() }

func (*sqliteDB) said(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e)
}

// sqliteReason returns why the file cannot be used, if err says that it cannot.
func sqliteReason(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_READONLY:
		return chat.ReasonReadOnly
	case sqlite3.SQLITE_FULL:
		return chat.ReasonFull
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR:
		return chat.ReasonUnreachable
	case sqlite3.SQLITE_BUSY: // another program has locked the file, as for a backup
		return chat.ReasonSlow
	}
	return ""
}

func (db *sqliteDB) close() error { return errors.Join(db.reader.Close(), db.writer.Close()) }
