package orphans

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// overdue answers with the nodes whose leases end within the time given, so that they are late with renewing them.
var overdue = redis.NewScript(now + `
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now + ARGV[1]))`)

// Unresponsive returns the ids of nodes that show no sign of life: their leases, which are renewed three times in their time, should have
// been renewed a while ago. Such a node may be dead, hang, or be cut off; it is taken for dead when its lease is over,
// and is still one of these then.
func (o *Orphans) Unresponsive(ctx context.Context) (nodes []string, err error) {
	if o.list == nil {
		return nil, nil
	}
	l := o.list
	nodes, err = l.call(ctx, overdue, []string{l.key("leases")}, l.overdueWithin().Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look for overdue leases: %w", err)
	}
	return append(nodes, o.Dead()...), nil
}

// living answers with how many nodes have a lease that is not over, but for one.
var living = redis.NewScript(now + `
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
local n = redis.call('ZCOUNT', KEYS[1], now, '+inf')
if until_ and tonumber(until_) >= now then n = n - 1 end
return n`)

// Others says how many other nodes live, by their leases; of any version.
func (o *Orphans) Others(ctx context.Context) (int, error) {
	if o.list == nil {
		return 0, nil
	}
	n, err := o.list.call(ctx, living, []string{o.list.key("leases")}, o.list.node).Int()
	if err != nil {
		return 0, fmt.Errorf("count the leases: %w", err)
	}
	return n, nil
}

// overdueWithin is how much of a lease is left when its renewal is late by a twelfth of its time.
func (l *list) overdueWithin() time.Duration { return l.lease - l.lease/3 - l.lease/12 }

// Dead returns the ids of nodes that are dead and may still be subscribed: their leases are over, and Redis does not let others end
// their connections. It does not block.
func (o *Orphans) Dead() []string {
	if o.list == nil {
		return nil
	}
	return o.list.links.unended()
}
