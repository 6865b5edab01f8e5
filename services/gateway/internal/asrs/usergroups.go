package asrs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// maxGroups is how many groups one user may be in.
const maxGroups = 10_000

// ErrTooMany says that a user cannot be added to more groups.
var ErrTooMany = fmt.Errorf("the user is in %d groups; more are not allowed", maxGroups)

// UserGroups stores which groups users are in, connected or not: in Redis, or without Redis in this process, with which it is lost. It
// is safe for concurrent use. Errors but ErrTooMany are cluster.ErrUnavailable.
type UserGroups struct {
	client redis.UniversalClient // nil: in this process
	prefix string

	mu     sync.Mutex // guards the following
	groups map[string]map[string]struct{}
}

// NewUserGroups returns the store in client's Redis, whose keys begin with prefix; or in this process if client is nil.
// It closes client.
func NewUserGroups(client redis.UniversalClient, prefix string) *UserGroups {
	return &UserGroups{client: client, prefix: prefix, groups: map[string]map[string]struct{}{}}
}

// Close ends what it has open.
func (u *UserGroups) Close() error {
	if u.client == nil {
		return nil
	}
	return u.client.Close()
}

// key is unambiguous for any names, as topics are.
func (u *UserGroups) key(hub webpubsub.HubKey, user string) string {
	return u.prefix + ":groups:" + cluster.Topic(hub, webpubsub.ScopeUser, user)
}

// Add puts a user into a group. It returns ErrTooMany when the user is in 10,000 others.
func (u *UserGroups) Add(ctx context.Context, hub webpubsub.HubKey, user, group string) error {
	key := u.key(hub, user)
	if u.client != nil {
		return u.addRedis(ctx, key, group)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.groups[key] == nil {
		u.groups[key] = map[string]struct{}{}
	}
	if _, in := u.groups[key][group]; !in && len(u.groups[key]) >= maxGroups {
		return ErrTooMany
	}
	u.groups[key][group] = struct{}{}
	return nil
}

// addBounded adds ARGV[1] to a set unless it would have more than ARGV[2] members.
var addBounded = redis.NewScript(`
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) and redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 1`)

func (u *UserGroups) addRedis(ctx context.Context, key, group string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	added, err := addBounded.Run(ctx, u.client, []string{key}, group, maxGroups).Bool()
	switch {
	case err != nil:
		return errors.Join(cluster.ErrUnavailable, err)
	case !added:
		return ErrTooMany
	}
	return nil
}

// Remove takes a user out of a group.
func (u *UserGroups) Remove(ctx context.Context, hub webpubsub.HubKey, user, group string) error {
	key := u.key(hub, user)
	if u.client != nil {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := u.client.SRem(ctx, key, group).Err(); err != nil {
			return errors.Join(cluster.ErrUnavailable, err)
		}
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.groups[key], group)
	if len(u.groups[key]) == 0 {
		delete(u.groups, key)
	}
	return nil
}

// Groups returns the groups of a user, in no order.
func (u *UserGroups) Groups(ctx context.Context, hub webpubsub.HubKey, user string) ([]string, error) {
	key := u.key(hub, user)
	if u.client != nil {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		groups, err := u.client.SMembers(ctx, key).Result()
		if err != nil {
			return nil, errors.Join(cluster.ErrUnavailable, err)
		}
		return groups, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.groups[key])), nil
}
