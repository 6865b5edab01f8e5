package redisbus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// soon is how long the bus may take to notice and to return: two echo intervals, a timeout and a pause.
const soon = 15 * time.Second

func ready(n *bustest.Node) func() bool   { return func() bool { return n.Ready() == nil } }
func unready(n *bustest.Node) func() bool { return func() bool { return n.Ready() != nil } }

func TestServerStopsAndReturns(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a, b := bustest.Start(t, newBus(t, server.URL, "chatr")), bustest.Start(t, newBus(t, server.URL, "chatr"))
	topics := make([]string, 5000)
	for i := range topics {
		topics[i] = fmt.Sprint("room-", i)
	}
	b.MustSubscribe(t, topics...)
	b.MustSubscribe(t, "left while down")
	a.MustPublish(t, topics[0], "before", 1)
	b.WantHeard(t, bustest.Heard{Topic: topics[0], Payload: "before"})
	if a.LossCount() != 0 || b.LossCount() != 0 {
		t.Errorf("LossCount = %d, %d before anything was lost, want 0", a.LossCount(), b.LossCount())
	}

	server.Stop()
	testkit.Eventually(t, soon, unready(a), "a has noticed")
	testkit.Eventually(t, soon, unready(b), "b has noticed")
	if _, err := a.Publish(t, topics[0], "during"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Post while Redis is down: %v, want %v", err, cluster.ErrUnavailable)
	}
	if err := a.Subscribe(t.Context(), "new"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Subscribe while Redis is down: %v, want %v", err, cluster.ErrUnavailable)
	}
	if err := b.Unsubscribe(t.Context(), "left while down"); err != nil {
		t.Errorf("Unsubscribe while Redis is down: %v, want nil", err)
	}
	testkit.Eventually(t, soon, func() bool { return strings.Contains(fmt.Sprint(a.Ready()), "connection refused") }, "Ready says why")

	server.Start()
	testkit.Eventually(t, soon, ready(a), "a is back")
	testkit.Eventually(t, soon, ready(b), "b is back")
	if a.LossCount() == 0 || b.LossCount() == 0 {
		t.Errorf("LossCount = %d, %d after the server was lost, want more than 0", a.LossCount(), b.LossCount())
	}
	for _, topic := range topics {
		a.MustPublish(t, topic, "after", 1)
	}
	a.MustPublish(t, "left while down", "unheard", 0)
	a.MustPublish(t, "new", "unheard", 0)
	testkit.Eventually(t, soon, func() bool { return b.Count() == 1+len(topics) }, "everything heard again")
	for _, h := range b.Heard() {
		if h.Payload == "during" {
			t.Error("a payload that was refused was heard")
		}
	}
}

// A session has no end of its own: it lasts longer than every timeout, echo after echo.
func TestIdleSessionLasts(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	reg := prometheus.NewRegistry()
	b, err := redisbus.New(redisbus.Config{URL: server.URL, Prefix: "chatr"}, backlog, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	a := bustest.Start(t, b)
	const echoes = 4 // of two seconds, beside the confirmation and the payload that made the bus ready
	testkit.Eventually(t, time.Minute, func() bool { return metric(t, reg, "gateway_bus_received_total") >= 2+echoes }, "echoes heard")
	if a.LossCount() != 0 || a.Ready() != nil || metric(t, reg, "gateway_bus_reconnects_total") != 0 {
		t.Errorf("LossCount = %d, Ready = %v, %v reconnects after %d echoes; want 0, nil, 0",
			a.LossCount(), a.Ready(), metric(t, reg, "gateway_bus_reconnects_total"), echoes)
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A server that hangs breaks no connection; only silence shows it.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a := bustest.Start(t, newBus(t, server.URL, "chatr"))
	a.MustSubscribe(t, "room")

	server.Pause()
	start := time.Now()
	if _, err := a.Publish(t, "room", "into the void"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Post: %v, want %v", err, cluster.ErrUnavailable)
	}
	if waited := time.Since(start); waited > soon {
		t.Errorf("Post was answered after %v, want at most %v", waited, soon)
	}
	testkit.Eventually(t, soon, unready(a), "the bus has noticed")

	server.Resume()
	testkit.Eventually(t, soon, ready(a), "the bus is back")
	a.MustPublish(t, "room", "after", 1)
}

// Without a payload to publish, the echo notices.
func TestServerHangsWhileIdle(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a := bustest.Start(t, newBus(t, server.URL, "chatr"))
	server.Pause()
	testkit.Eventually(t, soon, unready(a), "the bus has noticed")
	server.Resume()
	testkit.Eventually(t, soon, ready(a), "the bus is back")
}

// While one connection of the two is cut, payloads are missed although publishing works.
func TestSubscribeConnectionIsCut(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a := bustest.Start(t, newBus(t, server.URL, "chatr"))
	a.MustSubscribe(t, "room")
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	if err := admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, soon, func() bool { return a.LossCount() == 1 && a.Ready() == nil }, "the loss is told, the bus is back")
	a.MustPublish(t, "room", "after", 1)
}

// Whoever waits when the connection breaks is answered, and a subscription that failed is not made later.
func TestRequestsUnderWay(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a := bustest.Start(t, newBus(t, server.URL, "chatr"))
	a.MustSubscribe(t, "room")
	server.Pause()
	subscribed, unsubscribed := make(chan error, 1), make(chan error, 1)
	go func() { subscribed <- a.Subscribe(t.Context(), "other") }()
	go func() { unsubscribed <- a.Unsubscribe(t.Context(), "room") }()
	if err := <-subscribed; !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Subscribe: %v, want %v", err, cluster.ErrUnavailable)
	}
	if err := <-unsubscribed; err != nil {
		t.Errorf("Unsubscribe: %v, want nil", err)
	}
	server.Resume()
	testkit.Eventually(t, soon, ready(a), "the bus is back")
	a.MustPublish(t, "room", "unheard", 0)
	a.MustPublish(t, "other", "unheard", 0)
}

func TestDeploymentsShareAServer(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a, b := bustest.Start(t, newBus(t, server.URL, "one")), bustest.Start(t, newBus(t, server.URL, "two"))
	a.MustSubscribe(t, "room")
	b.MustPublish(t, "room", "unheard", 0)
	b.MustSubscriberCount(t, "room", 0)
}

// A refused command is a reason that an operator can read, not a bus that hangs.
func TestPermissionDenied(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels").Err(); err != nil {
		t.Fatal(err)
	}
	a := newBus(t, server.URL, "chatr")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Run(t.Context(), func(string, []byte) {}, func() {})
	}()
	t.Cleanup(func() { <-ended })
	testkit.Eventually(t, soon, func() bool { return strings.Contains(fmt.Sprint(a.Ready()), "NOPERM") }, "Ready says why")
}
