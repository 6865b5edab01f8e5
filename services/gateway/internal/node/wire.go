package node

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// verb says what a node asks others for.
type verb byte

const (
	verbMessage verb = iota + 1 // told; args: an envelope
	verbClose                   // told; args: the reason's text
	verbExists                  // asked
	verbJoin                    // asked; args: groups
	verbLeave                   // asked; args: groups, none for all
	verbGrant                   // asked; args: permission, group
	verbRevoke                  // likewise
	verbAllowed                 // likewise
	verbMembers                 // asked; args: after, limit

	// The steps of a move; their args begin with its token.
	verbMoveBegin  // asked; args: credential
	verbMoveRead   // asked of a node; args: part, offset
	verbMoveCommit // asked of a node
	verbMoveCancel // told to a node
	verbMoveMark   // told

	verbState  // told; args: an item of group state
	verbStates // asked: all of them

	verbTrace // told; args: a frame for who listens to a tenant's trace
)

// order is what travels between nodes. Its strings and bytes point into the payload it was read from.
type order struct {
	verb   verb
	target webpubsub.HubKey // of the connection that is meant, when conn is not empty
	conn   string           // empty: those on the list of the topic that it came by
	except []string
	filter string
	args   []byte
}

// header appends an order without its args.
func (o *order) header(dst []byte) []byte {
	dst = append(dst, byte(o.verb))
	dst = appendString(dst, o.conn)
	if o.conn != "" {
		dst = appendString(dst, o.target.Tenant)
		dst = appendString(dst, o.target.Hub)
	}
	dst = appendStrings(dst, o.except)
	return appendString(dst, o.filter)
}

func (o *order) encode(dst []byte) []byte { return append(o.header(dst), o.args...) }

var errOrder = errors.New("malformed order from another node")

// read takes an order apart.
func (o *order) read(b []byte) error {
	r := reader{rest: b}
	o.verb = verb(r.byte())
	if o.conn = r.string(); o.conn != "" {
		o.target = webpubsub.HubKey{Tenant: r.string(), Hub: r.string()}
	}
	o.except, o.filter = r.strings(), r.string()
	o.args = r.rest
	return r.err()
}

// appendEnvelopeHeader appends what stands before an envelope's JSON. Where the data lies in that is only known
// afterwards, and set by setEnvelope.
func appendEnvelopeHeader(dst []byte, t webpubsub.DataType, ttl time.Duration) []byte {
	var expires int64
	if ttl > 0 {
		expires = time.Now().Add(ttl).UnixMilli()
	}
	return appendEnvelopeStart(dst, t, expires)
}

func appendEnvelopeStart(dst []byte, t webpubsub.DataType, expires int64) []byte {
	dst = binary.AppendVarint(dst, expires)
	return append(dst, byte(t), 0, 0, 0, 0, 0, 0, 0, 0)
}

// setEnvelope completes b, which ends with the JSON of e.
func setEnvelope(b []byte, e protocol.Envelope) {
	header := b[len(b)-len(e.JSON)-8:]
	binary.BigEndian.PutUint32(header, uint32(e.Data))
	binary.BigEndian.PutUint32(header[4:], uint32(e.End))
}

func readEnvelope(b []byte) (e protocol.Envelope, expires time.Time, err error) {
	r := reader{rest: b}
	if ms := r.varint(); ms != 0 {
		expires = time.UnixMilli(ms)
	}
	e.DataType = webpubsub.DataType(r.byte())
	e.Data = int(binary.BigEndian.Uint32(r.take(4)))
	e.End = int(binary.BigEndian.Uint32(r.take(4)))
	if e.JSON = r.rest; !e.Valid() {
		r.failed = true
	}
	return e, expires, r.err()
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendStrings(dst []byte, s []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	for _, x := range s {
		dst = appendString(dst, x)
	}
	return dst
}

// reader takes a payload apart. Past its end it gives zeros and fails.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) err() error {
	if r.failed {
		return errOrder
	}
	return nil
}

var zeros [8]byte

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.failed, r.rest = true, nil
		return zeros[:min(n, len(zeros))]
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) length() int {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(len(r.rest)-size) {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) string() string {
	if n := r.length(); n > 0 {
		return string(r.take(n))
	}
	return ""
}

func (r *reader) strings() (s []string) {
	for n := r.length(); n > 0 && !r.failed; n-- {
		s = append(s, r.string())
	}
	return s
}
