package redisconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/obs"
)

// Reasons why Redis takes no writes.
const (
	ReasonUnreachable = "unreachable" // it does not answer
	ReasonFull        = "full"        // its memory (maxmemory) or its disk is
	ReasonReadOnly    = "read-only"   // it is a replica, or has too few of them
	ReasonLoading     = "loading"     // it reads what it has on disk
	ReasonFailing     = "failing"     // it answers otherwise
)

// NotReadyReasons are all reasons there are.
func NotReadyReasons() []string {
	return []string{ReasonUnreachable, ReasonFull, ReasonReadOnly, ReasonLoading, ReasonFailing}
}

// How long what a Probe has found counts, how long what it writes stays, and how long it waits for an answer.
const (
	probeFor  = time.Second
	probeKept = 10 * time.Second
	probeTime = 1500 * time.Millisecond
)

// Probe finds out whether Redis takes writes, by writing: pings are answered, and messages published, also by a server that is
// full or a replica. It is safe for concurrent use.
type Probe struct {
	client redis.UniversalClient
	prefix string

	mu        sync.Mutex // guards the following, and is held while it is tried: who asks meanwhile shares the answer
	checkedAt time.Time
	checked   error
}

// NewProbe returns a probe of client's Redis that writes keys which begin with prefix, and which last some seconds.
func NewProbe(client redis.UniversalClient, prefix string) *Probe {
	return &Probe{client: client, prefix: prefix}
}

// Ready returns nil, or an *obs.NotReady that says why writes are not taken. Of a cluster each master is tried. It writes at most
// once a second.
func (p *Probe) Ready(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.checkedAt) < probeFor {
		return p.checked
	}
	tried, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	err := p.try(tried)
	if ctx.Err() != nil {
		return err // says nothing to others
	}
	p.checkedAt, p.checked = time.Now(), err
	return err
}

func (p *Probe) try(ctx context.Context) error {
	keys, err := p.keys(ctx)
	for _, key := range keys {
		if err == nil {
			err = p.client.Set(ctx, key, "1", probeKept).Err()
		}
	}
	if err == nil {
		return nil
	}
	return &obs.NotReady{Reason: notReadyReason(err), Err: fmt.Errorf("write to Redis: %w", err)}
}

// keys are one key for each master.
func (p *Probe) keys(ctx context.Context) ([]string, error) {
	cluster, ok := p.client.(*redis.ClusterClient)
	if !ok {
		return []string{p.prefix + ":ready"}, nil
	}
	var mu sync.Mutex
	var masters []string
	if err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, c.Options().Addr)
		return nil
	}); err != nil {
		return nil, err
	}
	var keys, found []string
	for n := 0; len(found) < len(masters) && n < 1000; n++ { // a master without slots has none
		key := fmt.Sprintf("%s:ready:%d", p.prefix, n)
		master, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		if addr := master.Options().Addr; !slices.Contains(found, addr) {
			found, keys = append(found, addr), append(keys, key)
		}
	}
	return keys, nil
}

// notReadyReason returns the reason that an error stands for.
func notReadyReason(err error) string {
	var refusal redis.Error
	switch {
	case errors.Is(err, errReplica):
		return ReasonReadOnly
	case !errors.As(err, &refusal):
		return ReasonUnreachable
	}
	switch word, _, _ := strings.Cut(refusal.Error(), " "); word {
	case "OOM", "MISCONF":
		return ReasonFull
	case "READONLY", "NOREPLICAS", "MASTERDOWN":
		return ReasonReadOnly
	case "LOADING":
		return ReasonLoading
	}
	return ReasonFailing
}
