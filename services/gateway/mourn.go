package gateway

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/roster"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// mourners is how many connections of dead nodes are looked after at a time.
const mourners = 64

// keepRoster keeps the list of those whose end an application wants to hear of, if there is a Redis for it.
func (g *Gateway) keepRoster() error {
	if g.cfg.Redis.URL == "" {
		return nil
	}
	client, err := redisconn.Open(g.cfg.Redis)
	if err != nil {
		return fmt.Errorf("open the list of connections: %w", err)
	}
	slots := make(chan struct{}, mourners)
	g.mourning, g.endMourning = context.WithCancel(context.Background())
	g.roster = roster.New(client, g.log, roster.Options{Node: g.node.ID(), Prefix: g.cfg.Redis.Prefix, Lease: g.cfg.Lease, All: g.entries, Told: g.takenForDead,
		Lapsed: func(node, id string, entry []byte) {
			slots <- struct{}{}
			g.mourners.Go(func() {
				defer func() { <-slots }()
				g.mourn(node, id, entry)
			})
		}})
	g.upstream.SetSessionStore(upstream.SessionStore{Save: g.roster.Keep, Delete: g.roster.Drop})
	return nil
}

// entries yields the connections whose end is to be told.
func (g *Gateway) entries() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, c := range g.conns.Conns() {
			if entry, ok := c.Owner.(*session.Client).Events().StoredEntry(); ok && !yield(c.ID, entry) {
				return
			}
		}
	}
}

// mourn tells an application of the end of a dead node's connection, unless that has moved to another node in time.
func (g *Gateway) mourn(node, id string, entry []byte) {
	exists := func(h webpubsub.HubKey) (exists bool, err error) {
		for g.mourning.Err() == nil {
			ctx, cancel := context.WithTimeout(g.mourning, 10*time.Second)
			exists, err := g.node.Exists(ctx, webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeConnection, Name: id})
			cancel()
			if err == nil {
				if !exists {
					g.roster.Tell(node, id)
				}
				return exists, nil
			}
			select { // the bus is away; who is alive cannot be known
			case <-time.After(time.Second):
			case <-g.mourning.Done():
			}
		}
		return false, g.mourning.Err()
	}
	if g.upstream.ReportOrphan(id, entry, "The gateway that had the connection is gone.", exists) {
		g.metrics.mourned.Inc()
		return
	}
	if c := g.conns.Conn(id); c != nil { // it has come here: what was dropped is not what is kept of it
		if entry, ok := c.Owner.(*session.Client).Events().StoredEntry(); ok {
			g.roster.Keep(id, entry)
		}
	}
}

// takenForDead ends a connection whose end others have told, while this node was asleep or cut off.
func (g *Gateway) takenForDead(id string) {
	if c := g.conns.Conn(id); c != nil {
		c.Owner.(*session.Client).Events().StopReporting()
		g.conns.Close(c, hub.ReasonMessagesMissed.Closing("The service could not be reached for too long; please reconnect."))
	}
}

// refreshRoster finds out whose end others have told while this node was cut off, so that it is not told again.
func (g *Gateway) refreshRoster(ctx context.Context) {
	if g.roster != nil {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		g.roster.Refresh(ctx)
	}
}
