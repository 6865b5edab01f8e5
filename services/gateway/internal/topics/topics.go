// Package topics keeps what a node subscribes to: each topic for as long as somebody holds it.
package topics

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Set is the topics of a node. Its methods are safe for concurrent use.
type Set struct {
	bus  cluster.Bus
	log  *slog.Logger
	wake chan struct{} // something was released

	mu    sync.Mutex // guards the following
	byKey map[string]*topic
	idle  map[string]struct{} // released by all holders, perhaps still subscribed
}

type topic struct {
	holders    int
	subscribed bool
	busy       chan struct{} // closed when the call to the bus about it has returned; nil: none is under way
}

// New returns a set that subscribes over bus, and holds nothing. Run must run for it to end subscriptions.
func New(bus cluster.Bus, log *slog.Logger) *Set {
	return &Set{bus: bus, log: log, wake: make(chan struct{}, 1), byKey: map[string]*topic{}, idle: map[string]struct{}{}}
}

// Reserve holds keys without subscribing to them: Subscribe does that. A Release or Drop may follow.
func (t *Set) Reserve(keys ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		t.byKey[k] = &topic{holders: 1}
	}
}

// Subscribe returns when held keys are subscribed to, or when ctx ends or the bus cannot be reached.
func (t *Set) Subscribe(ctx context.Context, keys ...string) error { return t.reconcile(ctx, keys) }

// Hold subscribes to keys, unless somebody holds them already, and returns when that is in effect. Each Hold that has
// not failed is followed by one Release or Drop of the same keys.
func (t *Set) Hold(ctx context.Context, keys ...string) error {
	t.mu.Lock()
	for _, k := range keys {
		if t.byKey[k] == nil {
			t.byKey[k] = &topic{}
		}
		t.byKey[k].holders++
	}
	t.mu.Unlock()
	err := t.reconcile(ctx, keys)
	if err != nil {
		t.Release(keys...)
	}
	return err
}

// Subscribed reports whether the bus has been told to subscribe to a topic, and not to end that since.
func (t *Set) Subscribed(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byKey[key]
	return s != nil && s.subscribed
}

// Release gives up a hold of each key. Subscriptions that nobody holds end in the background.
func (t *Set) Release(keys ...string) {
	t.mu.Lock()
	for _, k := range keys {
		if s := t.byKey[k]; s != nil {
			if s.holders--; s.holders == 0 {
				t.idle[k] = struct{}{}
			}
		}
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run ends the subscriptions that nobody holds until ctx ends. What fails is tried again.
func (t *Set) Run(ctx context.Context) {
	for {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		idle := t.idle
		t.idle = map[string]struct{}{} // a map that was large stays slow to go through
		t.mu.Unlock()
		for keys := range slices.Chunk(slices.Collect(maps.Keys(idle)), maxAtOnce) {
			if err := t.reconcile(ctx, keys); err != nil && ctx.Err() == nil {
				t.log.Debug("end subscriptions", "error", err)
				t.retryLater(keys)
			}
		}
	}
}

// maxAtOnce is how many subscriptions end at a time: writers wait for the lock under which they are looked up.
const maxAtOnce = 1000

// retryLater lets Run try keys again in a second.
func (t *Set) retryLater(keys []string) {
	t.mu.Lock()
	for _, k := range keys {
		t.idle[k] = struct{}{}
	}
	t.mu.Unlock()
	time.AfterFunc(time.Second, func() { t.Release() })
}

// reconcile makes the bus agree with the holders of keys: subscribed if there are any, else not. Of several callers
// with the same key one calls the bus while the others wait.
func (t *Set) reconcile(ctx context.Context, keys []string) error {
	for {
		subscribe, unsubscribe, busy, wait := t.claim(keys)
		if len(subscribe)+len(unsubscribe) > 0 {
			err := t.apply(ctx, subscribe, unsubscribe, busy)
			if err != nil {
				return err
			}
			continue
		}
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim marks as busy what has to be done for keys and is not under way, and returns what to wait for besides.
func (t *Set) claim(keys []string) (subscribe, unsubscribe []string, busy, wait chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mark := func(s *topic) {
		if busy == nil {
			busy = make(chan struct{})
		}
		s.busy = busy
	}
	for _, k := range keys {
		s := t.byKey[k]
		switch {
		case s == nil || busy != nil && s.busy == busy:
		case s.busy != nil:
			wait = s.busy
		case s.holders > 0 && !s.subscribed:
			mark(s)
			subscribe = append(subscribe, k)
		case s.holders == 0 && s.subscribed:
			mark(s)
			unsubscribe = append(unsubscribe, k)
		case s.holders == 0:
			delete(t.byKey, k)
		}
	}
	return subscribe, unsubscribe, busy, wait
}

func (t *Set) apply(ctx context.Context, subscribe, unsubscribe []string, busy chan struct{}) (err error) {
	var errOn, errOff error
	if len(subscribe) > 0 {
		errOn = t.bus.Subscribe(ctx, subscribe...)
	}
	if len(unsubscribe) > 0 {
		errOff = t.bus.Unsubscribe(ctx, unsubscribe...)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range subscribe {
		t.byKey[k].subscribed, t.byKey[k].busy = errOn == nil, nil
	}
	for _, k := range unsubscribe {
		t.byKey[k].subscribed, t.byKey[k].busy = errOff != nil, nil
	}
	close(busy)
	if errOn != nil {
		return errOn
	}
	return errOff
}

// Drop gives up a hold of each key and returns when the subscriptions that nobody holds have ended.
func (t *Set) Drop(ctx context.Context, keys ...string) error {
	t.Release(keys...)
	return t.reconcile(ctx, keys)
}
