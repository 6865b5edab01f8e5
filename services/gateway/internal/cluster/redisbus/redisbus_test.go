package redisbus_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// backlog is what tests have kept.
var backlog = redisbus.Backlog{Window: time.Minute, Bytes: 64 << 20}

func newNetwork(t testing.TB) bustest.Network {
	server := testkit.Redis(t)
	return func() cluster.Bus { return newBus(t, server.URL, "chatr") }
}

func newBus(t testing.TB, url, prefix string) *redisbus.Bus {
	t.Helper()
	b, err := redisbus.New(redisbus.Config{URL: url, Prefix: prefix}, backlog, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBus(t *testing.T) { bustest.Run(t, newNetwork) }

func BenchmarkBus(b *testing.B) { bustest.Benchmark(b, newNetwork) }
