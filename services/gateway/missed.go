package gateway

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// missedSpan is how long it takes to close the plain connections that have missed something: all of them at once would come back at once.
const missedSpan = 5 * time.Second

// keeps reports whether what is sent in a hub is kept for nodes that have lost the bus meanwhile.
func (g *Gateway) keeps(h webpubsub.HubKey) bool {
	t := g.tenants.ByName(h.Tenant)
	return t == nil || t.Keeps(h.Hub)
}

// watchBus sees to connections that may have missed messages while the bus was away, once it is back and what can be read up has
// been (docs/decisions/0006-bus-loss.md).
func (g *Gateway) watchBus(ctx context.Context) error {
	known, knownGaps := g.bus.LossCount(), g.bus.GapCount()
	allKept, looked := true, time.Time{}
	return every(ctx, watchInterval, func() {
		lost := g.bus.LossCount()
		switch {
		case g.bus.Ready() != nil:
		case lost != known:
			gaps := g.bus.GapCount() // after LossCount: a later gap is seen twice rather than never
			g.orphans.Refresh(ctx)
			allKept = allKept && g.awaitAllKeep(ctx)
			g.endMissed(ctx, gaps != knownGaps || !allKept)
			known, knownGaps = lost, gaps
			g.node.Handoffs.Healed(lost)
		case time.Since(looked) > lookInterval:
			looked = time.Now()
			if keep, err := g.allKeep(ctx); err == nil { // else it may be about to be seen that the bus is lost
				allKept = keep
			}
		}
	})
}

// lookInterval is how often a node looks whether there are nodes that keep nothing.
const lookInterval = 2 * time.Second

// returnTime is how long the nodes may take to return to a bus that was lost, one after the other.
const returnTime = 5 * time.Second

// allKeep reports whether all nodes keep what they publish. Those of version 0.1, during an upgrade, do not: what they have published
// while this node had lost the bus is missed.
func (g *Gateway) allKeep(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookInterval)
	defer cancel()
	others, err := g.orphans.Living(ctx)
	if err != nil {
		return false, err
	}
	keeping, err := g.node.KeepingNodes(ctx)
	return len(others) < keeping, err
}

// awaitAllKeep is allKeep once the other nodes have come back, too, if they were away: until then they are not seen to keep anything.
func (g *Gateway) awaitAllKeep(ctx context.Context) bool {
	for deadline := time.Now().Add(returnTime); ; {
		if keep, err := g.allKeep(ctx); keep && err == nil {
			return true
		}
		if time.Now().After(deadline) || backoff.Sleep(ctx, lookInterval/10) != nil {
			return false
		}
	}
}

// endMissed ends the connections that may have missed messages: all if there is a gap, else those of hubs whose messages are not kept.
//
// Reliable ones would go on with numbers that show no gap. The close code makes SDKs start anew, and applications heal from history.
// Plain ones in hubs whose messages are kept come back by themselves; in the others they are promised nothing, and stay.
func (g *Gateway) endMissed(ctx context.Context, gap bool) {
	missed := hub.ReasonMessagesMissed.Closing("Messages may have been missed while the message bus was away.")
	var plain []*hub.Conn
	ended := 0
	for _, c := range g.conns.Conns() {
		kept := g.keeps(c.Hub)
		switch {
		case kept && !gap:
		case c.Codec.Reliable():
			ended++
			g.conns.Close(c, missed)
		case kept:
			plain = append(plain, c)
		}
	}
	if ended+len(plain) > 0 {
		g.log.Warn("messages may have been missed while the bus was away", "reliable", ended, "plain", len(plain))
	}
	missed.Code = hub.CodeGoingAway
	g.work.Go(func() {
		for _, c := range plain {
			select {
			case <-time.After(missedSpan / time.Duration(len(plain))):
				g.conns.Close(c, missed)
			case <-ctx.Done(): // the drain closes them
				return
			}
		}
	})
}
