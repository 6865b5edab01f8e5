package upstream

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Times of validation (event-handler.md section 3). A handler that cannot be reached is asked again sooner than
// one that refused: it is probably just starting.
const (
	validationTimeout   = 10 * time.Second
	consentAge          = time.Minute
	firstPause          = time.Second
	refusedPause        = time.Minute
	unreachablePause    = 5 * time.Second
	maxValidationAnswer = 64 << 10
)

// consentKey is what a handler consents to: events of a hub at an address.
type consentKey struct {
	hub webpubsub.HubKey
	url string
}

// consents are the answers of handlers to the question whether they want events. It is safe for concurrent use.
type consents struct {
	u *Upstream

	mu    sync.Mutex // guards the following
	byKey map[consentKey]*consent
}

// consent is whether a handler wants events of a hub. One validation runs at a time, for all who wait for it.
type consent struct {
	mu      sync.Mutex // guards the following
	given   bool
	asked   time.Time     // when the last validation ended
	failure *Failure      // of the last validation, when not given
	again   time.Time     // when it may be asked again, when not given
	pause   time.Duration // from asked to again
	running chan struct{} // closed when the validation under way ends; nil: none is
}

// consented returns nil once the handler has agreed to events. The first call for a handler waits for its
// answer; later ones return what is known, which is refreshed in the background.
func (cs *consents) consented(ctx context.Context, to target) *Failure {
	if to.trusted {
		return nil
	}
	address, failure := to.address("validate")
	if failure != nil {
		return failure
	}
	c := cs.of(consentKey{to.hub, address})
	for {
		running, begin, failure := c.lookUp()
		if begin {
			cs.u.start(func() { cs.validate(c, to, address) })
		}
		if running == nil {
			return failure
		}
		select {
		case <-running:
		case <-ctx.Done():
			return interrupted(ctx)
		case <-cs.u.life.Done():
			return interrupted(cs.u.life)
		}
	}
}

// of returns the consent for key, which is made, not given, for the first that asks.
func (cs *consents) of(key consentKey) *consent {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byKey[key]
	if c == nil {
		c = &consent{}
		cs.byKey[key] = c
	}
	return c
}

// lookUp returns what is known now, or a channel to wait on when nothing is. begin tells the caller to start a
// validation.
func (c *consent) lookUp() (running chan struct{}, begin bool, failure *Failure) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.given && now.Sub(c.asked) >= consentAge || !c.given && !now.Before(c.again)
	if due && c.running == nil {
		c.running, begin = make(chan struct{}), true
	}
	switch {
	case c.given:
		return nil, begin, nil
	case c.running != nil:
		return c.running, begin, nil
	}
	return nil, false, c.failure
}

// validate asks the handler and records the answer.
func (cs *consents) validate(c *consent, to target, address string) {
	ctx, cancel := context.WithTimeout(cs.u.life, validationTimeout)
	defer cancel()
	status, failure := cs.request(ctx, to, address, http.MethodOptions)
	if status == http.StatusNotFound {
		status, failure = cs.request(ctx, to, address, http.MethodGet)
	}

	c.mu.Lock()
	changed := c.record(failure)
	close(c.running)
	c.running = nil
	c.mu.Unlock()
	if changed && failure != nil {
		cs.u.log.Warn("event handler does not accept events", "handler", to.host.name, "tenant", to.hub.Tenant, "hub", to.hub.Hub,
			"reason", failure.Reason, "status", status, "detail", failure.detail)
	}
}

// record takes in the outcome of a validation and reports whether it is a change. A handler that once agreed has not
// changed its mind because it cannot be reached for a while.
func (c *consent) record(failure *Failure) (changed bool) {
	c.asked = time.Now()
	if failure == nil {
		changed = !c.given
		c.given, c.failure, c.pause = true, nil, 0
		return changed
	}
	unreachable := failure.retry || failure.Reason == ReasonTimeout
	if c.given && unreachable {
		return false
	}
	changed = c.given || c.failure == nil || c.failure.Reason != failure.Reason
	limit := refusedPause
	if unreachable {
		limit = unreachablePause
	}
	c.pause = backoff.After(c.pause, firstPause, limit)
	c.given, c.failure, c.again = false, failure, c.asked.Add(c.pause)
	return changed
}

// request sends one validation request. The status is for the log: a Failure has only those of answers to events.
func (cs *consents) request(ctx context.Context, to target, address, method string) (status int, failure *Failure) {
	r, err := cloudevents.NewValidation(ctx, method, address, to.hub.Hub, to.origin)
	if err != nil {
		return 0, &Failure{Reason: ReasonNetwork, detail: withoutURL(err)}
	}
	resp, err := to.host.client.Do(r)
	if err != nil {
		return 0, requestFailure(ctx, err)
	}
	defer resp.Body.Close()
	drainBody(resp, maxValidationAnswer)
	status = resp.StatusCode
	switch {
	case status < 200 || status > 299:
		failure = &Failure{Reason: ReasonValidation, retry: status >= 500,
			detail: fmt.Errorf("abuse protection failed: the answer to %s has status %d and must have 2xx", method, status)}
	case !cloudevents.Allows(resp.Header, to.origin):
		failure = &Failure{Reason: ReasonValidation,
			detail: fmt.Errorf("abuse protection failed: WebHook-Allowed-Origin has neither %s nor *", to.origin)}
	}
	return status, failure
}
