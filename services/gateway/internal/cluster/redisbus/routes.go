package redisbus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 1 << 14

// routes are the masters of a cluster and which of them serves each slot.
type routes struct {
	masters []string // addresses
	bySlot  [slots]uint8
}

// masterOf returns the index of the master that serves a channel.
func (r *routes) masterOf(channel string) int { return int(r.bySlot[slot(channel)]) }

// equal reports whether the same masters serve the same slots, in whatever order they are listed.
func (r *routes) equal(other *routes) bool {
	for i := range slots {
		if r.masters[r.bySlot[i]] != other.masters[other.bySlot[i]] {
			return false
		}
	}
	return true
}

// slot returns the hash slot of a channel: the hash of what stands between the first opening brace and the next closing one, if
// that is not empty, else of the whole name (Redis cluster specification, "Hash tags").
func slot(channel string) uint16 {
	if open := strings.IndexByte(channel, '{'); open >= 0 {
		if length := strings.IndexByte(channel[open+1:], '}'); length > 0 {
			channel = channel[open+1 : open+1+length]
		}
	}
	var crc uint16
	for i := range len(channel) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^channel[i]]
	}
	return crc % slots
}

// crcTable has the remainders of CRC-16/XMODEM, polynomial 0x1021, by which Redis Cluster hashes.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// findRoutes asks the servers that are known, one after another, for the routes, until one answers.
func (b *Bus) findRoutes(ctx context.Context) (*routes, error) {
	var problems []error
	for _, addr := range slices.Concat(b.servers, b.masters) { // those of the settings may all have been replaced since
		r, err := b.askRoutes(ctx, addr)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", addr, err))
			continue
		}
		b.masters = r.masters
		return r, nil
	}
	return nil, errors.Join(problems...)
}

// askRoutes asks the server at addr for the routes, with a client of its own.
func (b *Bus) askRoutes(ctx context.Context, addr string) (*routes, error) {
	client, err := b.openServer(addr)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return readRoutes(ctx, client, addr)
}

// readRoutes asks the server at addr. Its answer is used only while it is in contact with most of the cluster.
func readRoutes(ctx context.Context, client *redis.Client, addr string) (*routes, error) {
	state, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(state, "cluster_state:ok") {
		return nil, errors.New("the cluster is down as this server sees it")
	}
	shards, err := client.ClusterShards(ctx).Result()
	if err != nil {
		return nil, err
	}
	return newRoutes(shards, addr, client.Options().TLSConfig != nil)
}

// newRoutes reads the routes out of the answer of the server at addr. Where the answer names no host, addr's is meant.
func newRoutes(shards []redis.ClusterShard, addr string, secure bool) (*routes, error) {
	r, covered := &routes{}, 0
	for _, shard := range shards {
		if len(shard.Slots) == 0 {
			continue
		}
		n := slices.IndexFunc(shard.Nodes, func(node redis.Node) bool { return node.Role == "master" && node.Health == "online" })
		if n < 0 {
			return nil, fmt.Errorf("slots %d to %d have no master that is well", shard.Slots[0].Start, shard.Slots[0].End)
		}
		if len(r.masters) > math.MaxUint8 {
			return nil, fmt.Errorf("the cluster has more than %d masters; more are not supported", math.MaxUint8+1)
		}
		for _, part := range shard.Slots {
			if part.Start < 0 || part.End < part.Start || part.End >= slots {
				return nil, fmt.Errorf("there are no slots %d to %d", part.Start, part.End)
			}
			for i := part.Start; i <= part.End; i++ {
				r.bySlot[i] = uint8(len(r.masters))
			}
			covered += int(part.End - part.Start + 1)
		}
		r.masters = append(r.masters, address(shard.Nodes[n], addr, secure))
	}
	if covered != slots {
		return nil, fmt.Errorf("the cluster serves %d of %d slots", covered, slots)
	}
	return r, nil
}

// address returns where a node is, as the server at addr says it.
func address(node redis.Node, addr string, secure bool) string {
	host, port := node.Endpoint, node.Port
	if host == "" || host == "?" {
		host = node.IP
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(addr)
	}
	if secure && node.TLSPort > 0 {
		port = node.TLSPort
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// openServer returns a client of one server of the cluster.
func (b *Bus) openServer(addr string) (*redis.Client, error) {
	client, err := redisconn.OpenServer(b.config, addr)
	if err != nil {
		return nil, err
	}
	client.AddHook(dialHook{})
	return client, nil
}
