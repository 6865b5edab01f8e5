package testkit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// dialLink returns a function that sends a line over a connection through l and returns what comes back; empty when nothing does.
func dialLink(t *testing.T, l *Link) (say func(line string) string, conn net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := bufio.NewReader(conn)
	return func(line string) string {
		fmt.Fprintf(conn, "%s\r\n", line)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		got, _ := r.ReadString('\n')
		return got
	}, conn
}

// silent reports that nothing comes, and no end either.
func silent(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return os.IsTimeout(err)
}

func TestLinkCutsAndHangs(t *testing.T) {
	redis, other := Redis(t), Redis(t)
	l := NewLink(t, redis.Addr)
	say, conn := dialLink(t, l)
	if got := say("PING"); got != "+PONG\r\n" {
		t.Fatalf("through the link: got %q", got)
	}
	l.SetTarget(other.Addr)
	if got := say("SET where first"); got != "+OK\r\n" {
		t.Fatalf("a connection that is there: got %q", got)
	}
	if got := ask(t, redis.Addr, "STRLEN where"); got != ":5" {
		t.Errorf("a connection that was there went elsewhere: got %q", got)
	}
	elsewhere, _ := dialLink(t, l)
	if got := elsewhere("STRLEN where"); got != ":0\r\n" {
		t.Errorf("a new connection: got %q, want that of the new target", got)
	}

	for _, way := range []Way{Up, Down, Both} {
		l.Hang(way)
		fmt.Fprint(conn, "PING\r\n")
		if !silent(conn) {
			t.Errorf("way %b: something comes through", way)
		}
		l.Mend()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		pong := make([]byte, 7)
		if _, err := conn.Read(pong); err != nil || string(pong) != "+PONG\r\n" {
			t.Errorf("way %b: after it: got %q, %v", way, pong, err)
		}
	}

	l.Cut()
	if got := say("PING"); got != "" {
		t.Errorf("over a link that is cut: got %q", got)
	}
	if conn, err := net.Dial("tcp", l.Addr); err == nil { // it may be refused at once
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
			t.Errorf("a new connection over a link that is cut: got %d bytes, %v; want its end", n, err)
		}
		_ = conn.Close()
	}
	l.Mend()
	mended, _ := dialLink(t, l)
	if got := mended("PING"); got != "+PONG\r\n" {
		t.Errorf("after it: got %q", got)
	}
}

func TestLinkHangsSubscribersAlone(t *testing.T) {
	redis := Redis(t)
	l := NewLink(t, redis.Addr)
	say, _ := dialLink(t, l)
	_, listener := dialLink(t, l)
	fmt.Fprint(listener, "*2\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n")
	heard := func() string {
		_ = listener.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 200)
		n, _ := listener.Read(b)
		return string(b[:n])
	}
	if got := heard(); got == "" {
		t.Fatal("not subscribed")
	}
	l.Hang(Subscribed)
	if got := say("PUBLISH c hello"); got != ":1\r\n" {
		t.Errorf("publish: got %q, want one who should hear", got)
	}
	if !silent(listener) {
		t.Error("the subscriber hears")
	}
	l.Mend()
	if got := heard(); got == "" {
		t.Error("the subscriber does not hear what was held back")
	}
}

// A machine that vanishes says nothing, not even that it is gone.
func TestLinkGone(t *testing.T) {
	redis := Redis(t)
	l := NewLink(t, redis.Addr)
	say, conn := dialLink(t, l)
	say("PING")
	id := say("CLIENT ID")
	clients := func() bool { return len(ask(t, redis.Addr, "CLIENT LIST ID "+id[1:len(id)-2])) > len("$0") }
	if !clients() {
		t.Fatal("Redis does not have the connection")
	}
	l.Hang(Gone)
	_ = conn.Close()
	for range 100 { // each is a connection of its own, which Redis takes and ends before the next
		if !clients() {
			t.Fatal("Redis has heard of the end")
		}
	}
	l.Mend()
	Eventually(t, patience, func() bool { return !clients() }, "Redis hears of the end")
}
