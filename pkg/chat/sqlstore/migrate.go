package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
)

// The version of a schema is the number of migrations applied. Each is applied once and never changed.
//
//go:embed migrations
var migrations embed.FS

// scripts returns the migrations of a kind of database, in their order.
func scripts(kind string) ([]string, error) {
	files, err := fs.Glob(migrations, "migrations/"+kind+"/*.sql")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, name := range files {
		script, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list = append(list, string(script))
	}
	return list, nil
}

func newerError(version, known int) error {
	return fmt.Errorf("the chat store has schema %d and this program knows %d; run a newer chatr", version, known)
}

func (*postgresDB) known() (int, error) {
	list, err := scripts("postgres")
	return len(list), err
}

func (*sqliteDB) known() (int, error) {
	list, err := scripts("sqlite")
	return len(list), err
}

// migrationLock is the advisory lock under which one process at a time migrates; the number has no meaning.
const migrationLock = 0x63686174

// migrate applies what the schema lacks, in one transaction under a lock.
func (db *postgresDB) migrate(ctx context.Context) error {
	list, err := scripts("postgres")
	if err != nil {
		return err
	}
	return db.write(ctx, func(t tx) error {
		t.send(`SELECT pg_advisory_xact_lock($1)`, migrationLock)
		t.send(`CREATE TABLE IF NOT EXISTS chatr_schema (version integer NOT NULL)`)
		if _, err := t.exec(ctx, `SELECT`); err != nil { // what follows is planned when the table is there
			return err
		}
		var version int
		if err := get(ctx, t, into{&version}, `SELECT coalesce(max(version), 0) FROM chatr_schema`); err != nil {
			return err
		}
		if version > len(list) {
			return newerError(version, len(list))
		}
		for i, script := range list[min(version, len(list)):] {
			// A script has many statements, which only a plain query can have.
			if _, err := t.(*pgTx).conn.Conn().PgConn().Exec(ctx, script).ReadAll(); err != nil {
				return fmt.Errorf("migration %d: %w", version+i+1, err)
			}
			if _, err := t.exec(ctx, `INSERT INTO chatr_schema (version) VALUES ($1)`, version+i+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// migrate applies what the schema lacks, in one transaction.
func (db *sqliteDB) migrate(ctx context.Context) error {
	list, err := scripts("sqlite")
	if err != nil {
		return err
	}
	return db.write(ctx, func(t tx) error {
		var version int
		if err := get(ctx, t, into{&version}, `PRAGMA user_version`); err != nil {
			return err
		}
		if version > len(list) {
			return newerError(version, len(list))
		}
		begun := t.(*sqliteTx).tx
		for i, script := range list[version:] {
			if _, err := begun.ExecContext(ctx, script); err != nil { // as it is: marks are not for scripts
				return fmt.Errorf("migration %d: %w", version+i+1, err)
			}
		}
		_, err := begun.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, len(list)))
		return err
	})
}
