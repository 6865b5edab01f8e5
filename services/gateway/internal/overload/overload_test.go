package overload

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/memlimit"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

const limit = 200 << 20 // refused at 176 MiB, let in again at 171, ended at 184

// node is connections under a guard, with as much in use as the test says.
type node struct {
	*Guard
	t     *testing.T
	inUse atomic.Int64 // MiB
	mu    sync.Mutex   // guards ended
	ended []string
}

func start(t *testing.T) *node {
	n := &node{t: t}
	conns := hub.NewRegistry(hub.Options{Writers: 2, Recovery: time.Minute}, prometheus.NewRegistry())
	n.Guard = New(Deps{Conns: conns, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Limit: memlimit.New(limit, func() (int64, error) { return n.inUse.Load() << 20, nil })})
	n.maxFiles = 0
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = conns.Run(ctx) })
	work.Go(func() { _ = n.Run(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	return n
}

// add adds a connection that holds so many bytes.
func (n *node) add(id string, codec protocol.Codec, bytes int) {
	c := n.Conns.Add(hub.ConnOptions{ID: id, Codec: codec, OnClosed: func(c *hub.Conn, closing hub.Closing) {
		if closing.Reason != hub.ReasonOverload {
			n.t.Errorf("%s ended as %s, want %s", c.ID, closing.Reason, hub.ReasonOverload)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ended = append(n.ended, c.ID)
	}})
	if bytes > 0 {
		m := webpubsub.Message{Data: webpubsub.Text(strings.Repeat("x", bytes))}
		n.Conns.Send(c, hub.NewMessage(protocol.NewEnvelope(&m), hub.MessageOptions{}))
	}
}

func (n *node) want(admits bool, reason string) {
	n.t.Helper()
	got := ""
	if err := n.Ready(); err != nil {
		got = err.(interface{ NotReadyReason() string }).NotReadyReason()
	}
	if n.Admit() != admits || got != reason {
		n.t.Errorf("with %d MiB in use: admits %v, not ready for %q; want %v, %q", n.inUse.Load(), !admits, got, admits, reason)
	}
}

func TestNewcomersAreRefusedNearTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		for _, c := range []struct {
			inUse  int64
			reason string
		}{{0, ""}, {175, ""}, {177, ReasonMemory}, {175, ReasonMemory}, {170, ""}, {175, ""}, {183, ReasonMemory}, {10, ""}} {
			n.inUse.Store(c.inUse)
			time.Sleep(2 * idleInterval)
			n.want(c.reason == "", c.reason)
		}
		if len(n.ended) > 0 {
			t.Errorf("%v were ended, want nobody", n.ended)
		}
	})
}

// TestACrowdIsCounted: those who have come since what is in use was looked at count at once.
func TestACrowdIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.inUse.Store(150)
		time.Sleep(2*idleInterval + lookInterval/2) // it has not been looked at just now
		n.inUse.Store(180)                          // by what each of the following takes
		const enough = 26 << 20 / newcomerBytes
		for range enough {
			if !n.arrived() {
				t.Fatal("there is no descriptor, want that they are not counted")
			}
		}
		n.want(true, "")
		n.arrived()
		n.want(false, ReasonMemory)
	})
}

// TestThoseWhoHoldMostAreEnded before others, and as many of them as it takes; where nobody holds much, some at a time.
func TestThoseWhoHoldMostAreEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		for i := range 100 {
			n.add(fmt.Sprint("small ", i), protocol.JSON, 10)
		}
		for i, mib := range []int{3, 3, 2, 3, 3} {
			n.add(fmt.Sprint(mib, " MiB ", i), protocol.ReliableJSON, mib<<20)
		}
		synctest.Wait()
		n.inUse.Store(186) // 10 too many
		time.Sleep(shedInterval / 2)
		n.inUse.Store(100)
		synctest.Wait()
		slices.Sort(n.ended) // there are two writers
		if got := fmt.Sprint(n.ended); got != "[3 MiB 0 3 MiB 1 3 MiB 3 3 MiB 4]" {
			t.Errorf("got %s ended, want the four that hold most", got)
		}
		time.Sleep(2 * idleInterval)
		n.ended = nil
		n.inUse.Store(199)
		time.Sleep(2*idleInterval + shedInterval/2)
		n.inUse.Store(100)
		synctest.Wait()
		if got := len(n.ended); got < 3 || got > 60 || !slices.Contains(n.ended[:3], "2 MiB 2") {
			t.Errorf("got %d ended, %v; want the largest and then some at a time", got, n.ended[:min(got, 5)])
		}
	})
}
