package orphans

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
)

// endLinks ends, at Redis, the connections over which a dead node has published and subscribed. Redis notices by itself only after
// minutes that a machine has vanished, or never that a process hangs: until then the node's subscriptions would count, so that
// questions to all nodes wait for its answer, and its connections seem to exist. A node that lives after all connects again, and
// knows that it may have missed something.
func (l *list) endLinks(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	name := redisconn.NodeName(l.prefix, node)
	if cluster, ok := l.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error { return endNamed(ctx, server, name) })
	}
	return endNamed(ctx, l.client, name)
}

// endNamed ends a server's connections of that name.
func endNamed(ctx context.Context, server redis.Cmdable, name string) error {
	clients, err := server.ClientList(ctx).Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(clients) {
		if id, ok := namedID(line, name); ok {
			if err := server.ClientKillByFilter(ctx, "ID", id).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// namedID returns the id in a line of CLIENT LIST, such as "id=3 addr=10.0.0.7:4711 name=chatr:node:xyz …", if it has that name.
func namedID(line, name string) (id string, ok bool) {
	for field := range strings.FieldsSeq(line) {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "id":
			id = value
		case "name":
			return id, value == name && id != ""
		}
	}
	return "", false
}
