package orphans

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// write brings out what has changed about the node's connections, or all of them if what Redis has may differ: own is what
// is to be held of each. It returns the connections whose ends others have reported, also beside an error; refresh waits
// until those are dealt with and endWrite says so.
func (l *list) write(ctx context.Context, changes map[string][]byte, own iter.Seq2[string, []byte]) (ended []string, err error) {
	l.mu.Lock()
	for id := range changes {
		delete(l.claimed, id) // it is the node's own, or over
	}
	all, robbed := l.rewrite && !l.claiming, l.robbed
	if all {
		l.rewrite, l.robbed, l.rewriting = false, false, true
	}
	mine := maps.Clone(l.claimed)
	reporting := l.reporting
	l.reporting = map[string][]any{}
	l.mu.Unlock()
	err = l.writeReports(ctx, reporting)
	switch {
	case err != nil:
	case all:
		ended, err = l.writeAll(ctx, mine, own, robbed)
	default:
		return nil, l.apply(ctx, changes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.rewrite = true
		l.robbed = l.robbed || robbed
		for node, ids := range reporting {
			l.reporting[node] = append(l.reporting[node], ids...)
		}
	}
	return ended, err
}

// endWrite says that write, and what was to be done about what it has returned, is over.
func (l *list) endWrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rewriting = false
}

// writeReports brings out whose ends are reported for nodes that are or seem dead.
func (l *list) writeReports(ctx context.Context, reporting map[string][]any) error {
	if len(reporting) == 0 {
		return nil
	}
	_, err := l.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for node, ids := range reporting {
			for part := range slices.Chunk(ids, batch) {
				pipe.SAdd(ctx, l.key("told:"+node), part...)
			}
			pipe.Expire(ctx, l.key("told:"+node), time.Hour)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write whose end is reported: %w", err)
	}
	return nil
}

// writeAll makes the list in Redis what it should be: own, and mine, which is claimed. Others may have claimed
// connections if the node was robbed; those whose ends they have reported are returned, and not in the list any more.
func (l *list) writeAll(ctx context.Context, mine map[string][]byte, own iter.Seq2[string, []byte],
	robbed bool) (ended []string, err error) {
	for id, entry := range own {
		mine[id] = entry
	}
	listed, err := l.client.HKeys(ctx, l.held(l.node)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	if robbed {
		reported, err := l.client.SMembers(ctx, l.key("told:"+l.node)).Result()
		if err != nil {
			return nil, fmt.Errorf("read whose end is reported: %w", err)
		}
		for _, id := range reported {
			if _, ok := mine[id]; ok {
				delete(mine, id)
				ended = append(ended, id)
			}
		}
	}
	for _, id := range listed {
		if _, ok := mine[id]; !ok {
			mine[id] = nil
		}
	}
	return ended, l.apply(ctx, mine)
}

func (l *list) apply(ctx context.Context, changes map[string][]byte) error {
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var set []any
	var del []string
	for id, entry := range changes {
		if entry == nil {
			del = append(del, id)
		} else {
			set = append(set, id, entry)
		}
	}
	key := l.held(l.node)
	_, err := l.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for part := range slices.Chunk(set, 2*batch) {
			pipe.HSet(ctx, key, part...)
		}
		for part := range slices.Chunk(del, batch) {
			pipe.HDel(ctx, key, part...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}
