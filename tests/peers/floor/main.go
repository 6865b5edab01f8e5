// Command floor is the smallest possible server of the same shape, to compare the product with: it knows groups and
// the two frames joinGroup and sendToGroup, and nothing else. No tokens, no ids, no acks of sends, no metrics, no
// limits, no reliable connections, no tolerance for odd input, no care for slow clients.
//
// The WebSocket library accepts; frames are read and written below it. One writer per CPU has its share of the
// connections, joins what waits for a group and writes it to the members. With -redis, groups span several floors.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9100", "address")
	redisAddr := flag.String("redis", "", "address of Redis; empty: groups are of this process")
	flag.Parse()
	s := &server{rooms: map[string]*room{}}
	for i := range runtime.GOMAXPROCS(0) {
		w := &writer{index: i, wake: make(chan struct{}, 1)}
		s.writers = append(s.writers, w)
		go w.run()
	}
	if *redisAddr != "" {
		s.bus = newBus(*redisAddr, s.deliver)
	}
	web := &http.Server{Addr: *listen, Handler: http.HandlerFunc(s.accept), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(web.ListenAndServe())
}

type server struct {
	writers []*writer
	bus     *bus // nil: none
	next    atomic.Int64

	mu    sync.RWMutex // guards the following
	rooms map[string]*room
}

// room is a group. Its members are divided among the writers; a slice is replaced by a longer one, never changed.
type room struct {
	mu      sync.Mutex
	members []atomic.Pointer[[]*member]
}

type member struct {
	conn   net.Conn
	raw    syscall.RawConn
	writer int
}

// unclosable is a connection that the library cannot close.
type unclosable struct{ net.Conn }

func (unclosable) Close() error { return nil }

// hijacker gives the library a connection for the handshake and keeps it afterwards.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

func (l *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := l.ResponseWriter.(http.Hijacker).Hijack()
	l.conn = conn
	return unclosable{conn}, rw, err
}

func (s *server) accept(w http.ResponseWriter, r *http.Request) {
	l := &hijacker{ResponseWriter: w}
	library, err := websocket.Accept(l, r, &websocket.AcceptOptions{
		Subprotocols: []string{"json.webpubsub.azure.v1"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	_ = library.CloseNow()
	raw, err := l.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	m := &member{conn: l.conn, raw: raw, writer: int(s.next.Add(1)) % len(s.writers)}
	m.write(frame(nil, []byte(`{"type":"system","event":"connected","connectionId":"c"}`)))
	go s.read(m) // the handler's goroutine and buffers are freed
}

func (s *server) read(m *member) {
	defer m.conn.Close()
	buf, start, end := make([]byte, 512), 0, 0
	for {
		payload, size := parse(buf[start:end])
		if size > 0 {
			s.handle(m, payload)
			start += size
			continue
		}
		end, start = copy(buf, buf[start:end]), 0
		if end == len(buf) {
			buf = append(buf, make([]byte, 3*len(buf))...)
		}
		n, err := m.conn.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
	}
}

// parse returns the payload of the frame that b begins with, and the size of the frame, which is 0 while it is not whole.
func parse(b []byte) (payload []byte, size int) {
	if len(b) < 6 {
		return nil, 0
	}
	n, at := int(b[1]&0x7f), 2
	switch n {
	case 126:
		n, at = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		return nil, 0 // larger than any that is sent here
	}
	if len(b) < at+4+n {
		return nil, 0
	}
	key := b[at : at+4]
	payload = b[at+4 : at+4+n]
	if key[0]|key[1]|key[2]|key[3] != 0 {
		for i := range payload {
			payload[i] ^= key[i&3]
		}
	}
	return payload, at + 4 + n
}

func (s *server) handle(m *member, b []byte) {
	group := string(field(b, `"group":"`))
	if bytes.Contains(b[:min(len(b), 24)], []byte("joinGroup")) {
		s.join(group, m)
		m.write(frame(nil, []byte(`{"type":"ack","ackId":1,"success":true}`)))
		return
	}
	data := field(b, `"data":"`)
	message := make([]byte, 0, len(group)+len(data)+96)
	message = append(message, `{"type":"message","from":"group","group":"`...)
	message = append(message, group...)
	message = append(message, `","dataType":"text","data":"`...)
	message = append(append(message, data...), `"}`...)
	if s.bus != nil {
		s.bus.publish(group, message)
		return
	}
	s.deliver(group, message)
}

func field(b []byte, name string) []byte {
	_, b, _ = bytes.Cut(b, []byte(name))
	b, _, _ = bytes.Cut(b, []byte{'"'})
	return b
}

func (s *server) join(group string, m *member) {
	s.mu.Lock()
	r := s.rooms[group]
	created := r == nil
	if created {
		r = &room{members: make([]atomic.Pointer[[]*member], len(s.writers))}
		s.rooms[group] = r
	}
	s.mu.Unlock()
	if created && s.bus != nil {
		s.bus.subscribe(group)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.members[m.writer]
	list := []*member{m}
	if old := p.Load(); old != nil {
		list = append(*old, m)
	}
	p.Store(&list)
}

func (s *server) deliver(group string, message []byte) {
	s.mu.RLock()
	r := s.rooms[group]
	s.mu.RUnlock()
	if r == nil {
		return
	}
	f := frame(make([]byte, 0, len(message)+4), message)
	for i, w := range s.writers {
		if r.members[i].Load() != nil {
			w.push(job{r, f})
		}
	}
}

func frame(dst, payload []byte) []byte {
	if len(payload) < 126 {
		dst = append(dst, 0x81, byte(len(payload)))
	} else {
		dst = append(dst, 0x81, 126, byte(len(payload)>>8), byte(len(payload)))
	}
	return append(dst, payload...)
}

// write gives b to the kernel; what does not fit is waited for.
func (m *member) write(b []byte) {
	n := 0
	_ = m.raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), b)
		return true
	})
	if n = max(n, 0); n < len(b) {
		_, _ = m.conn.Write(b[n:])
	}
}

type job struct {
	room  *room
	frame []byte
}

type writer struct {
	index int
	wake  chan struct{}
	mu    sync.Mutex
	queue []job
}

func (w *writer) push(j job) {
	w.mu.Lock()
	w.queue = append(w.queue, j)
	first := len(w.queue) == 1
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *writer) run() {
	joined := map[*room][]byte{}
	var order []*room
	var jobs []job
	for range w.wake {
		w.mu.Lock()
		jobs, w.queue = w.queue, jobs[:0]
		w.mu.Unlock()
		for _, j := range jobs {
			if len(joined[j.room]) == 0 {
				order = append(order, j.room)
			}
			joined[j.room] = append(joined[j.room], j.frame...)
		}
		for _, r := range order {
			if list := r.members[w.index].Load(); list != nil {
				for _, m := range *list {
					m.write(joined[r])
				}
			}
			joined[r] = joined[r][:0]
		}
		order = order[:0]
		clear(jobs)
	}
}

// bus carries messages between floors: the channel is the group, the payload the finished JSON.
type bus struct {
	client *redis.Client
	sub    *redis.PubSub
	out    chan [2]string

	mu      sync.Mutex // guards the following
	waiting map[string]chan struct{}
}

func newBus(addr string, deliver func(string, []byte)) *bus {
	b := &bus{client: redis.NewClient(&redis.Options{Addr: addr}), out: make(chan [2]string, 4096), waiting: map[string]chan struct{}{}}
	b.sub = b.client.Subscribe(context.Background(), "floor")
	go b.receive(deliver)
	go b.send()
	return b
}

func (b *bus) publish(group string, message []byte) { b.out <- [2]string{group, string(message)} }

func (b *bus) send() {
	ctx := context.Background()
	pipe := b.client.Pipeline()
	for m := range b.out {
		pipe.Publish(ctx, m[0], m[1])
		for n := len(b.out); n > 0 && pipe.Len() < 512; n-- {
			m = <-b.out
			pipe.Publish(ctx, m[0], m[1])
		}
		if _, err := pipe.Exec(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

func (b *bus) subscribe(group string) {
	done := make(chan struct{})
	b.mu.Lock()
	b.waiting[group] = done
	b.mu.Unlock()
	if err := b.sub.Subscribe(context.Background(), group); err != nil {
		log.Fatal(err)
	}
	<-done
}

func (b *bus) receive(deliver func(string, []byte)) {
	for {
		m, err := b.sub.ReceiveTimeout(context.Background(), 0)
		switch m := m.(type) {
		case *redis.Message:
			deliver(m.Channel, []byte(m.Payload))
		case *redis.Subscription:
			b.mu.Lock()
			if done := b.waiting[m.Channel]; done != nil {
				close(done)
				delete(b.waiting, m.Channel)
			}
			b.mu.Unlock()
		}
		if err != nil {
			log.Fatal(fmt.Errorf("receive from Redis: %w", err))
		}
	}
}
