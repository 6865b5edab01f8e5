package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// sendAs sends text to path by REST as the request of that id, first sent now, and returns the status and what is said of repeating it.
func (s *server) sendAs(id, path, text string) (status int, result string) {
	s.t.Helper()
	url := s.url + "/api/hubs/chat/" + path
	r, err := http.NewRequestWithContext(within(s.t), http.MethodPost, url, strings.NewReader(text))
	must(s.t, err)
	signed, err := token.Sign(key, url, time.Minute, token.Options{})
	must(s.t, err)
	r.Header.Set("Authorization", "Bearer "+signed)
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Repeatability-Request-ID", id)
	r.Header.Set("Repeatability-First-Sent", time.Now().UTC().Format(http.TimeFormat))
	answer, err := httpClient.Do(r)
	must(s.t, err)
	defer answer.Body.Close()
	return answer.StatusCode, answer.Header.Get("Repeatability-Result")
}

// sharing is a gateway on the Redis at url, whose bus is what wrap makes of it.
func sharing(t *testing.T, url string, wrap func(cluster.Bus) cluster.Bus) *server {
	t.Helper()
	return start(t, setup{config: Config{Redis: redisbus.Config{URL: url, Prefix: "test"}}, bus: wrap(redisBus(t, url))})
}

func asIs(b cluster.Bus) cluster.Bus { return b }

// TestASendMadeAgainIsOneMessage sends each message twice, to either gateway, and twice at the same time.
func TestASendMadeAgainIsOneMessage(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := sharing(t, redis.URL, asIs), sharing(t, redis.URL, asIs)
	one, two := a.join(protocol.NameJSON, "ana", "g"), b.join(protocol.NameReliableJSON, "ana", "g")
	for i, path := range []string{":send", "groups/g/:send", "users/ana/:send"} {
		text := fmt.Sprint("message ", i)
		for _, s := range []*server{a, b, a} {
			if status, result := s.sendAs(text[8:], path, text); status != http.StatusAccepted || result != "accepted" {
				t.Fatalf("%s: got %d, %q; want 202, accepted", path, status, result)
			}
		}
		var both sync.WaitGroup
		for _, s := range []*server{a, b} {
			both.Go(func() { s.sendAs("at once "[:2]+text[8:], path, "also "+text) })
		}
		both.Wait()
		if status, result := b.sendAs(text[8:], path, "something else"); status != http.StatusBadRequest || result != "rejected" {
			t.Errorf("another message with the same id: got %d, %q; want 400, rejected", status, result)
		}
		wantMessage(t, one, text)
		wantMessage(t, two, text)
		wantMessage(t, one, "also "+text)
		wantMessage(t, two, "also "+text)
	}
}

// unsureBus is a bus that publishes and then does not know, as when the connection breaks before the answer.
type unsureBus struct {
	cluster.Bus
	unsure atomic.Bool
}

func (b *unsureBus) PostKept(topic string, payload, number []byte, done func(int, error)) {
	b.Bus.PostKept(topic, payload, number, func(nodes int, err error) {
		if b.unsure.Load() && err == nil {
			nodes, err = 0, fmt.Errorf("%w: broken", cluster.ErrUncertain)
		}
		if done != nil {
			done(nodes, err)
		}
	})
}

// TestASendOfUnknownOutcome is made again, on another gateway: whoever heard the first does not hear the second.
func TestASendOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	bus := &unsureBus{}
	a := sharing(t, redis.URL, func(b cluster.Bus) cluster.Bus { bus.Bus = b; return bus })
	b := sharing(t, redis.URL, asIs)
	one, two := a.join(protocol.NameJSON, "ana", "g"), b.join(protocol.NameJSON, "ben", "g")

	bus.unsure.Store(true)
	if status, result := a.sendAs("1", "groups/g/:send", "first"); status != http.StatusServiceUnavailable || result != "accepted" {
		t.Fatalf("got %d, %q; want 503, accepted", status, result)
	}
	bus.unsure.Store(false)
	for range 2 {
		if status, _ := b.sendAs("1", "groups/g/:send", "first"); status != http.StatusAccepted {
			t.Fatalf("got %d, want 202", status)
		}
	}
	b.sendAs("2", "groups/g/:send", "second")
	wantMessage(t, one, "first")
	wantMessage(t, two, "first")
	wantMessage(t, one, "second")
	wantMessage(t, two, "second")
}

// refusingBus publishes nothing.
type refusingBus struct {
	cluster.Bus
	refuse atomic.Bool
}

func (b *refusingBus) PostKept(topic string, payload, number []byte, done func(int, error)) {
	if b.refuse.Load() && done != nil {
		done(0, cluster.ErrUnavailable)
		return
	}
	b.Bus.PostKept(topic, payload, number, done)
}

// TestARefusedSendIsForgotten: what was certainly not published is published when it is sent again.
func TestARefusedSendIsForgotten(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	bus := &refusingBus{}
	a := sharing(t, redis.URL, func(b cluster.Bus) cluster.Bus { bus.Bus = b; return bus })
	one := a.join(protocol.NameJSON, "ana", "g")
	bus.refuse.Store(true)
	if status, _ := a.sendAs("1", "groups/g/:send", "first"); status != http.StatusServiceUnavailable {
		t.Fatalf("got %d, want 503", status)
	}
	bus.refuse.Store(false)
	if status, _ := a.sendAs("1", "groups/g/:send", "first"); status != http.StatusAccepted {
		t.Fatalf("got %d, want 202", status)
	}
	wantMessage(t, one, "first")
}
