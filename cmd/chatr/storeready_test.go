package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestStoreThatTakesNoWrites: after a switchover, or when the disk is full, the running service says at every place where
// somebody looks that its store does not take writes, and why, and takes them again without a restart.
func TestStoreThatTakesNoWrites(t *testing.T) {
	const full = `CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION full_disk()`
	for reason, c := range map[string]struct{ begin, end []string }{
		"read-only": {
			[]string{`ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`},
			[]string{`ALTER SYSTEM RESET default_transaction_read_only`, `SELECT pg_reload_conf()`},
		},
		"full": { // as the server says it when it cannot extend a file
			[]string{`CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$`,
				fmt.Sprintf(full, "users"), fmt.Sprintf(full, "chatr_schema")},
			[]string{`DROP FUNCTION full_disk CASCADE`},
		},
	} {
		t.Run(reason, func(t *testing.T) { takesNoWrites(t, reason, c.begin, c.end) })
	}
}

func takesNoWrites(t *testing.T, reason string, begin, end []string) {
	server := testkit.NewPostgresServer(t)
	ops := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	printed, _ := start(t, filepath.Join(t.TempDir(), "data"), "--postgres-url", server.URL, "--ops-listen", ops)
	front := connectionString.FindStringSubmatch(printed)[1]
	operator, err := pgx.Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close(context.Background())
	operate := func(statements ...string) {
		t.Helper()
		for _, statement := range append([]string{`SET default_transaction_read_only = off`}, statements...) {
			if _, err := operator.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	ask := func(method, url, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := client.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	signIn := func() int {
		status, _ := ask("POST", front+"/.auth/login/guest", `{"name":"Ada"}`)
		return status
	}
	metric := func(value int) bool {
		_, text := ask("GET", "http://"+ops+"/metrics", "")
		for _, part := range []string{"api", "events"} {
			if !strings.Contains(text, fmt.Sprintf("chatr_not_ready{part=%q,reason=%q} %d\n", part, reason, value)) {
				return false
			}
		}
		return true
	}
	isReady := func() bool {
		status, _ := ask("GET", "http://"+ops+"/readyz", "")
		return status == http.StatusOK
	}
	if got := signIn(); got != http.StatusOK || !isReady() || !metric(0) {
		t.Fatalf("before: sign-in answered %d, ready %v, metric 0 %v", got, isReady(), metric(0))
	}

	operate(begin...)
	testkit.Eventually(t, 10*time.Second, func() bool { return signIn() == http.StatusServiceUnavailable }, "writes to be refused")
	testkit.Eventually(t, 10*time.Second, func() bool {
		status, text := ask("GET", "http://"+ops+"/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "events ("+reason+"): ") && strings.Contains(text, "api ("+reason+"): ")
	}, "/readyz to say so, for both services")
	testkit.Eventually(t, 10*time.Second, func() bool {
		status, text := ask("GET", front+"/api/health", "")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "api ("+reason+")") && !strings.Contains(text, "SQLSTATE")
	}, "/api/health to say so to load balancers, and no more")
	testkit.Eventually(t, 10*time.Second, func() bool { return metric(1) }, "the metric to say so")

	operate(end...)
	testkit.Eventually(t, 10*time.Second, func() bool { return isReady() && metric(0) }, "the service to be ready again")
	testkit.Eventually(t, 10*time.Second, func() bool {
		status, _ := ask("GET", front+"/api/health", "")
		return status == http.StatusOK
	}, "/api/health to say so")
	testkit.Eventually(t, 10*time.Second, func() bool { return signIn() == http.StatusOK }, "writes to be taken again")
}
