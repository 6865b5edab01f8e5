package front

import (
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/chatr-dev/chatr/pkg/tenant"
)

// Admission counts who comes in, and says whether there is room for one more: of handshakes in all and a second, of a
// tenant's handshakes, and of its connections. Its methods are safe for concurrent use.
type Admission struct {
	tenants       tenant.Source
	handshakes    int           // how many may be under way at once
	handshakeRate *rate.Limiter // of handshakes

	handshakesNow  atomic.Int64 // handshakes
	handshakesEver atomic.Int64 // handshakes, ever

	mu                 sync.Mutex     // guards the following
	connections        map[string]int // by tenant
	handshakesByTenant map[string]int // handshakes under way by tenant
}

// NewAdmission returns an Admission with bounds of handshakes under way at once, and of those that begin in a second.
// tenants say how many connections each may have.
func NewAdmission(tenants tenant.Source, handshakes, perSecond int) *Admission {
	return &Admission{tenants: tenants, handshakes: handshakes, handshakeRate: rate.NewLimiter(rate.Limit(perSecond), perSecond),
		connections: map[string]int{}, handshakesByTenant: map[string]int{}}
}

// beginHandshake counts a handshake and reports whether there is room for it. endHandshake is called in any case.
func (a *Admission) beginHandshake() bool {
	a.handshakesEver.Add(1)
	if a.handshakesNow.Add(1) > int64(a.handshakes) {
		return false
	}
	return a.handshakeRate.Allow()
}

// endHandshake removes a handshake from the count.
func (a *Admission) endHandshake() { a.handshakesNow.Add(-1) }

// Handshakes is how many are under way.
func (a *Admission) Handshakes() int { return int(a.handshakesNow.Load()) }

// Begun is how many handshakes there have been.
func (a *Admission) Begun() int64 { return a.handshakesEver.Load() }

// beginConnecting counts a tenant's handshake, unless the tenant has three quarters of all that may be under way: one
// whose event handler hangs must leave room for the others.
func (a *Admission) beginConnecting(tenant string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.handshakesByTenant[tenant] >= max(1, a.handshakes*3/4) {
		return false
	}
	a.handshakesByTenant[tenant]++
	return true
}

// endConnecting removes a tenant's handshake from the count.
func (a *Admission) endConnecting(tenant string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	decrement(a.handshakesByTenant, tenant)
}

// addConnection counts a new connection of t, unless t has as many as it may.
func (a *Admission) addConnection(t *tenant.Tenant) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit := t.Limits.Connections; limit > 0 && a.connections[t.Name] >= limit {
		return false
	}
	a.connections[t.Name]++
	return true
}

// addTakenOver counts a connection that comes from another node, which has admitted it: no limit is looked at.
func (a *Admission) addTakenOver(tenant string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections[tenant]++
}

// RemoveConnection removes a connection from the count.
func (a *Admission) RemoveConnection(tenant string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	decrement(a.connections, tenant)
}

func decrement(counts map[string]int, tenant string) {
	if counts[tenant]--; counts[tenant] == 0 {
		delete(counts, tenant)
	}
}

// Connections is how many there are, of all tenants.
func (a *Admission) Connections() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, count := range a.connections {
		n += count
	}
	return n
}

// Idle reports whether no tenant has a connection or a handshake under way.
func (a *Admission) Idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.connections) == 0 && len(a.handshakesByTenant) == 0
}

// Removed are the tenants with connections that are not among the settings any more, nil for none.
func (a *Admission) Removed() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	var removed map[string]bool
	for name := range a.connections {
		if a.tenants.ByName(name) == nil {
			if removed == nil {
				removed = map[string]bool{}
			}
			removed[name] = true
		}
	}
	return removed
}

// Utilization is the largest share of its connections that a tenant has used on this node.
func (a *Admission) Utilization() (most float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, count := range a.connections {
		if t := a.tenants.ByName(name); t != nil && t.Limits.Connections > 0 {
			most = max(most, float64(count)/float64(t.Limits.Connections))
		}
	}
	return most
}
