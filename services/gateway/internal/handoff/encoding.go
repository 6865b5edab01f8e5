package handoff

import (
	"encoding/binary"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// The args of an order about a handoff begin with its token.
func readToken(args []byte) (token string, ok bool) {
	r := wire.Reader{Rest: args}
	token = r.String()
	return token, token != "" && !r.Failed
}

// appendChunk appends what a destination wants to read next.
func appendChunk(dst []byte, part, offset int) []byte {
	return binary.AppendUvarint(append(dst, byte(part)), uint64(offset))
}

func readChunk(args []byte) (part, offset int, ok bool) {
	r := wire.Reader{Rest: args}
	_ = r.String() // the token
	part, offset = int(r.Byte()), int(min(r.Uvarint(), 1<<40))
	return part, offset, !r.Failed && part < partCount
}

func (s *ConnState) encode() []byte {
	b := wire.AppendString(wire.AppendString(nil, s.UserID), s.Subprotocol)
	b = wire.AppendBool(b, s.adopted)
	for perm, all := range s.Permissions.All {
		b = wire.AppendStrings(wire.AppendBool(b, all), s.Permissions.Patterns[perm])
		b = binary.AppendUvarint(b, uint64(len(s.Permissions.Literal[perm])))
		for group, allow := range s.Permissions.Literal[perm] {
			b = wire.AppendBool(wire.AppendString(b, group), allow)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.acks)))
	for _, id := range s.acks {
		b = binary.AppendUvarint(b, id)
	}
	return append(wire.AppendStrings(b, s.Groups), s.Exported...)
}

func decodeConnState(b []byte) (s ConnState, err error) {
	r := wire.Reader{Rest: b}
	s.UserID, s.Subprotocol, s.adopted = r.String(), r.String(), r.Byte() != 0
	for perm := range s.Permissions.All {
		s.Permissions.All[perm], s.Permissions.Patterns[perm] = r.Byte() != 0, r.Strings()
		s.Permissions.Literal[perm] = map[string]bool{}
		for n := r.Length(); n > 0 && !r.Failed; n-- {
			group := r.String()
			s.Permissions.Literal[perm][group] = r.Byte() != 0
		}
	}
	for n := r.Length(); n > 0 && !r.Failed; n-- {
		s.acks = append(s.acks, r.Uvarint())
	}
	s.Groups, s.Exported = r.Strings(), r.Rest
	return s, r.Err()
}

func encodeKept(k hub.Unacked) []byte {
	b := binary.AppendUvarint(nil, k.Last)
	b = binary.AppendUvarint(b, uint64(len(k.Messages)))
	var scratch []byte
	for _, m := range k.Messages {
		scratch = wire.AppendEnvelope(scratch[:0], m.Envelope(), m.Expires())
		b = append(binary.AppendUvarint(b, uint64(len(scratch))), scratch...)
	}
	return b
}

func decodeKept(b []byte) (k hub.Unacked, err error) {
	r := wire.Reader{Rest: b}
	k.Last = r.Uvarint()
	for n := r.Length(); n > 0 && !r.Failed; n-- {
		e, expires, err := wire.ReadEnvelope(r.Take(r.Length()))
		if err != nil {
			return k, err
		}
		k.Messages = append(k.Messages, hub.NewMessage(e, hub.MessageOptions{Expires: expires}))
	}
	return k, r.Err()
}
