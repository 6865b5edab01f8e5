package hub

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// TestOutboxIsBounded: what waits for a slow client is bounded by number and by bytes, and what has been written counts no
// more.
func TestOutboxIsBounded(t *testing.T) {
	for name, tt := range map[string]struct{ size, want int }{
		"by number": {1, maxWaiting},
		"by bytes":  {1 << 20, maxWaitingBytes >> 20},
	} {
		t.Run(name, func(t *testing.T) {
			o := &outbox{codec: protocol.JSON, limit: maxWaiting}
			frame := item{frame: make([]byte, tt.size)}
			fill := func() (n int) {
				for n <= 2*maxWaiting {
					if _, ok := o.add(frame); !ok {
						break
					}
					n++
				}
				return n
			}
			if got := fill(); got != tt.want {
				t.Errorf("got %d frames of %d bytes in, want %d", got, tt.size, tt.want)
			}
			taken := len(o.nextBatch(nil)) / tt.size
			if got := fill(); got != taken {
				t.Errorf("after %d were written: got %d more in, want as many", taken, got)
			}
		})
	}
}

// TestBusyReaderIsNotCutOff: while the reader is at work on a request it does not hear what the client answers to pings,
// so that silence says nothing about the client.
//
// checklist:C21
func TestBusyReaderIsNotCutOff(t *testing.T) {
	t.Parallel()
	h := newHarness(t, Options{})
	c := h.Add(ConnOptions{ID: "c", Codec: protocol.JSON, KeepAlive: time.Second,
		OnClosed: func(_ *Conn, closing Closing) { h.gone <- closing }})
	c.ReaderBusy.Store(true)
	conn := h.handshake()
	h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: "c"})
	var last byte
	for pings := 0; pings < 3; {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			t.Fatalf("got %v after %d pings, want a busy reader's client to stay", err, pings)
		}
		if last == 0x89 && b[0] == 0 {
			pings++
		}
		last = b[0]
	}
	c.ReaderBusy.Store(false)
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.EOF) {
		t.Logf("the end: %v", err) // a reset is an end, too
	}
	if closing := <-h.gone; closing.Reason != ReasonPing {
		t.Errorf("got reason %s once the reader has time and the client is silent, want %s", closing.Reason, ReasonPing)
	}
}
