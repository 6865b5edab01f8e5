package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/chattest"
)

func TestStore(t *testing.T) {
	chattest.Run(t, func(t *testing.T) func() chat.Store {
		path := filepath.Join(t.TempDir(), "chat ?#%.db") // a path is not a URL
		return func() chat.Store { return open(t, path) }
	})
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaVersions(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "chat.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "run chatr migrate") {
		t.Errorf("ready without a schema: got %v, want advice to migrate", err)
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("ready after migrating: %v", err)
	}
	if _, err := s.writer.Exec(`PRAGMA user_version = 1000`); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"ready": s.Ready(ctx), "migrate": s.Migrate(ctx)} {
		if err == nil || !strings.Contains(err.Error(), "run a newer chatr") {
			t.Errorf("%s with a newer schema: got %v, want advice to update the program", what, err)
		}
	}
}

func TestOpenReportsABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "chat.db")
	if s, err := Open(path); err == nil {
		s.Close()
		t.Fatal("opened a file in a folder that does not exist")
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("error: got %v, want it to name %s", err, path)
	}
}
