package gateway

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
)

// lines collects what is written, line by line.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) all(t testing.TB) (records []audit.Record) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		records = append(records, r)
	}
	return records
}

// counter returns the value of a counter with those values of its labels, in the order of the labels' names.
func counter(t testing.TB, metrics *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(values, labels) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// find returns the first record of an operation.
func (l *lines) find(t testing.TB, operation string) (found audit.Record) {
	t.Helper()
	eventually(t, operation+" is recorded", func() bool {
		for _, r := range l.all(t) {
			if r.OperationName == operation {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// TestRecords has a life of a connection, a wrong audience, a full tenant and a REST request on record, and no secrets.
//
// checklist:O02 O03
func TestRecords(t *testing.T) {
	t.Parallel()
	var out, log lines
	tenants := tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: key}, Limits: tenant.Limits{Connections: 1}})
	metrics := prometheus.NewRegistry()
	g, err := New(Config{Records: []string{"connectivity", "http", "messaging"}}, Deps{
		Tenants: tenants, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics, Records: &out})
	must(t, err)
	s := serve(t, g)

	c := s.join(protocol.NameJSON, "ana", "room")
	must(t, c.SendToGroup(within(t), "room", text("a payload"), wsclient.SendOptions{}))
	started := out.find(t, "ConnectionStarted")
	if p := started.Properties; started.Category != "ConnectivityLogs" || started.Level != "Informational" || started.Caller != "127.0.0.1" ||
		started.Tenant != "default" || p.Collection != "Connection" || p.Hub != "chat" || p.UserID != "ana" || p.ConnectionID != c.Info().ConnectionID || time.Since(started.Time) > time.Minute {
		t.Errorf("got %+v for a connection", started)
	}
	if sent := out.find(t, "sendToGroup"); sent.Category != "MessagingLogs" || sent.Properties.ConnectionID != c.Info().ConnectionID {
		t.Errorf("got %+v for a message", sent)
	}

	var refused *wsclient.HandshakeError
	_, err = s.tryDial(s.clientURL("ben", nil), "")
	if refused, _ = err.(*wsclient.HandshakeError); refused == nil || refused.Status != 429 || !strings.Contains(refused.Body, "Connection count reaches limit") {
		t.Errorf("got %v over the quota, want 429", err)
	}
	if full := out.find(t, "ConnectionRefused"); full.Level != "Warning" || full.Properties.ErrorName != "ConnectionCountLimitReached" || full.Properties.Message != "Connection count reaches limit" {
		t.Errorf("got %+v over the quota", full)
	}
	if got := counter(t, metrics, "gateway_client_handshakes_total", "WebPubSub", "429"); got != 1 {
		t.Errorf("got %v handshakes with 429 counted, want 1", got)
	}
	if got := g.admission.Utilization(); got != 1 {
		t.Errorf("got a utilization of %v, want 1", got)
	}

	raw, err := token.Sign(key, "http://elsewhere/client/hubs/other?secret=x", time.Hour, token.Options{})
	must(t, err)
	if _, err := s.tryDial(s.url+"/client/hubs/chat?access_token="+raw, ""); err == nil {
		t.Error("got a connection with a wrong audience")
	}
	const mismatch = "Failed to validate audience. Expected Audiences: http://127.0.0.1:"
	if wrong := out.find(t, "AuthorizationFailed"); !strings.HasPrefix(wrong.Properties.Message, mismatch) ||
		!strings.HasSuffix(wrong.Properties.Message, "/client/hubs/chat Actual Audiences: http://elsewhere/client/hubs/other") || wrong.Properties.Collection != "Authorization" {
		t.Errorf("got %+v for a wrong audience", wrong)
	}
	if status, _ := s.call("POST", "/api/hubs/chat/groups/room/:send?filter=userId%20eq%20%27secret%27", s.keyToken(key, "/api/hubs/chat/groups/room/:send")); status != 202 {
		t.Errorf("got %d from REST", status)
	}
	request := out.find(t, "SendToGroup")
	if p := request.Properties; request.Category != "HttpRequestLogs" || p.StatusCode != 202 || p.HTTPMethod != "POST" ||
		p.URL != "/api/hubs/chat/groups/room/:send" || p.RouteTemplate != "/api/hubs/{hub}/groups/{group}/:send" || p.TraceID == "" {
		t.Errorf("got %+v for a REST request", request)
	}
	must(t, c.Close(1000, ""))
	if ended := out.find(t, "ConnectionEnded"); ended.Level != "Informational" || ended.Properties.UserID != "ana" {
		t.Errorf("got %+v for the end", ended)
	}
	for _, word := range []string{"a payload", "secret", "access_token", raw[len(raw)-20:]} {
		for name, written := range map[string]string{"records": out.text.String(), "log": log.text.String()} {
			if strings.Contains(written, word) {
				t.Errorf("%s hold %q", name, word)
			}
		}
	}
	if !strings.Contains(log.text.String(), mismatch) || !strings.Contains(log.text.String(), "Connection count reaches limit") {
		t.Errorf("got the log\n%s\nwant it to say why clients were refused", log.text.String())
	}
}

// TestRefusalsDoNotFillTheLog has a client without a right try again and again.
//
// checklist:O02
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	var log lines
	g, err := New(Config{}, Deps{Tenants: tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: key}}),
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: prometheus.NewRegistry(), Records: io.Discard})
	must(t, err)
	for range 200 {
		r := httptest.NewRequest("GET", "http://x/client/hubs/chat?access_token=a.b.c", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		w := httptest.NewRecorder()
		if g.Handler().ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
			t.Fatalf("got status %d, want 401", w.Code)
		}
		httpRequest := httptest.NewRequest("POST", "http://x/api/hubs/chat/:send", nil)
		g.Handler().ServeHTTP(httptest.NewRecorder(), httpRequest)
	}
	if got := strings.Count(log.text.String(), "\n"); got < 2 || got > 50 {
		t.Errorf("got %d lines of 400 refusals, want some", got)
	}
	if _, err := New(Config{Records: []string{"all"}}, Deps{Tenants: g.tenants, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}); err == nil {
		t.Error("got no error for an unknown category")
	}
}
