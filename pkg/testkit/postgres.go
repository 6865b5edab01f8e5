package testkit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a Postgres server of one test, for tests that stop it. Postgres is cheaper otherwise.
type PostgresServer struct {
	URL string // of an empty database

	t testing.TB
	p *process
}

// NewPostgresServer starts a Postgres server on a free port; it ends with the test. It takes about a second.
func NewPostgresServer(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := startPostgres(t)
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(s.p.remove)
	return s
}

// Stop ends the server as a crash would; connections break and new ones are refused.
func (s *PostgresServer) Stop() { s.p.stop() }

// Start starts the stopped server again, on the same port with the same data.
func (s *PostgresServer) Start() {
	s.t.Helper()
	if err := s.p.start(); err != nil {
		s.t.Fatal(err)
	}
}

// shared is the server behind Postgres. It ends with the test process.
var shared struct {
	once     sync.Once
	server   *PostgresServer
	err      error
	template sync.Once // makes the database "template_test"
	migrated error
	count    atomic.Int64 // of databases
}

// Postgres returns the URL of a database of the test's own, dropped after it. The databases are clones of one
// that migrate has been applied to once per test process; all callers of a process pass the same migrate, or
// nil for an empty database. The server behind it is shared by the tests of a process.
func Postgres(t testing.TB, migrate func(ctx context.Context, url string) error) string {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = startPostgres(t) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	ctx := context.Background()
	template := "template0"
	if migrate != nil {
		template = "template_test"
		shared.template.Do(func() {
			shared.migrated = execOnce(ctx, shared.server.URL, "CREATE DATABASE template_test")
			if shared.migrated == nil {
				shared.migrated = migrate(ctx, databaseURL(shared.server.URL, template))
			}
		})
		if shared.migrated != nil {
			t.Fatalf("migrate the template database: %v", shared.migrated)
		}
	}
	name := fmt.Sprintf("test_%d", shared.count.Add(1))
	if err := execOnce(ctx, shared.server.URL, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execOnce(ctx, shared.server.URL, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return databaseURL(shared.server.URL, name)
}

// execOnce runs a statement on a connection of its own.
func execOnce(ctx context.Context, url, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func databaseURL(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // made by startPostgres
	}
	u.Path = "/" + name
	return u.String()
}

// startPostgres makes a cluster in a temporary folder and starts its server.
func startPostgres(t testing.TB) (*PostgresServer, error) {
	t.Helper()
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	cred, err := postgresUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "testkit-postgres-")
	if err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	password := rand.Text()
	if err := initdb(bin, dir, password, cred); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	port := strconv.Itoa(FreePort(t))
	s := &PostgresServer{URL: fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%s/postgres?sslmode=disable", password, port)}
	s.p = &process{
		dir: dir,
		args: []string{filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-p", port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300",
			"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB"},
		signal: "QUIT", // immediate shutdown: as a crash, but it tidies up its shared memory
		cred:   cred,
		ready:  func() error { return execOnce(context.Background(), s.URL, "SELECT 1") },
	}
	if err := s.p.start(); err != nil {
		s.p.remove()
		return nil, err
	}
	return s, nil
}

func initdb(bin, dir, password string, cred *syscall.Credential) error {
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return err
	}
	if cred != nil {
		if err := os.Chown(secret, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "-E", "UTF8",
		"--locale=C", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync", "--no-instructions")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// postgresBin finds the folder of the newest Postgres: where Debian keeps it, else on the PATH.
func postgresBin() (string, error) {
	best, bestVersion := "", 0
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is well formed
	for _, initdb := range found {
		bin := filepath.Dir(initdb)
		version, _ := strconv.Atoi(strings.Split(filepath.Base(filepath.Dir(bin)), ".")[0])
		if version > bestVersion {
			best, bestVersion = bin, version
		}
	}
	if best != "" {
		return best, nil
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("no initdb found; the tests need Postgres: apt-get install postgresql")
	}
	return filepath.Dir(initdb), nil
}

// postgresUser returns the user to run as: Postgres refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("Postgres does not run as root and there is no user to run it: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
