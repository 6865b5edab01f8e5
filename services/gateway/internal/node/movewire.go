package node

import (
	"encoding/binary"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// The args of an order about a move begin with its token.
func readToken(args []byte) (token string, ok bool) {
	r := reader{rest: args}
	token = r.string()
	return token, token != "" && !r.failed
}

// appendChunk appends what a taker wants to read next.
func appendChunk(dst []byte, part, offset int) []byte {
	return binary.AppendUvarint(append(dst, byte(part)), uint64(offset))
}

func readChunk(args []byte) (part, offset int, ok bool) {
	r := reader{rest: args}
	_ = r.string() // the token
	part, offset = int(r.byte()), int(min(r.uvarint(), 1<<40))
	return part, offset, !r.failed && part < partCount
}

func (t *Traveller) encode() []byte {
	b := appendString(appendString(nil, t.UserID), t.Subprotocol)
	b = appendBool(b, t.adopted)
	for perm, all := range t.Permissions.All {
		b = appendStrings(appendBool(b, all), t.Permissions.Patterns[perm])
		b = binary.AppendUvarint(b, uint64(len(t.Permissions.Literal[perm])))
		for group, allow := range t.Permissions.Literal[perm] {
			b = appendBool(appendString(b, group), allow)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.acks)))
	for _, id := range t.acks {
		b = binary.AppendUvarint(b, id)
	}
	return append(appendStrings(b, t.Groups), t.Luggage...)
}

func decodeTraveller(b []byte) (t Traveller, err error) {
	r := reader{rest: b}
	t.UserID, t.Subprotocol, t.adopted = r.string(), r.string(), r.byte() != 0
	for perm := range t.Permissions.All {
		t.Permissions.All[perm], t.Permissions.Patterns[perm] = r.byte() != 0, r.strings()
		t.Permissions.Literal[perm] = map[string]bool{}
		for n := r.length(); n > 0 && !r.failed; n-- {
			group := r.string()
			t.Permissions.Literal[perm][group] = r.byte() != 0
		}
	}
	for n := r.length(); n > 0 && !r.failed; n-- {
		t.acks = append(t.acks, r.uvarint())
	}
	t.Groups, t.Luggage = r.strings(), r.rest
	return t, r.err()
}

func encodeKept(k hub.Unacked) []byte {
	b := binary.AppendUvarint(nil, k.Last)
	b = binary.AppendUvarint(b, uint64(len(k.Messages)))
	var scratch []byte
	for _, m := range k.Messages {
		e := m.Envelope()
		scratch = appendEnvelopeStart(scratch[:0], e.DataType, m.Expires())
		scratch = append(scratch, e.JSON...)
		setEnvelope(scratch, e)
		b = append(binary.AppendUvarint(b, uint64(len(scratch))), scratch...)
	}
	return b
}

func decodeKept(b []byte) (k hub.Unacked, err error) {
	r := reader{rest: b}
	k.Last = r.uvarint()
	for n := r.length(); n > 0 && !r.failed; n-- {
		e, expires, err := readEnvelope(r.take(r.length()))
		if err != nil {
			return k, err
		}
		k.Messages = append(k.Messages, hub.NewMessage(e, hub.MessageOptions{Expires: expires}))
	}
	return k, r.err()
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}
