package socket

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// endless is a connection that gives the same frame for ever, and takes everything.
type endless struct {
	net.Conn
	frame []byte
	at    int
}

func (c *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		k := copy(b[n:], c.frame[c.at:])
		n += k
		c.at = (c.at + k) % len(c.frame)
	}
	return n, nil
}

func TestNoAllocationPerMessage(t *testing.T) {
	reader := newSocket(&endless{frame: whole(Text, strings.Repeat("x", 128))}, nil)
	writer, p := pair(t)
	go func() { _, _ = io.Copy(io.Discard, p) }()
	shared := AppendFrame(nil, Text, make([]byte, 128))
	scratch := make([]byte, 0, 256)
	payload := make([]byte, 128)
	for name, do := range map[string]func(){
		"Read":        func() { _, _, _ = reader.Read() },
		"TryWrite":    func() { _, _ = writer.TryWrite(shared) },
		"AppendFrame": func() { _ = AppendFrame(scratch, Text, payload) },
	} {
		for range 100 { // the buffers find their size
			do()
		}
		if n := testing.AllocsPerRun(500, do); n != 0 {
			t.Errorf("%s allocates %v times, want never", name, n)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, n := range []int{128, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSocket(&endless{frame: whole(Text, strings.Repeat("x", n))}, nil)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmask(b *testing.B) {
	for _, n := range []int{16, 128, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				unmask(buf, 0xdeadbeef)
			}
		})
	}
}

func BenchmarkTryWrite(b *testing.B) {
	b.Run("tcp", func(b *testing.B) { s, p := pair(b); benchmarkTryWrite(b, s, p) })
	b.Run("tls", func(b *testing.B) { s, p := securePair(b); benchmarkTryWrite(b, s, p) })
}

func benchmarkTryWrite(b *testing.B, s *Socket, p *peer) {
	go func() { _, _ = io.Copy(io.Discard, p) }()
	frame := AppendFrame(nil, Text, make([]byte, 128))
	b.ReportAllocs()
	for b.Loop() {
		n, err := s.TryWrite(frame)
		if err == nil && n < len(frame) {
			err = s.Write(frame[n:], time.Now().Add(hangTimeout))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
