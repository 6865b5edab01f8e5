package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// finishing is a service that notes what happens to it.
type finishing struct {
	stopped chan struct{} // closed when Run has returned

	mu   sync.Mutex
	seen []string
}

func (r *finishing) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, what)
}

func (r *finishing) Run(ctx context.Context) error {
	<-ctx.Done()
	r.note("run")
	close(r.stopped)
	return nil
}

func (r *finishing) Ready(context.Context) error { return nil }
func (r *finishing) Finish(context.Context)      { r.note("finish") }

// TestAServiceFinishesAfterTheLastRequest, which may have brought something more to do when its work had ended.
func TestAServiceFinishesAfterTheLastRequest(t *testing.T) {
	log, metrics := slog.New(slog.DiscardHandler), obs.NewRegistry()
	p := &process{log: log, metrics: metrics, health: &obs.Health{}, clients: httpx.NewAcceptance(log, metrics)}
	r := &finishing{stopped: make(chan struct{})}
	listen := fmt.Sprint("127.0.0.1:", testkit.FreePort(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	asked := make(chan struct{})
	go func() {
		ended <- p.run(ctx, r, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(asked)
			<-r.stopped
			r.note("request")
		}), listen, fmt.Sprint("127.0.0.1:", testkit.FreePort(t)))
	}()
	go func() {
		for {
			if answer, err := http.Get("http://" + listen + "/"); err == nil {
				_ = answer.Body.Close()
				return
			}
			if t.Context().Err() != nil {
				return
			}
		}
	}()
	<-asked
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if want := []string{"run", "request", "finish"}; !slices.Equal(r.seen, want) {
		t.Errorf("got %q, want %q", r.seen, want)
	}
}
