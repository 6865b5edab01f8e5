package redisbus

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

func TestBatching(t *testing.T) {
	at := time.Now()
	p := batching{started: at}
	now := at.Add(100 * time.Microsecond)
	if got := p.delay(1, now); got != 0 {
		t.Errorf("a single post waits %v, want not at all", got)
	}
	p.observe(1, 1) // a subscriber has answered
	if got := p.delay(1, now); got != 0 {
		t.Errorf("an answer waits %v, want not at all", got)
	}
	p.observe(1, 2) // others have come meanwhile
	if got, want := p.delay(1, now), batchDelay-100*time.Microsecond; got != want {
		t.Errorf("while batching the delay is %v, want %v", got, want)
	}
	if got := p.delay(maxPipeline, now); got != 0 {
		t.Errorf("a full pipeline waits %v, want not at all", got)
	}
	if got := p.delay(1, at.Add(time.Second)); got > 0 {
		t.Errorf("long after the last pipeline has a delay of %v, want none", got)
	}
	p.observe(0, 0) // woken for nothing
	for range batchingLasts {
		if p.delay(1, now) == 0 {
			t.Fatal("batching ends too soon")
		}
		p.observe(1, 0)
	}
	if got := p.delay(1, now); got != 0 {
		t.Errorf("alone again has a delay of %v, want none", got)
	}
	p.observe(2, 0)
	if p.delay(1, now) == 0 {
		t.Error("two posts at once do not start batching")
	}
}

// TestPublishError: what Redis refuses was not published; of what it does not answer nobody knows.
func TestPublishError(t *testing.T) {
	client, err := redisconn.Open(Config{URL: testkit.Redis(t).URL, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	refused := publishError(client.Do(t.Context(), "PUBLISH", "too few").Err())
	if !errors.Is(refused, cluster.ErrUnavailable) || errors.Is(refused, cluster.ErrUncertain) {
		t.Errorf("a refusal: got %v, want ErrUnavailable and not ErrUncertain", refused)
	}
	if broken := publishError(io.EOF); !errors.Is(broken, cluster.ErrUncertain) || !errors.Is(broken, cluster.ErrUnavailable) {
		t.Errorf("a broken connection: got %v, want ErrUncertain", broken)
	}
}
