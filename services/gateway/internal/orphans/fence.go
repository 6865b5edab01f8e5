package orphans

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fence is what a node does that is cut off from the others, who report the ends of its connections: Close closes its doors and its
// sockets, Open opens the doors. Close is called again while the node is cut off, since a handshake may have been under way.
type Fence struct{ Close, Open func() }

// How often a node looks whether its lease is over, how long it waits for the answers of others, and how often it closes what is open.
const (
	fenceLook  = 100 * time.Millisecond
	askTimeout = time.Second
	closeAgain = time.Second
)

// What others answer, and a node knows of them: the body of the answer to BusPath.
const (
	busYes    = "bus: yes\n"
	busLately = "bus: lately\n" // it is back, or new, and gives others the time to renew their leases
	busNo     = "bus: no\n"
)

// BusPath is where other nodes ask, on the operations listener, whether this one has the bus.
const BusPath = "/bus"

// keepFence closes the node when its lease is over and others still have Redis, so that they take it for dead, and opens it when its
// lease is renewed and it knows what they have claimed. While nobody has Redis everything stays as it is: nobody can be taken for dead.
func (o *Orphans) keepFence(ctx context.Context) {
	tick := time.NewTicker(fenceLook)
	defer tick.Stop()
	var closed, asked time.Time // when that was done last; closed is zero while the node is open
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		over, settled := o.list.leaseOver()
		switch {
		case over && closed.IsZero() && time.Since(asked) >= askTimeout/2:
			asked = time.Now()
			has, hasNot := o.askPeers(ctx)
			if over = o.list.setAlone(hasNot); !over || len(has) == 0 {
				break
			}
			o.fenced.Inc()
			o.Log.Warn("cut off from Redis, while others are not and take this gateway for dead: its clients are sent to them", "others", has)
			o.Fence.Close()
			closed = time.Now()
		case over && !closed.IsZero() && time.Since(closed) >= closeAgain:
			o.Fence.Close()
			closed = time.Now()
		case settled && !closed.IsZero():
			closed = time.Time{}
			o.Log.Info("Redis is back, and clients may come again")
			o.Fence.Open()
		}
	}
}

// leaseOver reports whether the node has had a lease that is over, or as good as over, by its own clock, and whether it has one and knows what others have
// claimed before.
func (l *list) leaseOver() (over, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	over = l.until > 0 && sinceBoot() >= l.until-l.lease/6 // so that there is time to ask and to close before others claim
	return over, !over && !l.mustRewrite && !l.rewriteRunning
}

// setAlone says which of the other nodes have lost Redis too. The node is alone if they are all that there were, and there were some: one
// that has just come could claim, too. It reports whether the lease is over still.
func (l *list) setAlone(hasNot map[string]bool) (over bool) {
	over, _ = l.leaseOver()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alone = over && len(l.peers) > 0
	for node := range l.peers {
		l.alone = l.alone && hasNot[node]
	}
	return over
}

// peerCount is how many other nodes had a lease when this one's was renewed last.
func (l *list) peerCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.peers)
}

// isAlone reports whether nobody else could claim anything.
func (l *list) isAlone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone
}

// askPeers asks the other nodes whether they have Redis. Those that do not answer, or have it since lately, are in neither list.
func (o *Orphans) askPeers(ctx context.Context) (has []string, hasNot map[string]bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	o.list.mu.Lock()
	peers := maps.Clone(o.list.peers)
	o.list.mu.Unlock()
	var mu sync.Mutex // guards the results
	hasNot = map[string]bool{}
	var asking sync.WaitGroup
	for node, address := range peers {
		if address == "" { // of the version before, or none that others reach
			continue
		}
		asking.Go(func() {
			answer := o.askPeer(ctx, address)
			mu.Lock()
			defer mu.Unlock()
			switch answer {
			case busYes:
				has = append(has, node)
			case busNo:
				hasNot[node] = true
			}
		})
	}
	asking.Wait()
	return has, hasNot
}

// askPeer returns what a node answers; empty: nothing.
func (o *Orphans) askPeer(ctx context.Context, address string) string {
	host, port, err := net.SplitHostPort(address) // which takes the brackets from any host
	if err != nil {
		return ""
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+BusPath, nil)
	if err != nil {
		return ""
	}
	answer, err := o.client.Do(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 100))
	if err != nil || answer.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// ServeBus answers others who are cut off whether this node has Redis and would take them for dead. It says nothing else.
func (o *Orphans) ServeBus(w http.ResponseWriter, r *http.Request) {
	answer := busNo
	switch {
	case !o.hasBus(r.Context()):
	case o.list.maySeeDead():
		answer = busYes
	default:
		answer = busLately
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, strings.NewReader(answer))
}

// hasBus reports whether this node has Redis at this moment.
func (o *Orphans) hasBus(ctx context.Context) bool {
	if o.list == nil || o.Node.Ready() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout/2)
	defer cancel()
	return o.list.client.Exists(ctx, o.list.key("leases")).Err() == nil
}

// maySeeDead reports whether others have had the time to renew their leases, too, since Redis was there.
func (l *list) maySeeDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.allWellSince.IsZero() && time.Since(l.allWellSince) >= l.lease+l.lease/3
}
