package orphans

import (
	"context"
	"fmt"
	"slices"
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

// living answers with the nodes whose leases are not over.
var living = redis.NewScript(now + `
return redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')`)

// Living returns the ids of the other nodes that live, by their leases; of any version.
func (o *Orphans) Living(ctx context.Context) ([]string, error) {
	if o.list == nil {
		return nil, nil
	}
	nodes, err := o.list.call(ctx, living, []string{o.list.key("leases")}).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look for living nodes: %w", err)
	}
	return slices.DeleteFunc(nodes, func(node string) bool { return node == o.list.node }), nil
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
