package hub

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// op says what a job is.
type op uint8

const (
	opMessage   op = iota // msg to list
	opMessageTo           // msg to conn
	opFrame               // the frame at bytes[from:to] to conn
	opTrim                // seq of conn
	opJoin                // conn to list; this and what follows divide segments
	opLeave
	opList
	opAttach
	opDetach
	opExpire
	opClose
	opCloseList
	opSendAway
	opDivert
	opFreeze // this and what follows are steps of a move
	opExport
	opRecall
	opRelease
	opAdopt
)

// job is one thing for a writer to do.
type job struct {
	op       op
	move     bool // a joining that the connection is told of
	from, to uint32
	list     *list
	conn     *Conn
	msg      *Message
	seq      uint64 // of a trim; the epoch that expires
	x        any    // what only rare jobs need
}

// maxQueue and maxQueueBytes are how many jobs, and bytes of their messages, may wait before deliveries do. Writers
// never wait for clients, so that they are reached only when there is more to write than CPU to write it.
const (
	maxQueue      = 16 << 10
	maxQueueBytes = 32 << 20
)

// maxJoined is about how many bytes are joined for one write. What a slow client does not take of them is copied.
const maxJoined = 256 << 10

// closeWait is how long a client may take to answer a close frame.
const closeWait = 5 * time.Second

// writer writes to its share of the connections.
type writer struct {
	r     *Registry
	index int
	wake  chan struct{}
	done  chan struct{} // closed when the writer has ended

	mu     sync.Mutex // guards the following
	room   sync.Cond  // the queue has been taken
	queue  []job
	weight int    // receivers of the queue's messages and frames, and heavy for each other job
	size   int    // bytes of the queue's messages
	bytes  []byte // the queue's frames
	awake  bool   // run will look at the queue
	ended  bool

	turn      sync.Mutex // held by whoever does jobs: run, or who has put off the few that there are; guards the following
	jobs      []job      // taken from queue
	frames    []byte     // taken from bytes
	lent      bool       // whoever does jobs is not run, and must not be kept
	now       int64
	segment   uint64
	touched   []*list
	anyMixed  bool
	joined    [2 * protocol.Count][]byte // the run of the list at hand as frames of each codec, plain and then compressed
	shared    [2 * protocol.Count][]byte // space for joined
	next      [2 * protocol.Count]uint64 // what the numbers begin with in joined, of reliable codecs
	scratch   []byte
	encoder   encoder
	stages    []stage
	delivered int
	written   int
	wheel     [wheelSize][]*Conn
	tick      int
}

// stage gathers what a connection gets from several sources, in order.
type stage struct {
	conn *Conn
	buf  []byte
}

func newWriter(r *Registry, index int) *writer {
	w := &writer{r: r, index: index, wake: make(chan struct{}, 1), done: make(chan struct{}), encoder: encoder{expired: r.metrics.expired}}
	w.room.L = &w.mu
	return w
}

// light is how many writes somebody may do whose business is another, and heavy what weighs more than that.
const (
	light = 4
	heavy = light + 1
)

// push queues j without waiting.
func (w *writer) push(j job) {
	w.mu.Lock()
	w.put(j, heavy)
	w.wakeUp()
}

// pushWaiting queues j, which is for so many receivers, once the queue is not overlong. Writers must not call it.
func (w *writer) pushWaiting(j job, receivers int) {
	w.mu.Lock()
	w.awaitRoom()
	w.put(j, receivers)
	w.wakeUp()
}

// putOff is pushWaiting for a message that may wait until flush.
func (w *writer) putOff(j job, receivers int) {
	w.mu.Lock()
	w.awaitRoom()
	w.put(j, receivers)
	if w.weight > light {
		w.wakeUp()
		return
	}
	w.mu.Unlock()
}

// put queues j. The caller has mu.
func (w *writer) put(j job, weight int) {
	if j.msg != nil {
		w.size += len(j.msg.envelope.JSON)
	}
	w.queue = append(w.queue, j)
	w.weight = min(w.weight+weight, heavy)
}

// wakeUp has run look at the queue, and gives mu back.
func (w *writer) wakeUp() {
	asleep := !w.awake
	w.awake = true
	w.mu.Unlock()
	if asleep {
		w.wake <- struct{}{}
	}
}

// awaitRoom waits while the queue is overlong. The caller has mu.
func (w *writer) awaitRoom() {
	for (len(w.queue) >= maxQueue || w.size+len(w.bytes) >= maxQueueBytes) && !w.ended {
		w.room.Wait()
	}
}

// pushFrame queues a frame like pushWaiting, so that no client's requests outrun the answers.
func (w *writer) pushFrame(c *Conn, op socket.Opcode, payload []byte) {
	w.mu.Lock()
	w.awaitRoom()
	from := len(w.bytes)
	w.bytes = socket.AppendFrame(w.bytes, op, payload)
	w.put(job{op: opFrame, conn: c, from: uint32(from), to: uint32(len(w.bytes))}, 1)
	w.wakeUp()
}

// flush sees to what was put off, and returns the weight of what it has done itself. When that is no more than limit, and
// run is not at work or about to be, it is done at once: to wake run costs as much as a write.
func (w *writer) flush(limit int) int {
	w.mu.Lock()
	weight := w.weight
	switch {
	case len(w.queue) == 0 || w.awake:
		w.mu.Unlock()
		return 0
	case weight > limit || w.ended || !w.turn.TryLock():
		w.wakeUp()
		return 0
	}
	defer w.turn.Unlock()
	w.take()
	w.mu.Unlock()
	w.lent = true
	w.do()
	w.lent = false
	return weight
}

// take takes what is queued and reports whether that is anything. The caller has turn and mu.
func (w *writer) take() bool {
	w.jobs, w.queue = w.queue, w.jobs[:0]
	w.frames, w.bytes, w.size, w.weight = w.bytes, w.frames[:0], 0, 0
	w.room.Broadcast()
	return len(w.jobs) > 0
}

// run does what is queued until ctx ends.
func (w *writer) run(ctx context.Context) {
	defer w.stop()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-w.wake:
			w.work()
		case <-ticker.C:
			w.turn.Lock()
			w.keepAlive()
			w.turn.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// work does what is queued until nothing is.
func (w *writer) work() {
	w.turn.Lock()
	defer w.turn.Unlock()
	for {
		w.mu.Lock()
		w.awake = w.take()
		more := w.awake
		w.mu.Unlock()
		if !more {
			return
		}
		w.do()
	}
}

// stop lets nobody wait for a writer that has ended.
func (w *writer) stop() {
	w.turn.Lock() // what somebody else does for it is over
	defer w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.room.Broadcast()
	close(w.done)
}

// shrink gives space up that a burst has left.
func shrink[T any](s []T, limit int) []T {
	if cap(s) > limit {
		return nil
	}
	return s
}

// do works through what was taken: stretches of messages and frames at once, the rest one by one.
func (w *writer) do() {
	w.now = time.Now().UnixMilli()
	for jobs := w.jobs; len(jobs) > 0; {
		n := 0
		for n < len(jobs) && jobs[n].op < opJoin {
			n++
		}
		if n > 0 {
			w.write(jobs[:n], w.frames)
			jobs = jobs[n:]
			continue
		}
		w.change(jobs[0])
		jobs = jobs[1:]
	}
	w.r.metrics.delivered.Add(float64(w.delivered))
	w.r.metrics.bytesOut.Add(float64(w.written))
	w.delivered, w.written = 0, 0
	clear(w.jobs)
	w.jobs, w.frames = shrink(w.jobs, 4096), shrink(w.frames, 64<<10)
}

// change does a job that is neither message nor frame.
func (w *writer) change(j job) {
	c := j.conn
	switch j.op {
	case opJoin:
		w.join(j.list, c, j.move)
	case opLeave:
		w.leave(j.list, c)
	case opList:
		conns := append([]*Conn(nil), j.list.parts[w.index].conns...)
		for i, c := range conns {
			if c.of != nil { // a shadow
				conns[i] = c.of
			}
		}
		j.x.(chan []*Conn) <- conns
	case opAttach:
		a := j.x.(attachment)
		a.answer <- w.attach(c, a.sock, a.connected)
	case opDetach:
		d := j.x.(detachment)
		w.detach(c, d.sock, d.final, d.closing)
	case opExpire:
		if c.state == stateDetached && c.epoch == j.seq {
			w.end(c, ReasonLost.Closing("The connection was not recovered in time."))
		}
	case opClose:
		w.close(c, j.x.(Closing))
	case opCloseList:
		conns := append([]*Conn(nil), j.list.parts[w.index].conns...)
		for _, c := range conns {
			if !w.r.excepts(j.msg, c) {
				w.close(c, j.x.(Closing))
			}
		}
	case opSendAway:
		w.sendAway(c, j.x.(Closing))
	case opDivert:
		w.divert(j.list, c)
	default:
		w.move(j)
	}
}

func (w *writer) join(l *list, c *Conn, move bool) {
	if c.state == stateGone {
		w.r.left(l, c)
		return
	}
	p := l.parts[w.index]
	c.in = append(c.in, place{l, len(p.conns)})
	p.conns = append(p.conns, c)
	if move {
		c.moved(l, true)
	}
}

func (w *writer) leave(l *list, c *Conn) {
	for i, at := range c.in {
		if at.list == l {
			c.in[i] = c.in[len(c.in)-1]
			c.in = c.in[:len(c.in)-1]
			w.remove(l, at.at)
			w.r.left(l, c)
			c.moved(l, false)
			return
		}
	}
}

// remove takes the member at a place off w's part of a list; the last member takes its place.
func (w *writer) remove(l *list, at int) {
	p := l.parts[w.index]
	end := len(p.conns) - 1
	last := p.conns[end]
	p.conns[at], p.conns[end] = last, nil
	p.conns = p.conns[:end]
	for i := range last.in {
		if last.in[i].list == l {
			last.in[i].at = at
		}
	}
}

// write does a segment: jobs that are messages, frames and trims. A connection for which messages of one list
// wait, and nothing else, gets them as one buffer that all such members share; others are mixed and get theirs
// gathered in the order of the jobs.
func (w *writer) write(jobs []job, frames []byte) {
	w.segment++
	w.touched, w.anyMixed = w.touched[:0], false
	for i := range jobs {
		w.gather(&jobs[i])
	}
	for _, l := range w.touched {
		w.writeList(l)
	}
	if w.anyMixed {
		for i := range jobs {
			w.stageJob(&jobs[i], frames)
		}
		w.writeStages()
	}
	w.clearRuns()
}

// gather notes what j means for lists and connections.
func (w *writer) gather(j *job) {
	switch j.op {
	case opTrim:
		if j.conn.kept != nil {
			j.conn.kept.trim(j.seq)
		}
	case opFrame, opMessageTo:
		w.mix(j.conn)
	case opMessage:
		if j.msg.expired(w.now) {
			w.r.metrics.expired.Inc()
			return
		}
		p := j.list.parts[w.index]
		if p.segment != w.segment {
			p.segment, p.run, p.mixed, p.slow = w.segment, p.run[:0], p.mixed[:0], false
			w.touched = append(w.touched, j.list)
		}
		p.run = append(p.run, j.msg)
		p.slow = p.slow || j.msg.filter != nil
		for _, c := range j.msg.except {
			if c.w == w {
				w.mix(c)
			}
		}
	}
}

func (w *writer) mix(c *Conn) { c.mixed, w.anyMixed = w.segment, true }

// writeList gives the members that are not mixed the messages that wait for the list.
func (w *writer) writeList(l *list) {
	p := l.parts[w.index]
	for run := p.run; len(run) > 0; {
		n, size := 0, 0
		for n < len(run) && (n == 0 || size+len(run[n].envelope.JSON) <= maxJoined) {
			size += len(run[n].envelope.JSON)
			n++
		}
		w.writeMembers(l, run[:n], len(run) == len(p.run))
		run = run[n:]
	}
}

// writeMembers gives them a run, and on the first one finds out who is mixed.
func (w *writer) writeMembers(l *list, run []*Message, first bool) {
	p := l.parts[w.index]
	clear(w.joined[:])
	for i := 0; i < len(p.conns); i++ {
		c := p.conns[i]
		if c.mixed == w.segment || p.slow || len(w.touched) > 1 && w.inSeveral(c, l) {
			if first {
				w.mix(c)
				p.mixed = append(p.mixed, c)
			}
			continue
		}
		w.writeRun(c, run)
		if c.state == stateGone {
			i-- // another member has taken its place
		}
	}
}

// inSeveral reports whether messages of another list than l wait for c.
func (w *writer) inSeveral(c *Conn, l *list) bool {
	for i := range c.in {
		if other := c.in[i].list; other != l && other.parts[w.index].segment == w.segment {
			return true
		}
	}
	return false
}

// writeRun gives c a run of messages.
func (w *writer) writeRun(c *Conn, run []*Message) {
	if c.kept == nil && c.out == nil {
		w.send(c, w.joinRun(c, run), len(run) == 1)
		w.delivered += len(run)
		return
	}
	if c.out == nil && c.state == stateAttached {
		w.writeNumbered(c, run)
		return
	}
	w.scratch = shrink(w.scratch, maxWrite)[:0]
	for _, m := range run {
		w.scratch = w.add(c, w.scratch, m)
	}
	w.send(c, w.scratch, false)
}

// joinRun returns the run as frames for c, made once for all members of the list at hand whose frames look alike.
func (w *writer) joinRun(c *Conn, run []*Message) []byte {
	if len(run) == 1 {
		return run[0].frameFor(c.Codec, c.compress)
	}
	id := c.look()
	if w.joined[id] == nil {
		b := w.shared[id][:0]
		for _, m := range run {
			b = append(b, m.frameFor(c.Codec, c.compress)...)
		}
		w.joined[id], w.shared[id] = b, shrink(b, 1<<20)
	}
	return w.joined[id]
}

// look tells frames apart that say the same.
func (c *Conn) look() protocol.ID {
	if c.compress {
		return c.Codec.ID() + protocol.Count
	}
	return c.Codec.ID()
}

// writeNumbered is writeRun for a reliable connection for which nothing waits. Members of the list that are at the same
// number, as those are who have been in one group from its beginning, share their frames.
func (w *writer) writeNumbered(c *Conn, run []*Message) {
	next := c.kept.last + 1
	for _, m := range run {
		if _, ok := c.kept.add(m); !ok {
			w.close(c, tooMuchUnacked)
			return
		}
	}
	w.delivered += len(run)
	id := c.look()
	if w.joined[id] == nil || w.next[id] != next {
		b := w.shared[id][:0]
		for i, m := range run {
			b = w.encoder.append(b, c.Codec, c.compress, item{m: m, seq: next + uint64(i)}, w.now)
		}
		w.joined[id], w.shared[id], w.next[id] = b, shrink(b, 1<<20), next
	}
	w.send(c, w.joined[id], false)
}

// add numbers and keeps m if c is reliable, and appends it to buf unless it has to wait.
func (w *writer) add(c *Conn, buf []byte, m *Message) []byte {
	if c.state == stateGone {
		return buf
	}
	i := item{m: m}
	if c.kept != nil {
		var ok bool
		if i.seq, ok = c.kept.add(m); !ok {
			w.close(c, tooMuchUnacked)
			return buf
		}
	}
	w.delivered++
	if w.wait(c, i) {
		return buf
	}
	return w.encoder.append(buf, c.Codec, c.compress, i, w.now)
}

// wait reports whether i is not to be written now: because c has no socket, or i waits in its outbox.
func (w *writer) wait(c *Conn, i item) bool {
	if c.out != nil {
		drained, ok := c.out.add(i)
		switch {
		case !ok:
			w.close(c, ReasonSlow.Closing("The client is too slow: more than 1000 messages or 16 MiB wait for it."))
			return true
		case !drained:
			return true
		}
		c.out = nil
	}
	return c.state != stateAttached
}

// send writes b without waiting. What the kernel does not take goes to an outbox, as it is if lasting says that b does
// not change.
func (w *writer) send(c *Conn, b []byte, lasting bool) {
	if len(b) == 0 || c.state != stateAttached {
		return
	}
	w.written += len(b)
	n, err := c.sock.TryWrite(b)
	switch {
	case err != nil:
		w.detach(c, c.sock, false, ReasonLost.Closing(""))
	case n < len(b):
		rest := b[n:]
		if !lasting {
			rest = bytes.Clone(rest)
		}
		w.fallBehind(c, []item{{frame: rest}})
	}
}

// fallBehind gives c an outbox and a goroutine that empties it into c's present socket.
func (w *writer) fallBehind(c *Conn, items []item) {
	out, sock := &outbox{codec: c.Codec, compress: c.compress, items: items, limit: maxWaiting + len(items), encoder: encoder{expired: w.r.metrics.expired}}, c.sock
	if c.kept != nil {
		out.limit += maxWaiting // bounded by what is kept; this is for acks
	}
	for _, i := range items {
		out.bytes += i.size()
	}
	c.out = out
	w.r.drainers.Go(func() {
		if err := out.drain(sock); err != nil {
			closing := ReasonLost.Closing("")
			if errors.Is(err, os.ErrDeadlineExceeded) {
				closing = ReasonSlow.Closing("")
			}
			w.r.Detach(c, sock, false, closing)
		}
	})
}

// stageJob gathers what j means for mixed connections.
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
			if !w.r.excepts(j.msg, c) {
				w.stageMessage(c, j.msg)
			}
		}
	}
}

func (w *writer) stageMessage(c *Conn, m *Message) {
	s := w.stageOf(c)
	s.buf = w.add(c, s.buf, m)
	if len(s.buf) > maxJoined {
		w.send(c, s.buf, false)
		s.buf = s.buf[:0]
	}
}

func (w *writer) stageFrame(c *Conn, frame []byte) {
	if c.state != stateAttached {
		return
	}
	if c.out != nil && w.wait(c, item{frame: append([]byte(nil), frame...)}) {
		return
	}
	s := w.stageOf(c)
	s.buf = append(s.buf, frame...)
}

// stageOf returns c's stage of this segment.
func (w *writer) stageOf(c *Conn) *stage {
	if c.staged != w.segment {
		c.staged, c.stage = w.segment, len(w.stages)
		if len(w.stages) < cap(w.stages) {
			w.stages = w.stages[:len(w.stages)+1] // with the space of an earlier stage
		} else {
			w.stages = append(w.stages, stage{})
		}
		w.stages[c.stage].conn = c
	}
	return &w.stages[c.stage]
}

func (w *writer) writeStages() {
	for i := range w.stages {
		s := &w.stages[i]
		w.send(s.conn, s.buf, false)
		*s = stage{buf: shrink(s.buf, maxWrite)[:0]}
	}
	w.stages = w.stages[:0]
}

// clearRuns lets go of the messages of a segment.
func (w *writer) clearRuns() {
	for _, l := range w.touched {
		p := l.parts[w.index]
		clear(p.run)
		clear(p.mixed)
		p.run, p.mixed = shrink(p.run, 1024)[:0], shrink(p.mixed, 1024)[:0]
	}
	clear(w.touched)
}
