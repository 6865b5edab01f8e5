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

// write brings out what has changed about the node's connections, or all of them if what Redis has may differ: live yields
// those that are here, with what is to be held of each. It returns the connections whose ends others have reported, also
// beside an error; refresh waits until those are dealt with and endWrite says so.
func (l *list) write(ctx context.Context, changes map[string][]byte, live iter.Seq2[string, []byte]) (ended []string, err error) {
	l.mu.Lock()
	for id := range changes {
		delete(l.orphansHeld, id) // it is the node's own, or over
		delete(l.unsure, id)
	}
	writesAll, othersClaimed := l.mustRewrite && !l.claimRunning, l.othersClaimed
	if writesAll {
		l.mustRewrite, l.othersClaimed, l.rewriteRunning = false, false, true
	}
	claimed, unsure := maps.Clone(l.orphansHeld), maps.Clone(l.unsure)
	reporting := l.reporting
	l.reporting = map[string][]any{}
	l.mu.Unlock()
	var found []Orphan
	err = l.writeReports(ctx, reporting)
	switch {
	case err != nil:
	case writesAll:
		ended, found, err = l.writeAll(ctx, claimed, live, unsure, othersClaimed)
	default:
		return nil, l.apply(ctx, changes) // the reports are out; should the changes fail, every has all written again
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.mustRewrite = true
		l.othersClaimed = l.othersClaimed || othersClaimed
		for node, ids := range reporting {
			l.reporting[node] = append(l.reporting[node], ids...)
		}
		return ended, err
	}
	for _, o := range found {
		l.orphansHeld[o.ConnID] = o.Entry
	}
	l.found = append(l.found, found...)
	clear(l.unsure) // what is not in the list has not been claimed
	return ended, nil
}

// endWrite says that write, and what was to be done about what it has returned, is over.
func (l *list) endWrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rewriteRunning = false
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

// writeAll makes the list in Redis what it should be: the live connections, and the claimed orphans, a map that it may change. If others
// may have claimed connections of this node, those whose ends they have reported are returned as ended, and not in the list any more.
// What is unsure and in the list has been claimed: it stays there, and is returned as found.
func (l *list) writeAll(ctx context.Context, claimed map[string][]byte, live iter.Seq2[string, []byte],
	unsure map[string]Orphan, othersClaimed bool) (ended []string, found []Orphan, err error) {
	want := claimed
	for id, entry := range live {
		want[id] = entry
	}
	listed, err := l.client.HKeys(ctx, l.heldKey(l.node)).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read the list: %w", err)
	}
	if othersClaimed {
		reported, err := l.client.SMembers(ctx, l.key("told:"+l.node)).Result()
		if err != nil {
			return nil, nil, fmt.Errorf("read whose end is reported: %w", err)
		}
		for _, id := range reported {
			if _, ok := want[id]; ok {
				delete(want, id)
				ended = append(ended, id)
			}
		}
	}
	for _, id := range listed {
		if _, ok := want[id]; ok {
			continue
		}
		orphan, ok := unsure[id]
		if ok {
			found = append(found, orphan)
		}
		want[id] = orphan.Entry // nil, so that it is removed, unless it has been claimed
	}
	return ended, found, l.apply(ctx, want)
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
	key := l.heldKey(l.node)
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
