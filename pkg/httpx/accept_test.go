package httpx

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// fullListener has no file descriptors left while full.
type fullListener struct {
	net.Listener
	full atomic.Bool
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.full.Load() {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestNoDescriptorsLeft is said once in the log, by a metric and by readiness, and passes.
func TestNoDescriptorsLeft(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := &fullListener{Listener: l}
	var said bytes.Buffer
	a := NewAcceptance(slog.New(slog.NewTextHandler(&said, nil)), prometheus.NewRegistry())
	watched := a.Watch(inner)
	server := NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	go func() { _ = server.Serve(watched) }()
	defer server.Close()
	answers := func() bool {
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + l.Addr().String())
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	}
	testkit.Eventually(t, 10*time.Second, answers, "an answer")
	if err := a.Ready(); err != nil {
		t.Fatalf("got %v while all is well", err)
	}
	inner.full.Store(true)
	testkit.Eventually(t, 30*time.Second, func() bool {
		answers() // the one that waits in Accept is the last that gets in
		return testutil.ToFloat64(a.failures.WithLabelValues(ReasonDescriptors)) > 3
	}, "failures to be counted")
	var why *obs.NotReady
	if err := a.Ready(); !errors.As(err, &why) || why.Reason != ReasonDescriptors {
		t.Errorf("got %v, want that there are no descriptors", err)
	}
	inner.full.Store(false)
	testkit.Eventually(t, 30*time.Second, func() bool { return answers() && a.Ready() == nil }, "clients to be accepted again")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "clients cannot be accepted"); n == 0 || n > 12 {
		t.Errorf("it was logged %d times, want once in %v:\n%s", n, acceptLogInterval, said.String())
	}
}
