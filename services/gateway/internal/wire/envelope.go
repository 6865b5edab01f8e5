package wire

import (
	"encoding/binary"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// AppendEnvelopeHeader appends what stands before an envelope's JSON. ttl is how long its message may wait for a receiver; 0: for
// any time. Where the data lies in the JSON is only known afterwards, and set by CompleteEnvelope.
func AppendEnvelopeHeader(dst []byte, t webpubsub.DataType, ttl time.Duration) []byte {
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

// CompleteEnvelope completes b, which ends with a header and the JSON of e.
func CompleteEnvelope(b []byte, e protocol.Envelope) {
	header := b[len(b)-len(e.JSON)-8:]
	binary.BigEndian.PutUint32(header, uint32(e.Data))
	binary.BigEndian.PutUint32(header[4:], uint32(e.End))
}

// AppendEnvelope appends an envelope of which all is known. expires is in Unix milliseconds; 0: never.
func AppendEnvelope(dst []byte, e protocol.Envelope, expires int64) []byte {
	dst = append(appendEnvelopeStart(dst, e.DataType, expires), e.JSON...)
	CompleteEnvelope(dst, e)
	return dst
}

// ReadEnvelope takes an envelope apart; expires is zero for a message that never does. The JSON is part of b.
func ReadEnvelope(b []byte) (e protocol.Envelope, expires time.Time, err error) {
	r := Reader{Rest: b}
	if ms := r.Varint(); ms != 0 {
		expires = time.UnixMilli(ms)
	}
	e.DataType = webpubsub.DataType(r.Byte())
	e.Data = int(binary.BigEndian.Uint32(r.Take(4)))
	e.End = int(binary.BigEndian.Uint32(r.Take(4)))
	if e.JSON = r.Rest; !e.Valid() {
		r.Failed = true
	}
	return e, expires, r.Err()
}
