package overload

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// TestOpenFilesAreCounted also by kernels before 6.2, which do not say how many there are.
func TestOpenFilesAreCounted(t *testing.T) {
	listed, said := listFiles(), saidFiles()
	if open := openFiles(); open < 3 || said > 0 && (listed < said-2 || listed > said+2) { // others of this process come and go
		t.Errorf("got %d open files, %d listed, %d said by the kernel", open, listed, said)
	}
}

// TestDescriptorsAreLeft for the node itself, however many come at once.
func TestDescriptorsAreLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := New(Deps{Conns: hub.NewRegistry(hub.Options{}, prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	const comers = 100
	g.maxFiles = openFiles() + 64 + comers/2
	guarded := g.Listener(l)
	defer guarded.Close()
	accepted := make(chan net.Conn, comers)
	go func() {
		defer close(accepted)
		for {
			c, err := guarded.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var closed atomic.Int64
	var clients sync.WaitGroup
	for range comers {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients.Go(func() {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				closed.Add(1)
			}
		})
	}
	testkit.Eventually(t, time.Minute, func() bool { return closed.Load()+int64(len(accepted)) == comers }, "all to be accepted or closed")
	if n := closed.Load(); n < comers/4 || n > comers*3/4 {
		t.Errorf("%d of %d were closed, want about half", n, comers)
	}
	if err := g.Ready(); err == nil {
		t.Error("the node is ready")
	}
	_ = guarded.Close()
	for c := range accepted {
		_ = c.Close()
	}
	clients.Wait()
}
