package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/api"
	"github.com/chatr-dev/chatr/services/events"
	"github.com/chatr-dev/chatr/services/gateway"
	"github.com/chatr-dev/chatr/web"
)

// recorder is a registerer that remembers what was registered, also metrics that have no value yet.
type recorder struct {
	*prometheus.Registry
	rows []string
}

func (r *recorder) Register(c prometheus.Collector) error {
	if err := r.Registry.Register(c); err != nil {
		return err
	}
	descs := make(chan *prometheus.Desc)
	go func() { c.Describe(descs); close(descs) }()
	for d := range descs {
		r.rows = append(r.rows, row(d, c))
	}
	return nil
}

func (r *recorder) MustRegister(list ...prometheus.Collector) {
	for _, c := range list {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

var description = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

func row(d *prometheus.Desc, c prometheus.Collector) string {
	m := description.FindStringSubmatch(d.String())
	labels := ""
	for l := range strings.FieldsFuncSeq(m[3], func(r rune) bool { return r == ',' || r == ' ' }) {
		labels += " `" + l + "`"
	}
	return fmt.Sprintf("| `%s` | %s |%s | %s |\n", m[1], kind(m[1], c), labels, strings.ReplaceAll(m[2], `\"`, `"`))
}

func kind(name string, c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// TestDocsMetrics keeps docs/metrics.md what the services register.
func TestDocsMetrics(t *testing.T) {
	reg := &recorder{Registry: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	key := strings.Repeat("k", minKey)
	tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}})
	if err != nil {
		t.Fatal(err)
	}
	redis := redisconn.Config{URL: "redis://127.0.0.1:1", Prefix: "docs"}
	client, err := redisconn.Open(redis)
	if err != nil {
		t.Fatal(err)
	}
	messages := redislog.New(client, redislog.Options{Logger: log, Metrics: reg})
	defer messages.Close()
	store, err := sqlstore.OpenSQLite(t.TempDir() + "/chat.db")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rest := dataplane.New("http://127.0.0.1:1", key, "chat", dataplane.Options{})
	if _, err := gateway.New(gateway.Config{Redis: redis}, gateway.Deps{Tenants: tenants, Log: messages, Logger: log, Metrics: reg}); err != nil {
		t.Fatal(err)
	}
	if _, err := events.New(events.Config{Tenant: "default", Hub: "chat"}, events.Deps{Store: store, Log: messages, Gateway: rest, Keys: func() []string { return nil }, Logger: log, Metrics: reg}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(api.Config{Tenant: "default", Hub: "chat", SessionKey: key, SessionTime: time.Hour, IdleAfter: time.Minute}, api.Deps{Store: store, Gateway: rest, Keys: func() tenant.Keys { return tenant.Keys{} }, Web: web.Dist(), Logger: log, Metrics: reg}); err != nil {
		t.Fatal(err)
	}

	reg.MustRegister(&obs.Health{})
	httpx.NewAcceptance(log, reg)
	newReloadMetrics(reg)
	slices.Sort(reg.rows)
	var want bytes.Buffer
	want.WriteString("# Metrics\n\nServed at `/metrics` of the operations listener (`--ops-listen`), beside those of the Go runtime and of the process.\nLabels come from closed sets: no user, group, hub or URL is among them.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, r := range slices.Compact(reg.rows) {
		want.WriteString(r)
	}
	checkGenerated(t, "../../docs/metrics.md", want.Bytes())
}
