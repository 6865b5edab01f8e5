package load_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/tests/topology"
)

// faultAt is the number of the delivery, of those to one connection, that goes wrong.
const faultAt = 20

// faulty passes connections on to a gateway, and lets one delivery to the first of them go wrong: fault gets it and the one
// after it, and returns what is to arrive instead.
func faulty(t *testing.T, gateway string, fault func(this, next []byte) []byte) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var connections atomic.Int64
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			f := fault
			if connections.Add(1) > 1 {
				f = nil
			}
			go pass(client, strings.TrimPrefix(gateway, "http://"), f)
		}
	}()
	return "http://" + l.Addr().String()
}

// pass connects client with the gateway until one of them ends.
func pass(client net.Conn, gateway string, fault func(this, next []byte) []byte) {
	defer client.Close()
	server, err := net.Dial("tcp", gateway)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	from := bufio.NewReader(server)
	for line := ""; line != "\r\n"; { // the answer to the handshake
		if line, err = from.ReadString('\n'); err != nil {
			return
		}
		_, _ = io.WriteString(client, line)
	}
	deliveries := 0
	var held []byte
	for {
		frame, err := readFrame(from)
		if err != nil {
			return
		}
		if bytes.IndexByte(frame, '~') >= 0 { // only deliveries carry what says which message they are
			deliveries++
		}
		switch {
		case fault != nil && deliveries == faultAt && held == nil:
			held = frame
			continue
		case held != nil && deliveries == faultAt+1:
			frame, held, fault = fault(held, frame), nil, nil
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

// readFrame reads an unmasked frame, head and all (RFC 6455 section 5.2).
func readFrame(r *bufio.Reader) ([]byte, error) {
	frame := make([]byte, 2, 64)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	size, more := uint64(frame[1]), map[byte]int{126: 2, 127: 8}[frame[1]]
	if more > 0 {
		var wide [8]byte
		if _, err := io.ReadFull(r, wide[8-more:]); err != nil {
			return nil, err
		}
		size = binary.BigEndian.Uint64(wide[:])
		frame = append(frame, wide[8-more:]...)
	}
	whole := append(frame, make([]byte, size)...)
	_, err := io.ReadFull(r, whole[len(frame):])
	return whole, err
}

// TestFaultsBetweenWorkersAreFound lets what one worker sends go wrong on the way to a connection of another.
func TestFaultsBetweenWorkersAreFound(t *testing.T) {
	gateway := topology.Standalone(t, topology.Options{}).Gateways[0]
	for name, tt := range map[string]struct {
		fault func(this, next []byte) []byte
		want  [3]int64 // lost, doubled, reordered
	}{
		"loss":      {func(_, next []byte) []byte { return next }, [3]int64{1, 0, 0}},
		"duplicate": {func(this, next []byte) []byte { return joined(this, this, next) }, [3]int64{0, 1, 0}},
		"swap":      {func(this, next []byte) []byte { return joined(next, this) }, [3]int64{0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "result.json")
			// Connections 0, 2 and 4 are of the first worker and go to the gateway, 1 and 3 are of the second one and go
			// through the proxy; number 4 does all the publishing.
			endpoints := gateway.URL + "," + faulty(t, gateway.URL, tt.fault)
			out, status := runTeam(t, 2, nil, "--endpoint", endpoints, "--hub", "hub"+name, "--connections=4", "--groups-count=1", "--publish-outside=1", "--publish-rate=100",
				"--ramp=0s", "--warmup=0s", "--duration=2s", "--in-flight=0s", "--settle=1m", "--output", file, "--fail-if=faults>0")
			r, err := result.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]int64{r.Truth.Lost, r.Truth.Doubled, r.Truth.Reordered}; status != 1 || got != tt.want || r.Truth.Stray != 0 || len(r.Errors) > 0 {
				t.Errorf("got status %d, %v lost, doubled, reordered, %d stray, errors %v; want 1 and %v", status, got, r.Truth.Stray, r.Errors, tt.want)
			}
			if !strings.Contains(out, "of user-4's messages to group-0") || !strings.Contains(out, fmt.Sprintf("the first being number %d", faultAt)) {
				t.Error("the summary does not say whose message it was")
			}
		})
	}
}

// joined puts frames one behind the other.
func joined(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
