// Package wire is what one node says to another over the bus: orders, the answers to them, and the strings and numbers
// in both.
//
// Nodes of two versions talk to each other while a deployment is upgraded, so what stands here does not change: a new
// verb gets the next number, and what is known keeps its form.
package wire

import (
	"encoding/binary"
	"errors"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// Verb says what a node wants of others. Its number is what travels: it is never used for anything else.
type Verb byte

// The verbs. What is asked is answered with a Status, unless something else is said.
const (
	VerbMessage Verb = iota + 1 // told; args: an envelope
	VerbClose                   // told; args: the reason's text
	VerbExists                  // asked
	VerbJoin                    // asked; args: groups
	VerbLeave                   // asked; args: groups, none for all
	VerbGrant                   // asked; args: permission, group
	VerbRevoke                  // asked; args: permission, group
	VerbAllowed                 // asked; args: permission, group
	VerbMembers                 // asked; args: after, limit; answered with pairs of connection id and user id

	// The steps of a handoff; their args begin with its token.
	VerbHandoffBegin  // asked; args: credential
	VerbHandoffRead   // asked of a node; args: part, offset
	VerbHandoffCommit // asked of a node
	VerbHandoffCancel // told to a node
	VerbHandoffMark   // told

	VerbState  // told; args: an item of group state
	VerbStates // asked; answered with all items, without a status

	VerbTrace // told; args: a frame for those who listen to a tenant's trace
)

// Order is what a node is told or asked. Its strings and bytes point into the payload it was read from.
type Order struct {
	Verb   Verb
	Origin Origin           // of what is kept on the bus (cluster.Bus.PostKept); without a publisher: it is not
	Target webpubsub.HubKey // the hub of the connection that is meant, when Conn is not empty
	Conn   string           // a connection's id; empty: those on the list of the topic that the order came by
	Except []string         // ids of connections that are not meant
	Filter string           // limits who is meant; empty: everybody
	Args   []byte           // what else the verb needs
}

// AppendHeader appends the order without its args.
func (o *Order) AppendHeader(dst []byte) []byte {
	dst = append(dst, byte(o.Verb))
	dst = AppendString(dst, o.Conn)
	if o.Conn != "" {
		dst = AppendString(dst, o.Target.Tenant)
		dst = AppendString(dst, o.Target.Hub)
	}
	dst = o.appendExcept(dst)
	return AppendString(dst, o.Filter)
}

// appendExcept appends the ids that are not meant, the origin before them.
func (o *Order) appendExcept(dst []byte) []byte {
	if !o.Origin.IsKept() {
		return AppendStrings(dst, o.Except)
	}
	dst = binary.AppendUvarint(dst, uint64(1+len(o.Except)))
	dst = o.Origin.append(dst)
	for _, id := range o.Except {
		dst = AppendString(dst, id)
	}
	return dst
}

// Append appends the whole order.
func (o *Order) Append(dst []byte) []byte { return append(o.AppendHeader(dst), o.Args...) }

// ErrMalformed says that an order, or an answer, is none that a node of ours would send.
var ErrMalformed = errors.New("malformed order from another node")

// Read takes an order apart, or returns ErrMalformed.
func (o *Order) Read(b []byte) error {
	r := Reader{Rest: b}
	o.Verb = Verb(r.Byte())
	if o.Conn = r.String(); o.Conn != "" {
		o.Target = webpubsub.HubKey{Tenant: r.String(), Hub: r.String()}
	}
	except := r.Length()
	if o.Origin = r.origin(except); o.Origin.IsKept() {
		except--
	}
	o.Except, o.Filter = r.strings(except), r.String()
	o.Args = r.Rest
	return r.Err()
}

// ConnIn returns the connection that the order names, if it is among conns and in the order's hub, else nil.
func (o *Order) ConnIn(conns *hub.Registry) *hub.Conn {
	if c := conns.Conn(o.Conn); c != nil && c.Hub == o.Target {
		return c
	}
	return nil
}

// AppendString appends s with its length before it.
func AppendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendStrings appends a list with its length before it.
func AppendStrings(dst []byte, s []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	for _, x := range s {
		dst = AppendString(dst, x)
	}
	return dst
}

// AppendBool appends b.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// Reader takes a payload apart. Past its end it gives zeros and has failed.
type Reader struct {
	Rest   []byte // what has not been read
	Failed bool
}

// Err returns ErrMalformed if the reader has failed.
func (r *Reader) Err() error {
	if r.Failed {
		return ErrMalformed
	}
	return nil
}

var zeros [8]byte

// Take reads n bytes, which are part of the payload.
func (r *Reader) Take(n int) []byte {
	if n > len(r.Rest) {
		r.Failed, r.Rest = true, nil
		return zeros[:min(n, len(zeros))]
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Byte reads a byte.
func (r *Reader) Byte() byte { return r.Take(1)[0] }

// Length reads a length of which so many bytes follow, at least.
func (r *Reader) Length() int {
	n, size := binary.Uvarint(r.Rest)
	if size <= 0 || n > uint64(len(r.Rest)-size) {
		r.Failed, r.Rest = true, nil
		return 0
	}
	r.Rest = r.Rest[size:]
	return int(n)
}

// Varint reads a number that may be negative.
func (r *Reader) Varint() int64 {
	n, size := binary.Varint(r.Rest)
	if size <= 0 {
		r.Failed, r.Rest = true, nil
		return 0
	}
	r.Rest = r.Rest[size:]
	return n
}

// Uvarint reads a number.
func (r *Reader) Uvarint() uint64 {
	n, size := binary.Uvarint(r.Rest)
	if size <= 0 {
		r.Failed, r.Rest = true, nil
		return 0
	}
	r.Rest = r.Rest[size:]
	return n
}

// String reads a string, as a copy.
func (r *Reader) String() string {
	if n := r.Length(); n > 0 {
		return string(r.Take(n))
	}
	return ""
}

// Strings reads a list of strings, as copies.
func (r *Reader) Strings() []string { return r.strings(r.Length()) }

func (r *Reader) strings(n int) (s []string) {
	for ; n > 0 && !r.Failed; n-- {
		s = append(s, r.String())
	}
	return s
}
