package gateway

import (
	"context"
	"time"
)

// otherNodes knows whether there are nodes that the connections of a draining one can go to. It asks again every
// second, for those may begin to drain as well, and new ones come. It is for one goroutine.
type otherNodes struct {
	count func(context.Context) (bool, error)
	asked time.Time
	there bool
}

const (
	askOthersEvery   = time.Second
	askOthersTimeout = 500 * time.Millisecond
)

// open reports whether there are any, as far as is known at that time. While that cannot be found out it is as it was; at first,
// there are none.
func (o *otherNodes) open(ctx context.Context, now time.Time) bool {
	if !o.asked.IsZero() && now.Sub(o.asked) < askOthersEvery {
		return o.there
	}
	o.asked = now
	ctx, cancel := context.WithTimeout(ctx, askOthersTimeout)
	defer cancel()
	if there, err := o.count(ctx); err == nil {
		o.there = there
	}
	return o.there
}
