package facts

import (
	"maps"
	"slices"
	"sort"
	"time"
)

// presence looks for connections that were called offline and went on.
func (j *judge) presence(list []Fact) {
	off := map[string]bool{}
	current := map[string]*conn{} // by client
	for _, f := range list {
		switch f.Kind {
		case Opened:
			current[f.Client] = j.conns[f.Conn]
		case Asked:
			c := current[f.Client]
			if f.Yes || c == nil || c.opened > f.Since || !c.kept(f.Since, f.At) || c.lastAlive(never) <= f.At+j.limits.Linger || off[c.id] {
				continue
			}
			off[c.id] = true
			j.example("false offline", "%s, asked at %v of %s", c, round(f.Since), f.Node)
		case Told:
			c := j.conns[f.Conn]
			if len(c.sockets) == 0 || c.lastAlive(never) <= f.At+j.limits.Linger || off[c.id] {
				continue
			}
			off[c.id] = true
			j.example("false offline", "%s, disconnected told at %v, last alive at %v", c, round(f.At), round(c.lastAlive(never)))
		}
	}
	j.v.FalseOff = len(off)
}

// few is how little says nothing about a node.
const few = 5

// readiness compares what nodes say with what they do. A node cannot do its work when the test has broken it, when of what was
// sent to it nothing is acked, or when its connections hear nothing of what they should.
func (j *judge) readiness(list []Fact) {
	type work struct{ sent, acked []time.Duration }
	nodes := map[string]*work{}
	for _, m := range j.ordered {
		if m.group == "" || m.node == "" {
			continue
		}
		w := nodes[m.node]
		if w == nil {
			w = &work{}
			nodes[m.node] = w
		}
		w.sent = append(w.sent, m.sent)
		if m.acked {
			w.acked = append(w.acked, m.answered)
		}
	}
	for _, w := range nodes {
		slices.Sort(w.sent)
		slices.Sort(w.acked)
	}
	for _, times := range j.dueAt {
		slices.Sort(times)
	}
	broken := map[string]time.Duration{}
	last := map[string]Fact{}
	since := map[string]time.Duration{} // ready without a break
	for _, f := range list {
		switch f.Kind {
		case Broken:
			broken[f.Node] = f.At
		case Mended:
			delete(broken, f.Node)
		case Ready:
			if before, known := last[f.Node]; f.Yes && (!known || !before.Yes) {
				since[f.Node] = f.At
			}
			last[f.Node] = f
			if !f.Yes {
				continue
			}
			at, isBroken := broken[f.Node]
			// What was sent in the window but for its last second should have been answered, and heard, in it.
			from, until := f.At-j.limits.Notice-time.Second, f.At-time.Second
			w := nodes[f.Node]
			switch {
			case isBroken && f.At-at > j.limits.Notice:
				j.lie(f, "it cannot do its work")
			case since[f.Node] > from: // what is old happened when it was not ready
			case w != nil && count(w.sent, from, until) >= few && count(w.acked, from, f.At) == 0:
				j.lie(f, "it acks nothing")
			case count(j.dueAt[f.Node], from, until) >= few && count(j.heardAt[f.Node], from, f.At) == 0:
				j.lie(f, "its connections hear nothing")
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(last)) {
		if f := last[node]; !f.Yes {
			j.v.Unready = append(j.v.Unready, node)
			j.example("not ready in the end", "%s: %s", node, f.Reason)
		}
	}
}

func (j *judge) lie(f Fact, why string) {
	j.v.ReadyLies++
	j.example("ready", "%s at %v, although %s", f.Node, round(f.At), why)
}

// lists looks for answers that waited for a node which had stopped long before.
func (j *judge) lists(list []Fact) {
	for _, f := range list {
		if f.Kind != Listed || f.Yes {
			continue
		}
		for node, spans := range j.stopped {
			if node == f.Node || !slices.ContainsFunc(spans, func(s span) bool { return f.Since-s.from > j.limits.Told && f.At < s.until }) {
				continue
			}
			j.v.ListsRefused++
			j.example("list", "%s asked at %v, while %s had stopped: %s", f.Node, round(f.Since), node, f.Reason)
		}
	}
}

// count is how many of the times, which rise, lie in a span.
func count(times []time.Duration, from, until time.Duration) int {
	at := func(t time.Duration) int { return sort.Search(len(times), func(i int) bool { return times[i] >= t }) }
	return max(0, at(until)-at(from))
}
