package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// dialect is what a client says to a kind of server. What it hears is only searched: for answers during set-up, and
// for markers when deliveries are counted.
type dialect interface {
	// endpoint returns the path and the subprotocol of the handshake; the latter may be empty.
	endpoint() (path, subprotocol string)
	// greet returns what a client hears first, what it says to that, if anything, and what it hears then.
	greet() (hear string, say []byte, then string)
	// join returns the frame that joins a group, and what the answer to it contains.
	join(group string) (frame []byte, hear string)
	// send returns the frame that sends data to a group.
	send(group string, data []byte) []byte
	// ack returns the frame that acknowledges n messages, nil when nobody waits for it.
	ack(n uint64) []byte
}

// azure is the Web PubSub protocol in one of its subprotocols.
type azure struct {
	codec protocol.Codec
	token string // empty: the server wants none
}

func (d azure) endpoint() (path, subprotocol string) {
	path = "/client/hubs/bench"
	if d.token != "" {
		path += "?access_token=" + d.token
	}
	return path, d.codec.Name()
}

func (d azure) greet() (hear string, say []byte, then string) {
	if d.codec.Binary() {
		return "\x1a", nil, "" // field 3, a system message
	}
	return `"connected"`, nil, ""
}

func (d azure) join(group string) ([]byte, string) {
	r := protocol.Request{Kind: protocol.JoinGroup, Group: group, HasAck: true, AckID: 1}
	if d.codec.Binary() {
		return d.frame(&r), "\x10\x01" // success
	}
	return d.frame(&r), `"success":true`
}

func (d azure) send(group string, data []byte) []byte {
	r := protocol.Request{Kind: protocol.SendToGroup, Group: group}
	r.SetData(webpubsub.Data{Type: webpubsub.DataText, Bytes: data})
	return d.frame(&r)
}

func (d azure) ack(n uint64) []byte {
	if !d.codec.Reliable() {
		return nil
	}
	return d.frame(&protocol.Request{Kind: protocol.SequenceAck, SequenceID: n})
}

func (d azure) frame(r *protocol.Request) []byte {
	return masked(d.codec.Binary(), d.codec.AppendRequest(nil, r))
}

// nats is the text protocol of NATS over WebSocket.
type nats struct{}

func (nats) endpoint() (string, string) { return "/", "" }

func (nats) greet() (hear string, say []byte, then string) {
	return "INFO ", masked(true, []byte("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")), "PONG"
}

func (nats) join(group string) ([]byte, string) {
	return masked(true, []byte("SUB "+group+" 1\r\nPING\r\n")), "PONG"
}

func (nats) send(group string, data []byte) []byte {
	return masked(true, fmt.Appendf(nil, "PUB %s %d\r\n%s\r\n", group, len(data), data))
}

func (nats) ack(uint64) []byte { return nil }

// socketIO is Engine.IO 4 and Socket.IO 5 over a bare WebSocket, with the events of socketio.mjs.
type socketIO struct{}

func (socketIO) endpoint() (string, string) { return "/socket.io/?EIO=4&transport=websocket", "" }

func (socketIO) greet() (hear string, say []byte, then string) {
	return `0{`, masked(false, []byte("40")), `40{`
}

func (socketIO) join(group string) ([]byte, string) {
	return masked(false, []byte(`421["join",`+strconv.Quote(group)+`]`)), "431["
}

func (socketIO) send(group string, data []byte) []byte {
	return masked(false, fmt.Appendf(nil, `42["send",%q,%q]`, group, data))
}

func (socketIO) ack(uint64) []byte { return nil }

// masked returns a client's frame. Its mask is zero, which is one as good as others for the server and leaves the
// payload readable, so that a stamp can be set in a finished frame.
func masked(binary bool, payload []byte) []byte {
	b := []byte{0x81}
	if binary {
		b[0] = 0x82
	}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// A payload begins with a marker, which occurs nowhere else (one byte would, as the length of a frame), and the time it
// was due as hexadecimal nanoseconds.
const (
	marker    = "^|"
	stampSize = 16
	headSize  = len(marker) + stampSize
)

func payload(size int) []byte {
	return []byte(marker + strings.Repeat("0", stampSize) + strings.Repeat("x", max(0, size-headSize)))
}
