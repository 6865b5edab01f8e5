package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/config"
)

// migrateSettings are the settings that chatr migrate uses; what else stands beside them does not matter to it.
type migrateSettings struct {
	Postgres struct {
		URL string `secret:"true" help:"postgres://user:password@host:5432/database"`
	}
	Restored bool `help:"a backup has just been put back: whoever knows the chat as it was later begins again"`
}

func runMigrate(ctx context.Context, args []string, out io.Writer) error {
	var s migrateSettings
	if _, err := config.Load(&s, "migrate", config.Source{Args: args, Env: os.Environ(), Others: &settings{}}, out); err != nil {
		return err
	}
	if err := require([2]string{"postgres.url", s.Postgres.URL}); err != nil {
		return err
	}
	store, err := sqlstore.OpenPostgres(ctx, s.Postgres.URL)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := migrate(ctx, store, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "the schema is up to date")
	if !s.Restored {
		return nil
	}
	if err := store.Restored(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "whoever knows the chat as it was after the backup begins again")
	return nil
}

// migrateWait is how long chatr migrate waits for a database that does not answer yet, as when both are started
// together.
const migrateWait = time.Minute

func migrate(ctx context.Context, store *sqlstore.Store, out io.Writer) error {
	giveUp := time.Now().Add(migrateWait)
	for attempt := 1; ; attempt++ {
		err := store.Migrate(ctx)
		if !sqlstore.Unreachable(err) || time.Now().After(giveUp) {
			return err
		}
		if attempt == 1 {
			fmt.Fprintf(out, "the database does not answer yet; waiting for up to %v\n", migrateWait)
		}
		if backoff.Sleep(ctx, time.Second) != nil {
			return err
		}
	}
}

// lockFolder makes the data folder and takes it for this process, so that two never write to it. The lock ends
// with the process.
func lockFolder(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another chatr uses the data folder %s; stop it, or give this one another by --data", folder)
	}
	return f, nil
}
