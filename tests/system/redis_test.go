package system_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/people"
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
	ada, bob := people.Come(t, top.A, "Ada", people.Reliable), people.Come(t, top.B, "Bob", people.Reliable)
	carol, dave := people.Come(t, top.A, "Carol", people.Plain), people.Come(t, top.B, "Dave", people.Plain)
	eve := people.Come(t, top.B, "Eve", people.Plain)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	for _, p := range []*people.Person{bob, carol, dave} {
		p.Do("joinChat", tea)
	}
	said := []string{"before"}
	if err := ada.Say(tea, "before"); err != nil {
		t.Fatal(err)
	}
	dave.Await("what is said before", people.Line("before"))

	begin(top.Redis)
	began := time.Now()
	var kept []string // by the events service, which the gateways ask as long as they do not know that Redis hangs
	for _, p := range []*people.Person{ada, carol, dave} {
		text := "into the void " + p.Name
		if err := p.Say(tea, text); err == nil {
			kept = append(kept, text)
		} else if !people.IsNack(err) {
			t.Errorf("%s says something while Redis is away: got %v, want an ack or a nack", p.Name, err)
		}
	}
	t.Logf("sends are answered after %v at most; acked: %q", time.Since(began), kept)
	for _, g := range top.Gateways {
		testkit.Eventually(t, people.Patience, func() bool { return strings.HasPrefix(g.Ready(), "503 ") && strings.Contains(g.Ready(), "bus") }, g.Name+" says that its bus is away")
	}
	if reason := top.Events.Ready(); !strings.Contains(reason, "message log") {
		t.Errorf("readiness of the events service: got %q, want that the message log is away", reason)
	}
	t.Logf("gateway 1: %s", top.Gateways[0].Ready())
	eve.Conn.Drop()
	for _, p := range []*people.Person{ada, bob, carol, dave} {
		if err := p.Conn.Ping(t.Context()); err != nil {
			t.Errorf("the socket of %s does not stay: %v", p.Name, err)
		}
	}

	end(top.Redis)
	back := time.Now()
	for _, g := range top.Gateways {
		testkit.Eventually(t, people.Patience, func() bool { return g.Ready() == "" }, g.Name+" is ready again")
	}
	t.Logf("ready again after %v", time.Since(back))
	for _, p := range []*people.Person{ada, bob, carol, dave} { // what was missed is read up, so that nobody has to begin anew
		if err := p.Conn.Ping(t.Context()); err != nil {
			t.Errorf("ping of %s after the outage: %v", p.Name, err)
		}
	}
	for _, text := range kept { // an ack means that it is kept, and told when that is possible
		for _, p := range []*people.Person{ada, bob, carol, dave} {
			p.Await(fmt.Sprintf("%s hears %q", p.Name, text), people.Line(text))
		}
	}
	said = append(said, kept...)
	frank := people.SignIn(t, top.B, "Frank")
	frank.Open(people.Reliable)
	frank.Do("joinChat", tea)
	for _, p := range []*people.Person{ada, bob, carol, dave, frank} {
		text := "after, " + p.Name
		if err := p.Say(tea, text); err != nil {
			t.Errorf("%s says something afterwards: %v", p.Name, err)
		}
		said = append(said, text)
		for _, other := range []*people.Person{ada, bob, carol, dave, frank} {
			other.Await(fmt.Sprintf("%s hears %q", other.Name, text), people.Line(text))
		}
	}
	carol.AwaitFor(presenceTime-time.Since(back), "Eve is gone", people.Is("userOffline", eve.ID))
	t.Logf("presence right after %v", time.Since(back))
	if told := carol.All(people.Named("userOffline")); len(told) != 1 {
		t.Errorf("a person who is there is reported as gone: %+v", told)
	}
	ada.Keeps(tea, said)
	for _, p := range []*people.Person{carol, dave} {
		if p.Closed() {
			t.Errorf("the socket of %s did not stay", p.Name)
		}
	}
	if _, users := ada.Call("GET", "/api/users", nil); !slices.Equal(ids(users), sorted(ada.ID, bob.ID, carol.ID, dave.ID, frank.ID)) {
		t.Errorf("people online: got %v, want all but Eve", users)
	}
}

// ids are the ids of an answer of /api/users.
func ids(answer people.Object) (list []string) {
	users, _ := answer["users"].(people.Object)
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
