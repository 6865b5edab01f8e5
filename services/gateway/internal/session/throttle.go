package session

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// throttle bounds how many messages of a connection come a second: a limit's worth may come at once, then as many a
// second. The zero value has no limit yet.
type throttle struct {
	bucket    *rate.Limiter // nil: nothing has been limited
	perSecond int           // of bucket
}

// reserve takes the next message in and returns how long it has to wait.
func (t *throttle) reserve(perSecond int) time.Duration {
	switch {
	case t.bucket == nil:
		t.bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	case t.perSecond != perSecond: // the settings have changed
		t.bucket.SetLimit(rate.Limit(perSecond))
		t.bucket.SetBurst(perSecond)
	}
	t.perSecond = perSecond
	return t.bucket.Reserve().Delay()
}

// leaveGrace is how long a client that has sent faster than it may, and left, is still heard.
const leaveGrace = time.Second

// limitRate waits as long as the client sends faster than it may. It is false when the client has left meanwhile: what waits of it to be
// read could otherwise be sent in its name for minutes, from a connection that has long ended.
func (r *reader) limitRate() bool {
	r.renewSettings()
	if r.settings.rate <= 0 {
		return true
	}
	delay := r.throttle.reserve(r.settings.rate)
	if delay <= 0 {
		return true
	}
	r.shared.metrics.throttled.Inc()
	r.logBounded(slog.LevelInfo, "client sends faster than it may, and is slowed down", slog.Int("messagesPerSecond", r.settings.rate))
	if r.sock != nil && r.sock.ClientGone() {
		if r.leftAt.IsZero() {
			r.leftAt = time.Now()
		} else if time.Since(r.leftAt) >= leaveGrace {
			return false
		}
	}
	r.blocked(func() { time.Sleep(delay) })
	return true
}

// leftThrottled tells the connection that the client has left while it was slowed down.
func (r *reader) leftThrottled() {
	r.shared.conns.Detach(r.conn, r.sock, false, hub.ReasonThrottled.Closing(fmt.Sprintf(
		"The client has left while it was slowed down to %d messages a second; what it had sent last was not handled.", r.settings.rate)))
}
