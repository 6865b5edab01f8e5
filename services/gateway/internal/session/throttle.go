package session

import (
	"time"

	"golang.org/x/time/rate"
)

// throttle bounds how many messages of a connection come a second: a limit's worth may come at once, then as many a
// second. The zero value has no limit yet.
type throttle struct {
	bucket    *rate.Limiter // nil: nothing has been limited
	perSecond int           // of bucket
}

// wait returns when the next message may come.
func (t *throttle) wait(perSecond int) {
	switch {
	case t.bucket == nil:
		t.bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	case t.perSecond != perSecond: // the settings have changed
		t.bucket.SetLimit(rate.Limit(perSecond))
		t.bucket.SetBurst(perSecond)
	}
	t.perSecond = perSecond
	time.Sleep(t.bucket.Reserve().Delay())
}
