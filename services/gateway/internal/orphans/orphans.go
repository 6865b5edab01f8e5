// Package orphans tells applications of the end of connections whose node has died, as that node cannot.
//
// Each node has a lease in Redis, and beside it what is held of its connections: those whose end an application wants to
// hear of, with what it takes to tell it. When a node's lease has lapsed the others claim what it has held, each connection
// exactly once among them. A claimed connection that lives nowhere is an orphan, and its end is reported to the application.
//
// All is written behind, in batches: nothing waits for it. What is held says at least what its node had a moment before it
// died. A node that was taken for dead and is not learns which of its connections' ends others have reported, and closes
// those.
package orphans

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// reportsAtOnce is how many connections of dead nodes are looked after at a time.
const reportsAtOnce = 64

// Deps is what orphans are found and reported with.
type Deps struct {
	Node     *node.Node         // says whether a connection lives somewhere
	Conns    *hub.Registry      // the node's connections, each owned by a *session.Client
	Upstream *upstream.Upstream // nothing has been asked of it yet
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Orphans is one node's part in this. Its methods are safe for concurrent use.
type Orphans struct {
	Deps
	list        *list          // nil without Redis, where no other node could know
	heldChanges *upstream.Held // what has changed about what is to be held
	reported    prometheus.Counter
}

// New returns a node's Orphans, which works while Run does. lease is how long after its last sign of life a node counts as
// dead. Without the URL of a Redis there is nothing to do.
func New(cfg redisconn.Config, lease time.Duration, d Deps) (*Orphans, error) {
	o := &Orphans{Deps: d, reported: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_orphans_reported_total", Help: "Connections of dead nodes whose disconnected event this node has sent."})}
	d.Metrics.MustRegister(o.reported)
	if cfg.URL == "" {
		return o, nil
	}
	client, err := redisconn.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the list of connections: %w", err)
	}
	o.list = newList(client, d.Log, d.Node.ID(), cfg.Prefix, lease)
	d.Metrics.MustRegister(o.list.links.ended)
	o.heldChanges = d.Upstream.TrackHeld()
	return o, nil
}

// Run keeps the node's lease and what it holds, claims what dead nodes have held, and reports orphans, until ctx ends. Then
// the lease ends too, unless there are connections left for others to claim.
func (o *Orphans) Run(ctx context.Context) error {
	if o.list == nil {
		return nil
	}
	defer o.list.client.Close()
	var work sync.WaitGroup
	work.Go(func() { o.list.renewLease(ctx) })
	work.Go(func() { o.list.every(ctx, writeWait, nil, o.writeHeld) })
	work.Go(func() { o.list.claimOrphans(ctx) })
	work.Go(func() { o.reportOrphans(ctx) })
	work.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return errors.Join(o.writeHeld(last), o.list.endLease(last))
}

// reportOrphans reports the ends of orphans, some at a time, until ctx ends.
func (o *Orphans) reportOrphans(ctx context.Context) {
	var reports errgroup.Group
	reports.SetLimit(reportsAtOnce)
	for {
		orphan, ok := o.list.Next(ctx)
		if !ok {
			break
		}
		reports.Go(func() error {
			o.reportOrphan(ctx, orphan)
			return nil
		})
	}
	_ = reports.Wait() // there are no errors
}

// reportOrphan tells the application of the end of a dead node's connection, unless that has moved to another node in time.
func (o *Orphans) reportOrphan(ctx context.Context, orphan Orphan) {
	events, err := o.Upstream.OpenOrphan(orphan.ConnID, orphan.Entry)
	if err != nil {
		o.Log.Error("an entry about a connection of a dead node cannot be read", "connection", orphan.ConnID, "error", err)
		o.heldChanges.Release(orphan.ConnID)
		return
	}
	alive, err := o.isAlive(ctx, events.Hub(), orphan.ConnID)
	switch {
	case err != nil: // this node holds it still, and leaves it to others
	case alive:
		o.heldChanges.Release(orphan.ConnID)
		if c := o.Conns.Conn(orphan.ConnID); c != nil { // it lives here: hold its present entry, not the claimed one
			if entry, ok := eventsOf(c).HeldEntry(); ok {
				o.heldChanges.Hold(orphan.ConnID, entry)
			}
		}
	default:
		o.list.markReported(orphan)
		events.Closed("The gateway that had the connection is gone.")
		o.reported.Inc()
	}
}

// isAlive reports whether a connection is on any node. While the bus is away it cannot be known, and is asked again; the
// error is that ctx has ended before.
func (o *Orphans) isAlive(ctx context.Context, h webpubsub.HubKey, connID string) (bool, error) {
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		exists, err := o.Node.Exists(ask, webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeConnection, Name: connID})
		cancel()
		if err == nil {
			return exists, nil
		}
		_ = backoff.Sleep(ctx, time.Second)
	}
	return false, ctx.Err()
}

// writeHeld brings out what has changed about what is held, and ends the connections whose ends others have reported.
func (o *Orphans) writeHeld(ctx context.Context) error {
	defer o.list.endWrite()
	reported, err := o.list.write(ctx, o.heldChanges.TakeChanges(), o.ownEntries())
	for _, id := range reported {
		o.endReported(id)
	}
	return err
}

// ownEntries yields the node's connections whose end an application wants to hear of, with what is to be held of each.
func (o *Orphans) ownEntries() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, c := range o.Conns.Conns() {
			if entry, ok := eventsOf(c).HeldEntry(); ok && !yield(c.ID, entry) {
				return
			}
		}
	}
}

// endReported ends a connection whose end others have reported, while this node was asleep or cut off.
func (o *Orphans) endReported(connID string) {
	if c := o.Conns.Conn(connID); c != nil {
		eventsOf(c).StopReporting()
		o.Conns.Close(c, hub.ReasonMessagesMissed.Closing("The service could not be reached for too long; please reconnect."))
	}
}

// eventsOf returns a connection as event handlers see it.
func eventsOf(c *hub.Conn) *upstream.Session { return c.Owner.(*session.Client).Events() }

// Refresh finds out which connections' ends others have reported while this node was cut off, and ends those, so that their
// ends are not reported again. It returns when that is done, or after some seconds.
func (o *Orphans) Refresh(ctx context.Context) {
	if o.list != nil {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		o.list.refresh(ctx)
	}
}
