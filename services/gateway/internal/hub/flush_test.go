package hub

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// waiting is what waits for a writer, and whether it has been told.
func (h *harness) waiting(w *writer) (jobs int, awake bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue), w.awake
}

func (h *harness) want(client *websocket.Conn, text string) {
	h.t.Helper()
	if got := h.read(client); !strings.Contains(got, text) {
		h.t.Fatalf("got %q, want %q in it", got, text)
	}
}

// TestFlush: messages for a few connections are deferred and then written by the goroutine that flushes, unless the writer is about
// to do it anyway.
func TestFlush(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{Writers: 1})
			w := h.writers[0]
			asleep := func() bool { _, awake := h.waiting(w); return !awake }
			_, client := h.connect("a", codec)
			testkit.Eventually(t, 10*time.Second, asleep, "the writer has done all")

			h.Registry.Deliver("list", message("put off", MessageOptions{}))
			if jobs, awake := h.waiting(w); jobs != 1 || awake {
				t.Errorf("got %d jobs and awake %v, want one that waits for Flush", jobs, awake)
			}
			h.Flush()
			if jobs, awake := h.waiting(w); jobs != 0 || awake {
				t.Errorf("after Flush got %d jobs and awake %v, want none and nobody woken", jobs, awake)
			}
			h.want(client, "put off")

			w.owner.Lock() // the writer is at work
			h.Registry.Deliver("list", message("first", MessageOptions{}))
			h.Flush()
			if jobs, awake := h.waiting(w); jobs != 1 || !awake {
				t.Errorf("beside a writer at work got %d jobs and awake %v, want it told of one", jobs, awake)
			}
			h.Registry.Deliver("list", message("second", MessageOptions{}))
			h.Flush()
			w.owner.Unlock()
			h.want(client, "first")
			h.want(client, "second")

			testkit.Eventually(t, 10*time.Second, asleep, "the writer has done all")
			for range inlineBudget + 1 { // without any Flush
				h.Registry.Deliver("list", message("much", MessageOptions{}))
			}
			for range inlineBudget + 1 {
				h.want(client, "much")
			}
		})
	}
}

// TestFlushKeepsOrder: however many goroutines deliver and flush at the same time, with frames between, each client sees one order.
func TestFlushKeepsOrder(t *testing.T) {
	h := newHarness(t, Options{Writers: 2})
	const senders, each = 4, 200
	_, one := h.connect("one", protocol.JSON)
	_, two := h.connect("two", protocol.JSON)
	var order sync.Mutex // of the bus
	var work sync.WaitGroup
	for s := range senders {
		work.Go(func() {
			for i := range each {
				order.Lock()
				h.Registry.Deliver("list", message(fmt.Sprintf("<%d %d>", s, i), MessageOptions{}))
				order.Unlock()
				h.Flush()
			}
		})
	}
	work.Wait()
	next := make([]int, senders)
	for range senders * each {
		got := h.read(one)
		if again := h.read(two); again != got {
			t.Fatalf("one got %s, two %s", got, again)
		}
		var s, i int
		if _, err := fmt.Sscanf(got[max(strings.IndexByte(got, '<'), 0):], "<%d %d>", &s, &i); err != nil {
			t.Fatalf("got %s: %v", got, err)
		}
		if i != next[s] {
			t.Fatalf("got %d of sender %d, want %d", i, s, next[s])
		}
		next[s]++
	}
}

// TestFlushCallsNobody: who flushes may hold a lock that the end of a connection takes.
func TestFlushCallsNobody(t *testing.T) {
	h := newHarness(t, Options{Writers: 1})
	var mu sync.Mutex
	ended := make(chan struct{})
	c := h.Add(ConnOptions{ID: "a", Codec: protocol.JSON, OnClosed: func(*Conn, Closing) {
		mu.Lock()
		defer mu.Unlock()
		close(ended)
	}})
	if _, err := h.Join(c, "list", "list"); err != nil {
		t.Fatal(err)
	}
	h.handshake()
	sock := <-h.socks
	if !h.Attach(c, sock, protocol.Connected{}) {
		t.Fatal("got a connection that has ended")
	}
	_ = sock.Close() // the next write fails
	mu.Lock()
	for range 3 {
		h.Deliver("list", message("lost", MessageOptions{}))
	}
	mu.Unlock()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection has not ended")
	}
}
