package system_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestRedisAway takes Redis away from two gateways, once by stopping it and once by hanging it, and gives it back.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	for _, outage := range []struct {
		name       string
		begin, end func(*testkit.RedisServer)
	}{
		{"stopped", (*testkit.RedisServer).Stop, (*testkit.RedisServer).Start},
		{"hung", (*testkit.RedisServer).Pause, (*testkit.RedisServer).Resume},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			loseRedis(t, outage.begin, outage.end)
		})
	}
}

func loseRedis(t *testing.T, begin, end func(*testkit.RedisServer)) {
	top := topology.Services(t, topology.Options{Env: []string{"CHATR_GATEWAY_UPSTREAM_EVENT_TIMEOUT=3s"}})
	ada, bob := come(t, top.A, "Ada", reliable), come(t, top.B, "Bob", reliable)
	carol, dave := come(t, top.A, "Carol", plain), come(t, top.B, "Dave", plain)
	eve := come(t, top.B, "Eve", plain)
	tea := uuid(1)
	ada.do("createChat", object{"id": tea, "name": "Tea"})
	for _, p := range []*person{bob, carol, dave} {
		p.do("joinChat", tea)
	}
	said := []string{"before"}
	if err := ada.say(tea, "before"); err != nil {
		t.Fatal(err)
	}
	dave.await("what is said before", line("before"))

	begin(top.Redis)
	began := time.Now()
	for _, p := range []*person{ada, carol, dave} {
		if err := p.say(tea, "into the void "+p.name); !isNack(err) {
			t.Errorf("%s says something while Redis is away: got %v, want a nack", p.name, err)
		}
	}
	t.Logf("sends are nacked after %v at most", time.Since(began))
	for _, g := range top.Gateways {
		testkit.Eventually(t, patience, func() bool { return strings.HasPrefix(g.Ready(), "503 ") && strings.Contains(g.Ready(), "bus") }, g.Name+" says that its bus is away")
	}
	if reason := top.Events.Ready(); !strings.Contains(reason, "message log") {
		t.Errorf("readiness of the events service: got %q, want that the message log is away", reason)
	}
	t.Logf("gateway 1: %s", top.Gateways[0].Ready())
	eve.conn.Drop()
	for _, p := range []*person{ada, bob, carol, dave} {
		if err := p.conn.Ping(t.Context()); err != nil {
			t.Errorf("the socket of %s does not stay: %v", p.name, err)
		}
	}

	end(top.Redis)
	back := time.Now()
	for _, p := range []*person{ada, bob} { // reliable: they may have missed something and must know
		closed, err := p.conn.Wait(t.Context())
		if err != nil || closed.Code != 1008 {
			t.Errorf("the reliable connection of %s: got %v %v, want an end with 1008", p.name, closed, err)
		}
	}
	for _, g := range top.Gateways {
		testkit.Eventually(t, patience, func() bool { return g.Ready() == "" }, g.Name+" is ready again")
	}
	t.Logf("ready again after %v", time.Since(back))
	frank := signIn(t, top.B, "Frank")
	for _, p := range []*person{ada, bob, frank} {
		p.open(reliable)
	}
	frank.do("joinChat", tea)
	for _, p := range []*person{ada, bob, carol, dave, frank} {
		text := "after, " + p.name
		if err := p.say(tea, text); err != nil {
			t.Errorf("%s says something afterwards: %v", p.name, err)
		}
		said = append(said, text)
		for _, other := range []*person{ada, bob, carol, dave, frank} {
			other.await(fmt.Sprintf("%s hears %q", other.name, text), line(text))
		}
	}
	carol.awaitFor(presenceTime-time.Since(back), "Eve is gone", is("userOffline", eve.id))
	t.Logf("presence right after %v", time.Since(back))
	if told := carol.all(named("userOffline")); len(told) != 1 {
		t.Errorf("who is there is said to be gone: %+v", told)
	}
	ada.keeps(tea, said)
	for _, p := range []*person{carol, dave} {
		if p.closed() {
			t.Errorf("the socket of %s did not stay", p.name)
		}
	}
	if _, users := ada.call("GET", "/api/users", nil); !slices.Equal(ids(users), sorted(ada.id, bob.id, carol.id, dave.id, frank.id)) {
		t.Errorf("people online: got %v, want all but Eve", users)
	}
}

// ids are the ids of an answer of /api/users.
func ids(answer object) (list []string) {
	users, _ := answer["users"].(object)
	for id := range users {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

func sorted(list ...string) []string {
	slices.Sort(list)
	return list
}
