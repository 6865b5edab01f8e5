package rest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

const (
	acmeKey    = "the primary key of tenant acme, long"
	acmeOldKey = "the secondary key of tenant acme, long"
	otherKey   = "the primary key of another tenant, long"
)

// tenants are acme, and another one on other.example that allows small bodies only.
func tenants() *tenant.Static {
	source, err := tenant.NewStatic(
		tenant.Tenant{Name: "acme", Hosts: []string{"localhost", "127.0.0.1"}, Keys: tenant.Keys{Primary: acmeKey, Secondary: acmeOldKey}},
		tenant.Tenant{Name: "other", Hosts: []string{"other.example"}, Keys: tenant.Keys{Primary: otherKey}, Limits: tenant.Limits{MessageBytes: 1024}},
	)
	if err != nil {
		panic(err)
	}
	return source
}

// recorder is a node that notes what it is asked, in one line, and answers as told.
type recorder struct {
	calls   []string
	err     error
	yes     bool
	members []node.Member
}

func (n *recorder) note(format string, args ...any) error {
	n.calls = append(n.calls, fmt.Sprintf(format, args...))
	return n.err
}

func (n *recorder) Send(_ context.Context, a webpubsub.Audience, m webpubsub.Message) error {
	metadata := ""
	if m.Data.Metadata != nil {
		metadata = fmt.Sprintf(" metadata=%q", m.Data.Metadata)
	}
	return n.note("send %s group=%q %s %q ttl=%s%s", text(a), m.Group, m.Data.Type, m.Data.Bytes, m.TTL, metadata)
}

func (n *recorder) SendRepeatable(_ context.Context, a webpubsub.Audience, m webpubsub.Message, id string, again bool) error {
	return n.note("send %s %q again=%v", text(a), m.Data.Bytes, again)
}

func (n *recorder) Close(_ context.Context, a webpubsub.Audience, reason string) error {
	return n.note("close %s %q", text(a), reason)
}

func (n *recorder) Exists(_ context.Context, a webpubsub.Audience) (bool, error) {
	return n.yes, n.note("exists %s", text(a))
}

func (n *recorder) Join(_ context.Context, a webpubsub.Audience, groups ...string) error {
	return n.note("join %s %q", text(a), groups)
}

func (n *recorder) Leave(_ context.Context, a webpubsub.Audience, groups ...string) error {
	return n.note("leave %s %q", text(a), groups)
}

func (n *recorder) Grant(_ context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.note("grant %s %q %s %q", hub, connID, p, group)
}

func (n *recorder) Revoke(_ context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.note("revoke %s %q %s %q", hub, connID, p, group)
}

func (n *recorder) Allowed(_ context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) (bool, error) {
	return n.yes, n.note("allowed %s %q %s %q", hub, connID, p, group)
}

func (n *recorder) Members(_ context.Context, hub webpubsub.HubKey, group, after string, limit int) ([]node.Member, error) {
	var page []node.Member
	for _, m := range n.members {
		if m.ConnectionID > after && len(page) < limit {
			page = append(page, m)
		}
	}
	return page, n.note("members %s %q after %q limit %d", hub, group, after, limit)
}

func text(a webpubsub.Audience) string {
	s := fmt.Sprintf("%s %s %q", a.Hub, a.Scope, a.Name)
	if len(a.Except) > 0 {
		s += fmt.Sprintf(" except %q", a.Except)
	}
	if a.Filter != "" {
		s += fmt.Sprintf(" where %q", a.Filter)
	}
	return s
}

func newHandler(n *recorder, o rest.Options) *rest.Handler {
	return rest.New(n, tenants(), o, slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry())
}

// request is one request of a test; zero values are a good token of acme for this URL and no body.
type request struct {
	method, path string // path with query
	host         string // default: localhost:8080
	header       map[string]string
	body         string
	token        string // "none" for no header
}

func (q request) do(t testing.TB, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	host := q.host
	if host == "" {
		host = "localhost:8080"
	}
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	r := httptest.NewRequest(q.method, q.path, body)
	r.Host = host
	if q.token == "" {
		q.token = sign(t, acmeKey, "http://"+host+q.path, time.Minute)
	}
	if q.token != "none" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func sign(t testing.TB, key, audience string, ttl time.Duration) string {
	t.Helper()
	signed, err := token.Sign(key, audience, ttl, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
