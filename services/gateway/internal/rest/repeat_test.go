package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

func repeatable(id string, sent time.Time) map[string]string {
	return map[string]string{"Content-Type": textType, "Repeatability-Request-ID": id, "Repeatability-First-Sent": sent.UTC().Format(http.TimeFormat)}
}

// TestRepeatableSends tries each send: repeated it is answered and not done, a nack is forgotten, and an unknown outcome is done again
// as such.
func TestRepeatableSends(t *testing.T) {
	for _, path := range []string{":send", "groups/g/:send", "users/u/:send", "connections/c/:send"} {
		t.Run(path, func(t *testing.T) {
			n := &recorder{}
			h := newHandler(n, rest.Options{})
			send := func(err error, id, body string, status int, result string, calls int) {
				t.Helper()
				n.err, n.calls = err, nil
				w := request{method: "POST", path: "/api/hubs/chat/" + path, header: repeatable(id, time.Now()), body: body}.do(t, h)
				if got := w.Header().Get("Repeatability-Result"); w.Code != status || got != result || len(n.calls) != calls {
					t.Errorf("%s, %s: got %d, %q, calls %q; want %d, %q, %d calls", id, body, w.Code, got, n.calls, status, result, calls)
				}
			}
			send(nil, "1", "hi", 202, "accepted", 1)
			send(nil, "1", "hi", 202, "accepted", 0)
			send(nil, "1", "ho", 400, "rejected", 0)
			send(nil, "2", "ho", 202, "accepted", 1)
			send(node.ErrUnavailable, "3", "hi", 503, "accepted", 1)
			send(nil, "3", "hi", 202, "accepted", 1)
			if !strings.Contains(n.calls[0], "again=false") {
				t.Errorf("after a nack: got %q, want it sent as the first", n.calls)
			}
			send(fmt.Errorf("%w: broken", node.ErrUncertain), "4", "hi", 503, "accepted", 1)
			send(nil, "4", "hi", 202, "accepted", 1)
			if !strings.Contains(n.calls[0], "again=true") {
				t.Errorf("after an unknown outcome: got %q, want it sent again as such", n.calls)
			}
			send(nil, "4", "hi", 202, "accepted", 0)
		})
	}
}

func TestRepeatabilityHeadersThatAreWrong(t *testing.T) {
	now := time.Now()
	good := now.UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		id, sent string
		status   int
		says     string
	}{
		"no date":           {"1", "", 202, ""},
		"no id":             {"", good, 400, "needs a Repeatability-Request-ID"},
		"long id":           {strings.Repeat("x", 257), good, 400, "1 to 256 visible ASCII characters"},
		"id with a space":   {"a b", good, 400, "1 to 256 visible ASCII characters"},
		"id of umlauts":     {"äöü", good, 400, "1 to 256 visible ASCII characters"},
		"ISO date":          {"2", now.UTC().Format(time.RFC3339), 400, " GMT"},
		"old":               {"3", now.Add(-6 * time.Minute).UTC().Format(http.TimeFormat), 412, "new Repeatability-Request-ID"},
		"of four minutes":   {"4", now.Add(-4 * time.Minute).UTC().Format(http.TimeFormat), 202, ""},
		"of the far future": {"5", now.Add(7 * time.Minute).UTC().Format(http.TimeFormat), 412, "ahead of the gateway's clock"},
		"of a fast clock":   {"6", now.Add(4 * time.Minute).UTC().Format(http.TimeFormat), 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := &recorder{}
			header := map[string]string{"Content-Type": textType}
			if c.id != "" {
				header["Repeatability-Request-ID"] = c.id
			}
			if c.sent != "" {
				header["Repeatability-First-Sent"] = c.sent
			}
			w := request{method: "POST", path: "/api/hubs/chat/:send", header: header, body: "hi"}.do(t, newHandler(n, rest.Options{}))
			want := "accepted"
			if c.status != 202 {
				want = "rejected"
			}
			if got := w.Header().Get("Repeatability-Result"); w.Code != c.status || got != want || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("got %d, %q, %s; want %d, %q, %q", w.Code, got, w.Body, c.status, want, c.says)
			}
			if c.status != 202 && len(n.calls) > 0 {
				t.Errorf("sent all the same: %q", n.calls)
			}
		})
	}
}
