package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// setupTime bounds each step of a connection's set-up.
const setupTime = 20 * time.Second

// crowd is the clients of a run and what they have received.
type crowd struct {
	dialect dialect
	clients []*client
	epoch   time.Time

	delivered atomic.Int64
	progress  chan struct{} // has a token when something was delivered
	lost      atomic.Int64  // clients whose connection has ended
	closing   atomic.Bool
	timing    atomic.Bool // latencies are noted
	latencies latencies
	readers   sync.WaitGroup
}

// client is one connection. One goroutine reads; the holder of mu may write.
type client struct {
	crowd *crowd
	conn  net.Conn

	mu     sync.Mutex // held while writing
	frames [][]byte   // to send, by group, each with the place of its stamp
	stamps []int

	// The reader's.
	heard, acked uint64
}

// gather connects n clients, several at a time, to the addresses in turn, from many loopback addresses, each to its group.
func gather(d dialect, addresses []string, n int, group func(i int) string) (*crowd, error) {
	c := &crowd{dialect: d, epoch: time.Now(), progress: make(chan struct{}, 1), clients: make([]*client, n)}
	var next atomic.Int64
	var work sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		work.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				var err error
				if c.clients[i], err = c.connect(i, addresses[i%len(addresses)], group(i)); err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		c.leave()
		return nil, err
	default:
		return c, nil
	}
}

// connect opens a connection. A server that asks to be tried again is, since it may have just started.
func (c *crowd) connect(i int, address, group string) (cl *client, err error) {
	for deadline := time.Now().Add(setupTime); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if cl, err = c.open(i, address, group); !errors.Is(err, errBusy) {
			return cl, err
		}
	}
	return nil, err
}

// open opens a connection and joins a group, unless it is empty.
func (c *crowd) open(i int, address, group string) (*client, error) {
	dialer := net.Dialer{Timeout: setupTime, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/15_000))}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	path, subprotocol := c.dialect.endpoint()
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if subprotocol != "" {
		request += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	talk := &talk{conn: conn}
	talk.say([]byte(request + "\r\n"))
	talk.hear("HTTP/1.1 101")
	talk.hear("\r\n\r\n")
	hear, say, then := c.dialect.greet()
	talk.hear(hear)
	if then != "" {
		talk.say(say)
		talk.hear(then)
	}
	if group != "" {
		frame, hear := c.dialect.join(group)
		talk.say(frame)
		talk.hear(hear)
	}
	if talk.err != nil {
		_ = conn.Close()
		return nil, talk.err
	}
	_ = conn.SetDeadline(time.Time{})
	cl := &client{crowd: c, conn: conn}
	c.readers.Go(cl.read)
	return cl, nil
}

// talk is a connection's set-up, in steps of which the first that fails counts.
type talk struct {
	conn net.Conn
	buf  []byte
	err  error
}

func (t *talk) say(b []byte) {
	if t.err == nil {
		_ = t.conn.SetDeadline(time.Now().Add(setupTime))
		_, t.err = t.conn.Write(b)
	}
}

var errBusy = errors.New("the server takes no connections now")

// hear reads until want has come, and forgets everything up to its end.
func (t *talk) hear(want string) {
	for t.err == nil {
		if i := bytes.Index(t.buf, []byte(want)); i >= 0 {
			t.buf = t.buf[i+len(want):]
			return
		}
		if bytes.HasPrefix(t.buf, []byte("HTTP/1.1 503")) {
			t.err = errBusy
			return
		}
		t.buf = slices.Grow(t.buf, 1024)
		n, err := t.conn.Read(t.buf[len(t.buf):cap(t.buf)])
		t.buf = t.buf[:len(t.buf)+n]
		if err != nil {
			t.err = fmt.Errorf("%w, waiting for %q after %.100q", err, want, t.buf)
		}
	}
}

// aim prepares frames to the groups, which the client sends in turn.
func (cl *client) aim(size int, groups ...string) {
	for _, g := range groups {
		frame := cl.crowd.dialect.send(g, payload(size))
		cl.frames = append(cl.frames, frame)
		cl.stamps = append(cl.stamps, bytes.Index(frame, []byte(marker))+len(marker))
	}
}

// send sends the frame to the i-th of the client's groups, stamped with the time it was due.
func (cl *client) send(i int, due time.Duration) error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	stamp := cl.frames[i][cl.stamps[i]:][:0]
	text := strconv.AppendUint(make([]byte, 0, stampSize), uint64(due), 16)
	stamp = append(stamp, "0000000000000000"[:stampSize-len(text)]...)
	_ = append(stamp, text...)
	_, err := cl.conn.Write(cl.frames[i])
	return err
}

// read counts markers until the connection ends. It takes no frame apart, so that counting costs next to nothing.
func (cl *client) read() {
	c := cl.crowd
	buf := make([]byte, 4<<10)
	kept := 0 // the beginning of a marker and stamp that the last read cut
	for {
		n, err := cl.conn.Read(buf[kept:])
		if err != nil {
			if !c.closing.Load() {
				c.lost.Add(1)
			}
			return
		}
		b := buf[:kept+n]
		full := len(b) == len(buf)
		now := time.Since(c.epoch)
		count, timing := 0, c.timing.Load()
		for {
			i := bytes.Index(b, []byte(marker))
			if i < 0 {
				i = max(0, len(b)-len(marker)+1) // the last byte may begin one
			}
			if len(b)-i < headSize {
				kept = copy(buf, b[i:])
				break
			}
			if timing {
				if due, err := strconv.ParseUint(string(b[i+len(marker):i+headSize]), 16, 64); err == nil {
					c.latencies.add(now - time.Duration(due))
				}
			}
			b = b[i+headSize:]
			count++
		}
		if full && len(buf) < 64<<10 {
			buf = append(buf, make([]byte, 3*len(buf))...)
		}
		if count > 0 {
			cl.count(count)
		}
	}
}

// ackAfter is how many messages a client of a reliable subprotocol acknowledges at once.
const ackAfter = 100

func (cl *client) count(n int) {
	c := cl.crowd
	c.delivered.Add(int64(n))
	select {
	case c.progress <- struct{}{}:
	default:
	}
	cl.heard += uint64(n)
	if cl.heard-cl.acked < ackAfter {
		return
	}
	cl.acked = cl.heard
	if frame := c.dialect.ack(cl.heard); frame != nil {
		cl.mu.Lock()
		_, _ = cl.conn.Write(frame) // the reader sees how it ends
		cl.mu.Unlock()
	}
}

// leave closes all connections and waits for their readers.
func (c *crowd) leave() {
	c.closing.Store(true)
	for _, cl := range c.clients {
		if cl != nil {
			_ = cl.conn.(*net.TCPConn).SetLinger(0)
			_ = cl.conn.Close()
		}
	}
	c.readers.Wait()
}

// latencies counts durations in classes of about a sixteenth of their size.
type latencies [64 * 16]atomic.Int64

func (l *latencies) add(d time.Duration) {
	n := uint64(max(d, 1))
	magnitude := bits.Len64(n) - 1
	l[magnitude*16+int(n<<4>>magnitude&15)].Add(1)
}

// take returns two percentiles of what was added since it was called last.
func (l *latencies) take() (p50, p99 time.Duration) {
	var counts [len(l)]int64
	var total, sum int64
	for i := range l {
		counts[i] = l[i].Swap(0)
		total += counts[i]
	}
	for i, n := range counts {
		value := time.Duration((16 + uint64(i&15)) << (i / 16) >> 4)
		if sum*2 < total && (sum+n)*2 >= total {
			p50 = value
		}
		if sum*100 < total*99 && (sum+n)*100 >= total*99 {
			p99 = value
		}
		sum += n
	}
	return p50, p99
}

// groupName is of one length, so that all messages are.
func groupName(i int) string {
	return "room" + strings.Repeat("0", 5-len(strconv.Itoa(i))) + strconv.Itoa(i)
}
