package hub

import "github.com/chatr-dev/chatr/pkg/protocol"

// A segment is a stretch of jobs that only write: between them no connection joins, leaves or ends. So a writer may bring all
// messages of one list to a member with one write, and share the bytes among the members, and each member still sees
// the order of the jobs.

// maxRunBytes is about how many bytes are joined for one write. What a slow client does not take of them is copied.
const maxRunBytes = 256 << 10

// stage gathers what a mixed connection gets in a segment, in the order of the jobs.
type stage struct {
	conn *Conn
	buf  []byte
}

// write does a segment: messages, frames and acknowledgements. A connection for which messages of one list wait, and nothing
// else, gets them as one buffer that all such members share. Others are mixed: what they get is gathered in the order of the
// jobs. To tell the two apart without a set for each segment, connections and parts carry the number of the last segment in
// which they were touched.
func (w *writer) write(jobs []job, frames []byte) {
	w.segment++
	w.touchedLists, w.anyMixed = w.touchedLists[:0], false
	for i := range jobs {
		w.collect(&jobs[i])
	}
	for _, l := range w.touchedLists {
		w.writeList(l)
	}
	if w.anyMixed {
		for i := range jobs {
			w.stageJob(&jobs[i], frames)
		}
		w.writeStages()
	}
	w.releaseRuns()
}

// collect adds j to the run of its list, or marks its connection as mixed.
func (w *writer) collect(j *job) {
	switch j.op {
	case opAcknowledge: // the order among messages does not matter: what is acknowledged has been sent
		if j.conn.unacked != nil {
			j.conn.unacked.trim(j.seq)
		}
	case opFrame, opMessageTo:
		w.markMixed(j.conn)
	case opMessage:
		if j.msg.expired(w.now) {
			w.r.metrics.expired.Inc()
			return
		}
		p := j.list.parts[w.index]
		if p.segment != w.segment {
			p.segment, p.run, p.mixed, p.filtered = w.segment, p.run[:0], p.mixed[:0], false
			w.touchedLists = append(w.touchedLists, j.list)
		}
		p.run = append(p.run, j.msg)
		p.filtered = p.filtered || j.msg.filter != nil
		for _, c := range j.msg.except {
			if c.w == w {
				w.markMixed(c)
			}
		}
	}
}

// markMixed says that c must get its frames in the order of the jobs.
func (w *writer) markMixed(c *Conn) { c.mixedIn, w.anyMixed = w.segment, true }

// writeList gives the members of l that are not mixed the messages that wait for it, about maxRunBytes at a time.
func (w *writer) writeList(l *list) {
	p := l.parts[w.index]
	for run := p.run; len(run) > 0; {
		n, size := 0, 0
		for n < len(run) && (n == 0 || size+len(run[n].envelope.JSON) <= maxRunBytes) {
			size += len(run[n].envelope.JSON)
			n++
		}
		w.writeMembers(l, run[:n], len(run) == len(p.run))
		run = run[n:]
	}
}

// writeMembers gives the members of l that are not mixed a run of its messages. With the first run it finds out which members
// are mixed: those for whom other frames wait too, and all members when a filter decides for each by itself.
func (w *writer) writeMembers(l *list, run []*Message, first bool) {
	p := l.parts[w.index]
	clear(w.runFrames[:])
	for i := 0; i < len(p.conns); i++ {
		c := p.conns[i]
		if c.mixedIn == w.segment || p.filtered || len(w.touchedLists) > 1 && c.inOtherRun(w, l) {
			if first {
				w.markMixed(c)
				p.mixed = append(p.mixed, c)
			}
			continue
		}
		w.writeRun(c, run)
		if c.state == stateEnded {
			i-- // another member has taken its place
		}
	}
}

// inOtherRun reports whether messages of another list than l wait for c in the segment of its writer w.
func (c *Conn) inOtherRun(w *writer, l *list) bool {
	for i := range c.places {
		if other := c.places[i].list; other != l && other.parts[w.index].segment == w.segment {
			return true
		}
	}
	return false
}

// writeRun gives c a run of messages. Most connections take the first way: not reliable and nothing waits, so that the frames
// that all such members share are written as they are.
func (w *writer) writeRun(c *Conn, run []*Message) {
	if c.unacked == nil && c.outbox == nil {
		w.writeNow(c, w.framesOf(c, run), len(run) == 1)
		w.deliveredCopies += len(run)
		return
	}
	if c.outbox == nil && c.state == stateAttached {
		w.writeNumbered(c, run)
		return
	}
	w.scratch = shrink(w.scratch, maxWrite)[:0]
	for _, m := range run {
		w.scratch = w.appendOrHold(c, w.scratch, m)
	}
	w.writeNow(c, w.scratch, false)
}

// framesOf returns the run as frames for c, made once for all members of the list at hand whose frames are of one kind.
func (w *writer) framesOf(c *Conn, run []*Message) []byte {
	if len(run) == 1 {
		return run[0].frameFor(c.Codec, c.compress)
	}
	kind := c.frameKind()
	if w.runFrames[kind] == nil {
		b := w.runBuffers[kind][:0]
		for _, m := range run {
			b = append(b, m.frameFor(c.Codec, c.compress)...)
		}
		w.runFrames[kind], w.runBuffers[kind] = b, shrink(b, 1<<20)
	}
	return w.runFrames[kind]
}

// frameKind is the index of frames as c takes them: those of its codec, and behind those of all codecs the compressed ones.
func (c *Conn) frameKind() protocol.ID {
	if c.compress {
		return c.Codec.ID() + protocol.Count
	}
	return c.Codec.ID()
}

// writeNumbered is writeRun for a reliable connection for which nothing waits. Members of the list that are at the same
// number, as those are who have been in one group from its beginning, share their frames.
func (w *writer) writeNumbered(c *Conn, run []*Message) {
	next := c.unacked.last + 1
	for _, m := range run {
		if _, ok := c.unacked.add(m); !ok {
			w.close(c, unackedOverflow)
			return
		}
	}
	w.deliveredCopies += len(run)
	kind := c.frameKind()
	if w.runFrames[kind] == nil || w.runFirstSeq[kind] != next {
		b := w.runBuffers[kind][:0]
		for i, m := range run {
			b = w.encoder.append(b, c.Codec, c.compress, item{m: m, seq: next + uint64(i)}, w.now)
		}
		w.runFrames[kind], w.runBuffers[kind], w.runFirstSeq[kind] = b, shrink(b, 1<<20), next
	}
	w.writeNow(c, w.runFrames[kind], false)
}

// stageJob gathers what mixed connections get of j.
func (w *writer) stageJob(j *job, frames []byte) {
	switch j.op {
	case opFrame:
		w.stageFrame(j.conn, frames[j.from:j.to])
	case opMessageTo:
		if j.msg.expired(w.now) {
			w.r.metrics.expired.Inc()
			return
		}
		w.stageMessage(j.conn, j.msg)
	case opMessage:
		p := j.list.parts[w.index]
		if p.segment != w.segment || j.msg.expired(w.now) {
			return
		}
		for _, c := range p.mixed {
			if !j.msg.excludes(c) {
				w.stageMessage(c, j.msg)
			}
		}
	}
}

// stageMessage adds a message to c's stage, which is written at once when it has become large.
func (w *writer) stageMessage(c *Conn, m *Message) {
	s := w.stageOf(c)
	s.buf = w.appendOrHold(c, s.buf, m)
	if len(s.buf) > maxRunBytes {
		w.writeNow(c, s.buf, false)
		s.buf = s.buf[:0]
	}
}

// stageFrame adds a copy of a frame to c's stage: the frames of a queue are overwritten by those of the next.
func (w *writer) stageFrame(c *Conn, frame []byte) {
	if c.state != stateAttached {
		return
	}
	if c.outbox != nil && w.holdBack(c, item{frame: append([]byte(nil), frame...)}) {
		return
	}
	s := w.stageOf(c)
	s.buf = append(s.buf, frame...)
}

// stageOf returns c's stage of this segment.
func (w *writer) stageOf(c *Conn) *stage {
	if c.stagedIn != w.segment {
		c.stagedIn, c.stage = w.segment, len(w.stages)
		if len(w.stages) < cap(w.stages) {
			w.stages = w.stages[:len(w.stages)+1] // with the space of an earlier stage
		} else {
			w.stages = append(w.stages, stage{})
		}
		w.stages[c.stage].conn = c
	}
	return &w.stages[c.stage]
}

// writeStages writes to each mixed connection what it gets, and keeps the buffers for the next segment.
func (w *writer) writeStages() {
	for i := range w.stages {
		s := &w.stages[i]
		w.writeNow(s.conn, s.buf, false)
		*s = stage{buf: shrink(s.buf, maxWrite)[:0]}
	}
	w.stages = w.stages[:0]
}

// releaseRuns drops the references to the messages of a segment, which would keep them in memory until the list is written to again.
func (w *writer) releaseRuns() {
	for _, l := range w.touchedLists {
		p := l.parts[w.index]
		clear(p.run)
		clear(p.mixed)
		p.run, p.mixed = shrink(p.run, 1024)[:0], shrink(p.mixed, 1024)[:0]
	}
	clear(w.touchedLists)
}
