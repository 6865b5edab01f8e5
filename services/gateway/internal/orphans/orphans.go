// Package orphans tells applications of the end of connections whose node has died, as that node cannot.
//
// Each node has a lease in Redis, and beside it what is held of its connections: those whose end an application wants to
// hear of, with what it takes to tell it. When a node's lease has lapsed the others claim what it has held, each connection
// exactly once among them. A claimed connection that lives nowhere else is an orphan, and its end is reported to the application.
//
// All is written in batches. The application's events of a connection's beginning and end wait for that, nothing else does. Who reports
// an end is decided in Redis, by the script that claims and the one that writes: a node reports the end of a connection of its own once
// that has been written into its list, which is refused if another one has claimed it. A node that was taken for dead and is not learns
// so which of its connections others have claimed, and closes those.
package orphans

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
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

	// Address is where other nodes reach ServeBus, as host:port; empty: nowhere, so that they cannot know whether they alone are cut off.
	Address string
	Fence   Fence
}

// Orphans is one node's part in this. Its methods are safe for concurrent use.
type Orphans struct {
	Deps
	list        *list          // nil without Redis, where no other node could know
	heldChanges *upstream.Held // what has changed about what is to be held
	reported    prometheus.Counter
	fenced      prometheus.Counter
	client      *http.Client // asks other nodes
}

// New returns a node's Orphans, which works while Run does. lease is how long after its last sign of life a node counts as
// dead. Without the URL of a Redis there is nothing to do.
func New(cfg redisconn.Config, lease time.Duration, d Deps) (*Orphans, error) {
	o := &Orphans{Deps: d, reported: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_orphans_reported_total", Help: "Connections of dead nodes whose disconnected event this node has sent."}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_fenced_total", Help: "How often this gateway has closed its doors and sockets, as it was cut off from Redis and others were not."}),
		client: &http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	d.Metrics.MustRegister(o.reported, o.fenced)
	if cfg.URL == "" {
		return o, nil
	}
	client, err := redisconn.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the list of connections: %w", err)
	}
	o.list = newList(client, d.Log, d.Node.ID(), cfg.Prefix, lease)
	d.Metrics.MustRegister(o.list.links.ended, o.list.taken)
	o.list.address = d.Address
	d.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_peers", Help: "Other gateways that had a lease when this one's was renewed last."}, func() float64 { return float64(o.Peers()) }))
	o.heldChanges = d.Upstream.TrackHeld(o.list.mayReport)
	return o, nil
}

// Peers is how many other nodes there are, as far as this one knows.
func (o *Orphans) Peers() int {
	if o.list == nil {
		return 0
	}
	return o.list.peerCount()
}

// Run keeps the node's lease and what it holds, claims what dead nodes have held, and reports orphans, until ctx ends. Then
// the lease ends too, unless there are connections left for others to claim.
func (o *Orphans) Run(ctx context.Context) error {
	if o.list == nil {
		return nil
	}
	defer o.list.client.Close()
	_ = o.list.renewOnce(ctx) // nothing can be written without a lease; renewLease logs a failure
	var work sync.WaitGroup
	work.Go(func() { o.list.renewLease(ctx) })
	work.Go(func() { o.list.every(ctx, writeWait, o.heldChanges.Waiting(), o.writeHeld) })
	work.Go(func() { o.list.claimOrphans(ctx) })
	work.Go(func() { o.reportOrphans(ctx) })
	work.Go(func() { o.keepFence(ctx) })
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
	alive, err := o.isAlive(ctx, events.Hub(), orphan)
	switch {
	case err != nil: // this node holds it still, and leaves it to others
	case alive:
		o.heldChanges.Release(orphan.ConnID)
		if c := o.Conns.Conn(orphan.ConnID); c != nil { // it lives here: hold its present entry, not the claimed one
			if entry, ok := eventsOf(c).HeldEntry(); ok {
				o.heldChanges.Hold(orphan.ConnID, entry)
			}
		}
	case o.list.holds(orphan): // else this node was away itself, and another one has claimed it
		events.Closed("The gateway that had the connection is gone.")
		o.reported.Inc()
	}
}

// isAlive reports whether an orphan is on any node but the one that it was claimed from: that one ends it when it comes back. While the
// bus is away it cannot be known, and is asked again; the error is that ctx has ended before.
func (o *Orphans) isAlive(ctx context.Context, h webpubsub.HubKey, orphan Orphan) (alive bool, err error) {
	const looks = 5 // a node that a connection has moved to writes that down within a moment
	for look := 0; ctx.Err() == nil; _ = backoff.Sleep(ctx, time.Second) {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		exists, err := o.Node.Exists(ask, webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeConnection, Name: orphan.ConnID})
		cancel()
		if err != nil {
			continue
		}
		if !exists {
			return false, nil
		}
		if alive = o.Conns.Conn(orphan.ConnID) != nil; !alive {
			alive, err = o.list.heldElsewhere(ctx, orphan.ConnID, o.list.node, orphan.Node)
		}
		if alive && err == nil {
			err = o.list.giveBack(ctx, orphan)
		}
		if err != nil {
			continue
		}
		if look++; alive || look == looks {
			return alive, nil
		}
	}
	return false, ctx.Err()
}

// batchDelay is how long changes for which an event waits are collected.
const batchDelay = 5 * time.Millisecond

// writeHeld brings out what has changed about what is held, and ends the connections that others have claimed.
func (o *Orphans) writeHeld(ctx context.Context) error {
	_ = backoff.Sleep(ctx, batchDelay)
	defer o.list.endWrite()
	taken, err := o.list.write(ctx, o.heldChanges.TakeChanges(), o.ownEntries())
	for _, id := range taken {
		o.endTaken(id)
	}
	o.heldChanges.Written(err == nil || o.list.isAlone())
	return err
}

// ownEntries yields the node's connections whose end an application wants to hear of, or has not heard of yet, with what is to be held
// of each.
func (o *Orphans) ownEntries() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for id, s := range o.heldChanges.Ending() {
			if entry, ok := s.HeldEntry(); ok && !yield(id, entry) {
				return
			}
		}
		for _, c := range o.Conns.Conns() {
			if entry, ok := eventsOf(c).HeldEntry(); ok && !yield(c.ID, entry) {
				return
			}
		}
	}
}

// endTaken ends a connection that others have claimed while this node was asleep or cut off: they report its end.
func (o *Orphans) endTaken(connID string) {
	if o.heldChanges.StopReporting(connID) {
		return
	}
	if c := o.Conns.Conn(connID); c != nil {
		eventsOf(c).StopReporting()
		o.Conns.Close(c, hub.ReasonCutOff.Closing("The service could not be reached for too long; please reconnect."))
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
