package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/chatr-dev/chatr/pkg/chat/postgres"
)

func runMigrate(ctx context.Context, args []string, out io.Writer) error {
	s, _, err := load("migrate", args, out)
	if err != nil {
		return err
	}
	if err := require([2]string{"postgres.url", s.Postgres.URL}); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, s.Postgres.URL)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "the schema is up to date")
	return nil
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
