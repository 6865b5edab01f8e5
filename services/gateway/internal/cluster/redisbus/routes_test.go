package redisbus

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// Redis is the judge of which slot a channel has.
func TestSlot(t *testing.T) {
	server := testkit.Redis(t, "--cluster-enabled", "yes", "--cluster-port", "0")
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	for _, channel := range []string{
		"", "123456789", "chatr:group/7/default/chat/room", "a{b}c", "{}a", "{}{a}", "a{}b{c}", "a{b", "a}b{c}", "{a}", "{{a}}", "a{b}{c}",
		"\x00\xff{\xfe}", "größe{ü}", strings.Repeat("x", 10_000),
	} {
		want, err := client.ClusterKeySlot(t.Context(), channel).Result()
		if err != nil {
			t.Fatal(err)
		}
		if got := slot(channel); int64(got) != want {
			t.Errorf("slot(%.20q) = %d, want %d", channel, got, want)
		}
	}
}

func TestNewRoutes(t *testing.T) {
	node := func(addr string) []redis.ClusterNode { return []redis.ClusterNode{{Addr: addr}, {Addr: "replica:1"}} }
	for _, test := range []struct {
		name    string
		ranges  []redis.ClusterSlot
		masters string
		fails   string
	}{
		{"three parts of two masters", []redis.ClusterSlot{{Start: 0, End: 99, Nodes: node("a:1")}, {Start: 100, End: 200, Nodes: node("b:2")}, {Start: 201, End: 16383, Nodes: node("a:1")}}, "a:1 b:2", ""},
		{"no host: the one that was asked", []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: node(":7")}}, "asked:7", ""},
		{"unknown host: the one that was asked", []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: node("?:7")}}, "asked:7", ""},
		{"IPv6", []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: node("[::1]:7")}}, "[::1]:7", ""},
		{"slots without a master", []redis.ClusterSlot{{Start: 0, End: 16382, Nodes: node("a:1")}}, "", "16383 of 16384 slots"},
		{"nothing", nil, "", "0 of 16384 slots"},
		{"a part without servers", []redis.ClusterSlot{{Start: 0, End: 16383}}, "", "have no master"},
		{"a slot beyond the last", []redis.ClusterSlot{{Start: 0, End: 16384, Nodes: node("a:1")}}, "", "have no master"},
		{"no port", []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: node("a")}}, "", "missing port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := newRoutes(test.ranges, "asked:1")
			switch {
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("got %v, want an error with %q", err, test.fails)
			case test.fails == "" && err != nil:
				t.Error(err)
			case test.fails == "" && strings.Join(r.masters, " ") != test.masters:
				t.Errorf("masters %q, want %q", r.masters, test.masters)
			}
		})
	}
}
