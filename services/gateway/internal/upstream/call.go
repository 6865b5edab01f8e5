package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// retryDelays come before the second and later attempts of a blocking event (event-handler.md section 7.4).
var retryDelays = [...]time.Duration{time.Second, 3 * time.Second, 5 * time.Second}

// Sizes of answers in bytes, at most.
const (
	maxConnectAnswer = 16 << 20                  // event-handler.md section 5.2
	maxUserAnswer    = webpubsub.MaxMessageBytes // it becomes a message
	maxIgnoredAnswer = 64 << 10                  // read only to use the TCP connection again
	maxRefusal       = 4 << 10                   // of a refusal's text, the rest is cut off
)

// answer is a handler's answer with status 2xx.
type answer struct {
	status      int
	contentType string
	body        []byte
	header      http.Header
}

// callWithRetries posts e until the handler answers, at most four times, all within ctx. Attempts are the same to the last byte, so
// that the handler can see that they are one event. When patience ends there is no further attempt, but a request that was sent is
// not interrupted.
func (u *Upstream) callWithRetries(
	ctx, patience context.Context, s *Session, to target, k eventKind, e cloudevents.Event, limit int64,
) (answer, *Failure) {
	for attempt := 0; ; attempt++ {
		a, failure := u.attempt(ctx, s, to, k, e, limit)
		again := failure != nil && (failure.retry || to.awaits && isUnknownEvent(failure))
		if !again || attempt == len(retryDelays) || !pause(patience, ctx, retryDelays[attempt]) {
			return a, failure
		}
	}
}

// pause waits for d and reports true; or false at once when ctx would not last, or as soon as patience ends.
func pause(patience, ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-patience.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// attempt makes one attempt, and takes its outcome into metrics, log and the state of the host.
func (u *Upstream) attempt(ctx context.Context, s *Session, to target, k eventKind, e cloudevents.Event, limit int64) (answer, *Failure) {
	a, failure := u.send(ctx, s, to, k, e, limit)
	if failure != nil {
		u.metrics.addFailure(k, failure.Reason)
		u.log.Debug("event failed", "handler", to.host.name, "tenant", to.hub.Tenant, "hub", to.hub.Hub, "connection", e.ConnectionID,
			"event", string(k), "reason", failure.Reason, "status", failure.Status, "detail", failure.detail)
	}
	to.host.recordOutcome(failure)
	return a, failure
}

// send sends one request once the handler has consented and the host has a free slot.
func (u *Upstream) send(ctx context.Context, s *Session, to target, k eventKind, e cloudevents.Event, limit int64) (answer, *Failure) {
	if failure := u.consents.consented(ctx, to); failure != nil {
		return answer{}, failure
	}
	if failure := u.awaitSlot(ctx, to.host, k); failure != nil {
		return answer{}, failure
	}
	defer u.slots.release(to.host)
	r, failure := u.newRequest(ctx, s, to, e)
	if failure != nil {
		return answer{}, failure
	}
	s.cookies.addTo(r)

	u.metrics.inFlight.Inc()
	defer u.metrics.inFlight.Dec()
	began := time.Now()
	resp, err := to.host.client.Do(r)
	if err != nil {
		return answer{}, requestFailure(ctx, err)
	}
	defer resp.Body.Close()
	a, failure := readResponse(ctx, resp, limit)
	u.metrics.observeDuration(k, time.Since(began))
	switch {
	case failure == nil:
		s.cookies.keep(resp)
	case failure.Status == http.StatusUnauthorized:
		u.tokens.drop(to.auth, r)
	}
	return a, failure
}

// awaitSlot waits until there is a slot for a request to h, which the caller is to release unless it fails.
func (u *Upstream) awaitSlot(ctx context.Context, h *host, k eventKind) *Failure {
	u.metrics.slotsAwaited.Inc()
	defer u.metrics.slotsAwaited.Dec()
	if u.slots.acquire(ctx, h, k.isLifecycle()) == nil {
		return nil
	}
	failure := interrupted(ctx)
	if failure.Reason == ReasonTimeout {
		failure.Reason = ReasonBusy
	}
	return failure
}

// newRequest returns the request that brings e to its handler.
func (u *Upstream) newRequest(ctx context.Context, s *Session, to target, e cloudevents.Event) (*http.Request, *Failure) {
	address, failure := to.address(to.event)
	if failure != nil {
		return nil, failure
	}
	e.Origin = to.origin
	var r *http.Request
	var err error
	if s.caller != nil {
		r, err = s.caller.NewRequest(ctx, address, to.category, to.event, e, to.keys...)
	} else {
		r, err = cloudevents.NewRequest(ctx, address, e, to.keys...)
	}
	if err != nil {
		return nil, &Failure{Reason: ReasonNetwork, detail: withoutURL(err)}
	}
	return r, u.tokens.authorize(ctx, to.auth, r)
}

// readResponse reads an answer: of 2xx the whole body, at most limit bytes, else the beginning of it. limit 0 means that the body is
// not needed.
func readResponse(ctx context.Context, resp *http.Response, limit int64) (answer, *Failure) {
	if status := resp.StatusCode; status < 200 || status > 299 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // an error is ignored: the status is what counts
		f := &Failure{Reason: ReasonClientError, Status: status, ContentType: resp.Header.Get("Content-Type"), Body: body}
		if status >= 500 {
			f.Reason = ReasonServerError
		}
		f.retry = status >= 500 || status == http.StatusRequestTimeout
		return answer{}, f
	}
	a := answer{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), header: resp.Header}
	if limit == 0 {
		drainBody(resp, maxIgnoredAnswer)
		return a, nil
	}
	var err error
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
		return answer{}, requestFailure(ctx, err)
	}
	if int64(len(a.body)) > limit {
		return answer{}, unusable("the answer has more than %d bytes", limit)
	}
	return a, nil
}

// drainBody reads the rest of a body, up to limit bytes: only then is the TCP connection used again.
func drainBody(resp *http.Response, limit int64) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, limit)) //nolint:errcheck // only to use the connection again
}

// unusable is the failure of an answer with status 2xx that breaks the protocol. It is not tried again: the handler has done what the
// event asked for.
func unusable(format string, args ...any) *Failure {
	return &Failure{Reason: ReasonAnswer, detail: fmt.Errorf(format, args...)}
}

// requestFailure says why a request got no answer. Timeouts are not retried: the handler may still be at work on
// it.
func requestFailure(ctx context.Context, err error) *Failure {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return &Failure{Reason: ReasonTimeout}
	}
	return &Failure{Reason: ReasonNetwork, detail: withoutURL(err), retry: true}
}

// interrupted says why ctx ended.
func interrupted(ctx context.Context) *Failure {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Failure{Reason: ReasonTimeout}
	}
	return &Failure{Reason: ReasonCanceled, detail: ctx.Err()}
}

// maxDetail bounds an error's text in bytes: the http package repeats answers that it cannot read.
const maxDetail = 200

// withoutURL removes the URL, which may hold a secret, from an error and cuts off what is too long.
func withoutURL(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	if text := err.Error(); len(text) > maxDetail {
		return errors.New(text[:maxDetail] + "…")
	}
	return err
}
