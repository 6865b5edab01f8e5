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
