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
	shard := func(host string, port, tlsPort int64, slots ...redis.SlotRange) redis.ClusterShard {
		return redis.ClusterShard{Slots: slots, Nodes: []redis.Node{
			{Endpoint: "replica", Port: 1, Role: "replica", Health: "online"},
			{Endpoint: host, Port: port, TLSPort: tlsPort, Role: "master", Health: "online"},
		}}
	}
	part := func(start, end int64) redis.SlotRange { return redis.SlotRange{Start: start, End: end} }
	failed := shard("b", 2, 0, part(100, 16383))
	failed.Nodes[1].Health = "fail"
	for _, test := range []struct {
		name    string
		shards  []redis.ClusterShard
		secure  bool
		masters string
		fails   string
	}{
		{"three parts of two masters", []redis.ClusterShard{shard("a", 1, 0, part(0, 99), part(201, 16383)), shard("b", 2, 0, part(100, 200))}, false, "a:1 b:2", ""},
		{"no host: the one that was asked", []redis.ClusterShard{shard("", 7, 0, part(0, 16383))}, false, "asked:7", ""},
		{"unknown host: the one that was asked", []redis.ClusterShard{shard("?", 7, 0, part(0, 16383))}, false, "asked:7", ""},
		{"unknown name: its address", []redis.ClusterShard{{Slots: []redis.SlotRange{part(0, 16383)}, Nodes: []redis.Node{{Endpoint: "?", IP: "10.0.0.9", Port: 7, Role: "master", Health: "online"}}}}, false, "10.0.0.9:7", ""},
		{"IPv6", []redis.ClusterShard{shard("::1", 7, 0, part(0, 16383))}, false, "[::1]:7", ""},
		{"TLS", []redis.ClusterShard{shard("a", 7, 8, part(0, 16383))}, true, "a:8", ""},
		{"both ports, no TLS", []redis.ClusterShard{shard("a", 7, 8, part(0, 16383))}, false, "a:7", ""},
		{"a master without slots", []redis.ClusterShard{shard("new", 1, 0), shard("a", 1, 0, part(0, 16383))}, false, "a:1", ""},
		{"slots that nobody has", []redis.ClusterShard{shard("a", 1, 0, part(0, 16382))}, false, "", "16383 of 16384 slots"},
		{"nothing", nil, false, "", "0 of 16384 slots"},
		{"a master that has failed", []redis.ClusterShard{shard("a", 1, 0, part(0, 99)), failed}, false, "", "slots 100 to 16383 have no master that is well"},
		{"a shard without servers", []redis.ClusterShard{{Slots: []redis.SlotRange{part(0, 16383)}}}, false, "", "no master"},
		{"a slot beyond the last", []redis.ClusterShard{shard("a", 1, 0, part(0, 16384))}, false, "", "no slots 0 to 16384"},
		{"more masters than there can be", make257(shard, part), false, "", "more than 256 masters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := newRoutes(test.shards, "asked:1", test.secure)
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

func make257(shard func(string, int64, int64, ...redis.SlotRange) redis.ClusterShard, part func(start, end int64) redis.SlotRange) (shards []redis.ClusterShard) {
	for i := range int64(257) {
		shards = append(shards, shard("a", i, 0, part(i, i)))
	}
	return shards
}
