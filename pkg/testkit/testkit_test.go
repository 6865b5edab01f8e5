package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestRedisStopsAndStarts(t *testing.T) {
	s := Redis(t)
	if got, want := ask(t, s.Addr, "SET colour blue"), "+OK"; got != want {
		t.Fatalf("SET: got %q, want %q", got, want)
	}
	s.Stop()
	if conn, err := net.Dial("tcp", s.Addr); err == nil {
		conn.Close()
		t.Fatal("a stopped server accepts connections")
	}
	s.Start()
	if got, want := ask(t, s.Addr, "STRLEN colour"), ":4"; got != want {
		t.Fatalf("what was written is gone after a restart: got %q, want %q", got, want)
	}
	s.Stop()
	s.Forget()
	s.Start()
	if got, want := ask(t, s.Addr, "STRLEN colour"), ":0"; got != want {
		t.Fatalf("what a server was to forget is there after a restart: got %q, want %q", got, want)
	}
	s.Pause()
	if err := pingRedis(s.Addr); err == nil {
		t.Fatal("a paused server answers")
	}
	s.Resume()
	if err := pingRedis(s.Addr); err != nil {
		t.Fatalf("a resumed server does not answer: %v", err)
	}
}

func ask(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n", command)
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(buf[:n]))
}

func migrate(ctx context.Context, url string) error {
	return execOnce(ctx, url, "CREATE TABLE things (id int PRIMARY KEY)")
}

func TestPostgresGivesEachTestItsDatabase(t *testing.T) {
	ctx := context.Background()
	first, second, empty := Postgres(t, migrate), Postgres(t, migrate), Postgres(t, nil)
	if err := execOnce(ctx, first, "INSERT INTO things VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var got int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM things").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := 0; got != want {
		t.Errorf("rows in another test's database: got %d, want %d", got, want)
	}
	if err := execOnce(ctx, empty, "SELECT * FROM things"); err == nil {
		t.Error("a database without migration has the table things")
	}
}

func TestPostgresServerStopsAndStarts(t *testing.T) {
	ctx := context.Background()
	s := NewPostgresServer(t)
	if err := migrate(ctx, s.URL); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := execOnce(ctx, s.URL, "SELECT 1"); err == nil {
		t.Fatal("a stopped server answers")
	}
	s.Start()
	if err := execOnce(ctx, s.URL, "SELECT * FROM things"); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
}

// TestServersEndWithTheProcess kills a process that holds servers, and sees servers and folders go.
func TestServersEndWithTheProcess(t *testing.T) {
	if os.Getenv("TESTKIT_CHILD") != "" {
		redis := Redis(t)
		Postgres(t, nil)
		fmt.Println("servers", redis.p.pid, shared.server.p.pid, redis.p.dir, shared.server.p.dir)
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServersEndWithTheProcess$")
	cmd.Env = append(os.Environ(), "TESTKIT_CHILD=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var redisPID, postgresPID int
	var redisDir, postgresDir string
	_, err = fmt.Fscanf(stdout, "servers %d %d %s %s\n", &redisPID, &postgresPID, &redisDir, &postgresDir)
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{redisPID, postgresPID} {
		Eventually(t, 10*time.Second, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH },
			"server "+strconv.Itoa(pid)+" has ended")
	}
	for _, dir := range []string{redisDir, postgresDir} {
		Eventually(t, 10*time.Second, func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, os.ErrNotExist)
		}, dir+" is removed")
	}
}

func TestFreePortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port := FreePort(t)
		if seen[port] {
			t.Fatalf("port %d was handed out twice", port)
		}
		seen[port] = true
	}
}

func TestSampleJSONIsJSONOfItsSize(t *testing.T) {
	for n := 128; n < 2000; n++ {
		if b := SampleJSON(n); len(b) != n || !json.Valid(b) {
			t.Fatalf("%d: got %d bytes, %.200s", n, len(b), b)
		}
	}
}
