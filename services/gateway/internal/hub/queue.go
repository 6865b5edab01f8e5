package hub

import (
	"sync"

	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// op says what a job is.
type op uint8

const (
	opMessage     op = iota // msg to list
	opMessageTo             // msg to conn
	opFrame                 // the frame queuedFrames[from:to] to conn
	opAcknowledge           // conn has acknowledged up to seq; the last of those for which isDelivery holds
	opJoin                  // conn joins list; this and what follows come between two segments
	opLeave
	opList
	opAttach
	opDetach
	opExpire
	opClose
	opCloseList
	opAskToReconnect
	opMeasure
	opDivertToShadow
	opFreeze // this and what follows are steps of a handoff
	opExportUnacked
	opCancelHandoff
	opEndHandedOver
	opImportUnacked
)

// isDelivery reports whether a job is part of a stretch that is written as one segment.
func (o op) isDelivery() bool { return o <= opAcknowledge }

// job is one thing for a writer to do.
type job struct {
	op         op
	reportJoin bool // of opJoin: the joining is a membership change
	from, to   uint32
	list       *list
	conn       *Conn
	msg        *Message
	seq        uint64 // of opAcknowledge; of opExpire the detachment that expires
	extra      any    // what only rare jobs need
}

// maxQueue and maxQueueBytes are how many jobs, and bytes of their messages, may wait before deliveries do. Writers
// never wait for clients, so that they are reached only when there is more to write than CPU to write it.
const (
	maxQueue      = 16 << 10
	maxQueueBytes = 32 << 20
)

// inlineBudget is how many writes a goroutine may do for a writer when its own business is another. Waking the writer
// costs about as much as one, but the goroutine is kept from its business, which may be the bus that feeds every node.
// overBudget is the cost of whatever must not be done inline.
const (
	inlineBudget = 4
	overBudget   = inlineBudget + 1
)

// jobQueue is what waits for a writer. Anybody may add to it; the writer's owner takes all of it at once. The sequence of
// jobs is the order in which everything happens to the writer's connections.
type jobQueue struct {
	wake chan struct{} // receives when awake becomes true

	mu           sync.Mutex // guards the following
	hasRoom      sync.Cond  // the queue has been taken, or the writer has ended
	queue        []job
	queuedFrames []byte // the frames of queue, one behind the other: a frame costs no allocation
	queuedBytes  int    // bytes of the queue's messages
	cost         int    // writes that the queue needs, at most overBudget
	awake        bool   // run is going to look at the queue, so that it need not be woken
	ended        bool
}

// push queues j without waiting.
func (q *jobQueue) push(j job) {
	q.mu.Lock()
	q.enqueue(j, overBudget)
	q.unlockAndWake()
}

// pushWaiting queues j, which is for so many receivers, once the queue is not overlong. Writers must not call it: they
// would wait for themselves.
func (q *jobQueue) pushWaiting(j job, receivers int) {
	q.mu.Lock()
	q.awaitRoom()
	q.enqueue(j, receivers)
	q.unlockAndWake()
}

// pushDeferred is pushWaiting for a message that may wait until helpOrWake is called.
func (q *jobQueue) pushDeferred(j job, receivers int) {
	q.mu.Lock()
	q.awaitRoom()
	q.enqueue(j, receivers)
	if q.cost > inlineBudget {
		q.unlockAndWake()
		return
	}
	q.mu.Unlock()
}

// pushFrame queues a frame like pushWaiting, so that no client's requests outrun the answers.
func (q *jobQueue) pushFrame(c *Conn, op socket.Opcode, payload []byte) {
	q.mu.Lock()
	q.awaitRoom()
	from := len(q.queuedFrames)
	q.queuedFrames = socket.AppendFrame(q.queuedFrames, op, payload)
	q.enqueue(job{op: opFrame, conn: c, from: uint32(from), to: uint32(len(q.queuedFrames))}, 1)
	q.unlockAndWake()
}

// enqueue adds j. The caller has mu.
func (q *jobQueue) enqueue(j job, cost int) {
	if j.msg != nil {
		q.queuedBytes += len(j.msg.envelope.JSON)
	}
	q.queue = append(q.queue, j)
	q.cost = min(q.cost+cost, overBudget)
}

// unlockAndWake gives mu back, and has run look at the queue. It sends without mu, so that run does not wake up to wait
// for it; wake has room for one, and only the goroutine that has set awake sends.
func (q *jobQueue) unlockAndWake() {
	asleep := !q.awake
	q.awake = true
	q.mu.Unlock()
	if asleep {
		q.wake <- struct{}{}
	}
}

// awaitRoom waits while the queue is overlong. The caller has mu.
func (q *jobQueue) awaitRoom() {
	for (len(q.queue) >= maxQueue || q.queuedBytes+len(q.queuedFrames) >= maxQueueBytes) && !q.ended {
		q.hasRoom.Wait()
	}
}
