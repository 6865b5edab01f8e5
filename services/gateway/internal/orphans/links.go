package orphans

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
)

// links are the connections to Redis of nodes that are dead. Redis notices by itself only after minutes that a machine has vanished, or
// never that a process hangs: until then the node's subscriptions count, so that questions to all nodes wait for its answer, and its
// connections seem to exist. So they are ended there. A node that lives after all connects again, and knows that it may have missed
// something.
type links struct {
	ended prometheus.Counter

	mu      sync.Mutex      // guards the following
	dead    map[string]bool // nodes; true: their connections have been ended
	refused bool            // Redis does not let us; logged
}

func newLinks() *links {
	return &links{ended: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_dead_links_ended_total", Help: "Connections of dead gateways to Redis that this gateway has ended."})}
}

// unended returns the dead nodes that may still be subscribed, since their connections could not be ended.
func (l *links) unended() (nodes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, ended := range l.dead {
		if !ended {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// setDead says which nodes are dead, and returns those whose connections have not been ended.
func (l *links) setDead(nodes []string) []string {
	l.mu.Lock()
	known := l.dead
	l.dead = make(map[string]bool, len(nodes))
	for _, node := range nodes {
		l.dead[node] = known[node]
	}
	l.mu.Unlock()
	return l.unended()
}

// setEnded notes that the connections of a dead node have been ended, or why not. It reports whether the reason is to be logged: where
// Redis lets nobody do that, once is enough.
func (l *links) setEnded(node string, n int, err error) (log bool) {
	l.ended.Add(float64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.dead[node] = true
		return false
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return true
	}
	log = !l.refused
	l.refused = true
	return log
}

// endAllLinks ends, at Redis, the connections over which dead nodes have published and subscribed.
func (l *list) endAllLinks(ctx context.Context, dead []string) {
	for _, node := range l.links.setDead(dead) {
		n, err := l.endLinks(ctx, node)
		if l.links.setEnded(node, n, err) {
			l.log.Warn("connections of dead nodes to Redis cannot be ended (CLIENT LIST, CLIENT KILL): until Redis notices, questions take "+
				"seconds, and users and groups of such nodes seem to be there", "node", node, "error", err)
		}
	}
}

// endLinks ends the connections of one node, on every server of a cluster, and returns how many there were.
func (l *list) endLinks(ctx context.Context, node string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	name := redisconn.NodeName(l.prefix, node)
	cluster, ok := l.client.(*redis.ClusterClient)
	if !ok {
		return endNamed(ctx, l.client, name)
	}
	var total atomic.Int64
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error {
		n, err := endNamed(ctx, server, name)
		total.Add(int64(n))
		return err
	})
	return int(total.Load()), err
}

// endNamed ends a server's connections of that name, and returns how many there were.
func endNamed(ctx context.Context, server redis.Cmdable, name string) (n int, err error) {
	clients, err := server.ClientList(ctx).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(clients) {
		id, ok := namedID(line, name)
		if !ok {
			continue
		}
		ended, err := server.ClientKillByFilter(ctx, "ID", id).Result()
		if err != nil {
			return n, err
		}
		n += int(ended)
	}
	return n, nil
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
