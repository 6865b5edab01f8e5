package orphans

import (
	"slices"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestLinksOfADeadNodeEnd: what a vanished node has subscribed to at Redis ends with its lease, and only that.
func TestLinksOfADeadNodeEnd(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	subscribe := func(node string) {
		client, err := redisconn.Open(redisconn.Config{URL: server.URL, Prefix: "test", Name: redisconn.NodeName("test", node)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		links := client.Subscribe(t.Context(), "test:"+node) // nobody reads it, so that it is not made again
		t.Cleanup(func() { _ = links.Close() })
		if _, err := links.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	subscribe("dead")
	subscribe("alive")
	l := idle(t, server.URL, "a")
	l.leave(t, "dead", "conn", 1)
	l.leave(t, "alive", "other", float64(time.Now().Add(time.Hour).UnixMilli()))
	l.steadySince(time.Now().Add(-3 * time.Hour))
	if err := l.claimOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		n, err := l.client.PubSubNumSub(t.Context(), "test:dead", "test:alive").Result()
		return err == nil && n["test:dead"] == 0 && n["test:alive"] == 1
	}, "the dead node's subscription is over, the other's is not")
}

func TestNamedID(t *testing.T) {
	const name = "chatr:node:AbC-_123"
	for line, want := range map[string]string{
		"id=7 addr=127.0.0.1:1 laddr=127.0.0.1:2 fd=8 name=chatr:node:AbC-_123 age=1\n": "7",
		"id=7 addr=127.0.0.1:1 fd=8 name= age=1\n":                                      "",
		"id=7 addr=127.0.0.1:1 fd=8 name=chatr:node:AbC-_1234 age=1\n":                  "",
		"name=chatr:node:AbC-_123\n":                                                    "",
		"":                                                                              "",
	} {
		id, ok := namedID(line, name)
		if ok != (want != "") || ok && id != want {
			t.Errorf("%q: got %q %v, want %q", line, id, ok, want)
		}
	}
}

func TestUnresponsive(t *testing.T) {
	t.Parallel()
	l := idle(t, testkit.Redis(t).URL, "a") // its lease is an hour
	o := &Orphans{list: l}
	left := func(d time.Duration) float64 { return float64(time.Now().Add(d).UnixMilli()) }
	l.leave(t, "dead", "1", 1)
	l.leave(t, "late", "2", left(30*time.Minute))
	l.leave(t, "well", "3", left(45*time.Minute))
	if nodes, err := o.Unresponsive(t.Context()); !slices.Equal(nodes, []string{"dead", "late"}) || err != nil {
		t.Errorf("got unresponsive nodes %q, %v; want dead and late", nodes, err)
	}
	if nodes, err := (&Orphans{}).Unresponsive(t.Context()); len(nodes) > 0 || err != nil {
		t.Errorf("without Redis: got unresponsive nodes %q, %v; want none", nodes, err)
	}
}

// TestAllLearnWhoIsDead: a node that looks only after another one has claimed everything ends the dead node's connections too, and
// until that is done it counts as one that may be subscribed. A node that lives after all is none of those.
func TestAllLearnWhoIsDead(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a, b := idle(t, server.URL, "a"), idle(t, server.URL, "b")
	for _, l := range []*list{a, b} {
		l.steadySince(time.Now().Add(-3 * time.Hour))
	}
	a.leave(t, "dead", "conn", 1)
	mustDo(t, a.claimOnce)
	if len(a.orphans) != 1 || a.client.ZScore(t.Context(), a.key("leases"), "dead").Err() == nil {
		t.Fatalf("got %d claimed and the lease still there, want all claimed and the lease ended", len(a.orphans))
	}
	if err := b.client.Do(t.Context(), "ACL", "SETUSER", "default", "-client|list").Err(); err != nil {
		t.Fatal(err)
	}
	wantUnended := func(when string, want ...string) {
		t.Helper()
		mustDo(t, b.claimOnce)
		if got := b.links.unended(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q unended, want %q", when, got, want)
		}
	}
	wantUnended("while Redis lets nobody end connections", "dead")
	b.leave(t, "dead", "another", float64(time.Now().Add(time.Hour).UnixMilli()))
	wantUnended("when the node lives after all")
	b.leave(t, "dead", "another", 1)
	wantUnended("when it is dead again", "dead")
	if err := b.client.Do(t.Context(), "ACL", "SETUSER", "default", "+client|list").Err(); err != nil {
		t.Fatal(err)
	}
	wantUnended("when Redis lets us end them")
}
