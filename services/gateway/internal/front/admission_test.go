package front

import (
	"testing"

	"github.com/chatr-dev/chatr/pkg/tenant"
)

// TestAdmissionCountsInAndOut fills each bound, and finds nobody counted after all have left.
func TestAdmissionCountsInAndOut(t *testing.T) {
	limited := tenant.Tenant{Name: "limited", Hosts: []string{"*"}, Limits: tenant.Limits{Connections: 4}}
	limited.Keys.Primary = "a key of thirty-two bytes or more."
	tenants, err := tenant.NewStatic(limited)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAdmission(tenants, 4, 1000)
	count := func(what string, want int, add func() bool) {
		t.Helper()
		n := 0
		for n <= want && add() {
			n++
		}
		if n != want {
			t.Errorf("got room for %d %s, want %d", n, what, want)
		}
	}
	count("handshakes of a tenant", 3, func() bool { return a.beginConnecting("limited") })
	if !a.beginConnecting("other") {
		t.Error("got no room for another tenant's handshake")
	}
	count("connections", 4, func() bool { return a.addConnection(tenants.ByName("limited")) })
	a.addTakenOver("limited") // it was let in elsewhere
	if got := a.Utilization(); got != 1.25 {
		t.Errorf("got a utilization of %v, want 1.25", got)
	}
	a.addTakenOver("gone")
	if removed := a.Removed(); len(removed) != 1 || !removed["gone"] {
		t.Errorf("got %v removed, want the tenant without settings", removed)
	}
	for range 5 {
		a.RemoveConnection("limited")
	}
	a.RemoveConnection("gone")
	for range 3 {
		a.endConnecting("limited")
	}
	if a.Idle() {
		t.Error("got that nobody is counted during a handshake")
	}
	a.endConnecting("other")
	if n := a.Connections(); n != 0 || !a.Idle() {
		t.Errorf("got %d connections and idle %v after all have left, want 0 and true", n, a.Idle())
	}

	count("handshakes", 4, a.beginHandshake)
	if n := a.Handshakes(); n != 5 {
		t.Errorf("got %d handshakes under way, want 5: also one without room is", n)
	}
	for range 5 {
		a.endHandshake()
	}
	if n, begun := a.Handshakes(), a.Begun(); n != 0 || begun != 5 {
		t.Errorf("got %d handshakes under way of %d, want 0 of 5", n, begun)
	}
}
