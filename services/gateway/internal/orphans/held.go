package orphans

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// write brings out what has changed about the node's connections, or all of them if what Redis has may differ: own yields those whose
// ends this node is to report, with what is to be held of each. It returns the connections that others have claimed, also beside an
// error; refresh waits until those are dealt with and endWrite says so.
func (l *list) write(ctx context.Context, changes map[string][]byte, own iter.Seq2[string, []byte]) (taken []string, err error) {
	l.mu.Lock()
	for id := range changes {
		delete(l.orphansHeld, id) // it is the node's own, or over
		delete(l.unsure, id)
	}
	writesAll := l.mustRewrite && !l.claimRunning
	if writesAll {
		l.mustRewrite, l.rewriteRunning = false, true
	}
	claimed, unsure := maps.Clone(l.orphansHeld), maps.Clone(l.unsure)
	l.mu.Unlock()
	var found []Orphan
	if writesAll {
		taken, found, err = l.writeAll(ctx, claimed, own, unsure)
	} else {
		taken, err = l.apply(ctx, changes) // should it fail, every has all written again
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range taken {
		delete(l.orphansHeld, id)
	}
	l.taken.Add(float64(len(taken)))
	if err != nil {
		l.mustRewrite = true
		return taken, err
	}
	for _, o := range found {
		l.orphansHeld[o.ConnID] = o.Entry
	}
	l.found = append(l.found, found...)
	if writesAll {
		clear(l.unsure) // what is not in the list has not been claimed
	}
	return taken, nil
}

// endWrite says that write, and what was to be done about what it has returned, is over.
func (l *list) endWrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rewriteRunning = false
}

// holds reports whether an orphan is still this node's.
func (l *list) holds(o Orphan) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.orphansHeld[o.ConnID]
	return ok
}

// writeAll makes the list in Redis what it should be: the node's own connections, and the claimed orphans, a map that it may change. It
// returns those that others have claimed, which are not in the list any more. What is unsure and in the list has been claimed: it stays
// there, and is returned as found.
func (l *list) writeAll(ctx context.Context, claimed map[string][]byte, own iter.Seq2[string, []byte],
	unsure map[string]Orphan) (taken []string, found []Orphan, err error) {
	want := claimed
	for id, entry := range own {
		want[id] = entry
	}
	listed, err := l.client.HKeys(ctx, l.heldKey(l.node)).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read the list: %w", err)
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
	taken, err = l.apply(ctx, want)
	return taken, found, err
}

// apply writes changes, nil for what is to be removed, and returns those that others have claimed.
func (l *list) apply(ctx context.Context, changes map[string][]byte) (taken []string, err error) {
	if len(changes) == 0 {
		return nil, nil
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
	keys := []string{l.key("leases"), l.heldKey(l.node), l.key("told:" + l.node)}
	for part := range slices.Chunk(set, 2*batch) {
		some, err := hold.Run(ctx, l.client, keys, append([]any{l.node}, part...)...).StringSlice()
		if err != nil {
			l.askRenewal() // it may be for want of a lease
			return taken, fmt.Errorf("write the list: %w", err)
		}
		taken = append(taken, some...)
	}
	for part := range slices.Chunk(del, batch) {
		if err := l.client.HDel(ctx, l.heldKey(l.node), part...).Err(); err != nil {
			return taken, fmt.Errorf("write the list: %w", err)
		}
	}
	return taken, nil
}

// heldElsewhere reports whether a connection is in the list of another node than those given, as when it has moved there.
func (l *list) heldElsewhere(ctx context.Context, connID string, but ...string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	nodes, err := l.client.ZRange(ctx, l.key("leases"), 0, -1).Result()
	for _, node := range nodes {
		if slices.Contains(but, node) {
			continue
		}
		if held, err := l.client.HExists(ctx, l.heldKey(node), connID).Result(); held || err != nil {
			return held, err
		}
	}
	return false, err
}

// giveBack says that a claimed connection lives, on another node than the one it was claimed from, to which it may come back.
func (l *list) giveBack(ctx context.Context, o Orphan) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return l.client.SRem(ctx, l.key("told:"+o.Node), o.ConnID).Err()
}
