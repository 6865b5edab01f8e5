package truth

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

// Stamp is what a payload says of itself: enough to tell, wherever it arrives, which message it is and since when
// it was due.
type Stamp struct {
	Stream uint32
	Number uint32
	Due    int64 // nanoseconds since the start of the run
}

// StampSize is the length of a stamp in bytes, and so the least size of a payload.
const StampSize = 1 + 8 + 2*(4+4+8)

// mark starts a stamp. Names that the lab makes do not contain it.
const mark = '~'

// Run sets the stamps of one run apart from those of others on the same hub.
type Run [8]byte

// NewRun returns the run with the given number.
func NewRun(number uint32) (r Run) {
	hex.Encode(r[:], binary.BigEndian.AppendUint32(nil, number))
	return r
}

// Append appends a payload of the given size: the stamp, then letters. A size below StampSize gives the stamp alone.
func (r Run) Append(dst []byte, s Stamp, size int) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[:], s.Stream)
	binary.BigEndian.PutUint32(raw[4:], s.Number)
	binary.BigEndian.PutUint64(raw[8:], uint64(s.Due))
	dst = append(dst, mark)
	dst = append(dst, r[:]...)
	dst = hex.AppendEncode(dst, raw[:])
	for i := StampSize; i < size; i++ {
		dst = append(dst, 'a'+byte(i*7%26))
	}
	return dst
}

// Find returns the first stamp of this run in b. It needs no decoding of what is around it: a stamp looks the same
// inside JSON and outside.
func (r Run) Find(b []byte) (Stamp, bool) {
	for {
		i := bytes.IndexByte(b, mark)
		if i < 0 || len(b)-i < StampSize {
			return Stamp{}, false
		}
		b = b[i+1:]
		var raw [16]byte
		if [8]byte(b[:8]) != r {
			continue
		}
		if _, err := hex.Decode(raw[:], b[8:8+32]); err != nil {
			continue
		}
		return Stamp{
			Stream: binary.BigEndian.Uint32(raw[:]),
			Number: binary.BigEndian.Uint32(raw[4:]),
			Due:    int64(binary.BigEndian.Uint64(raw[8:])),
		}, true
	}
}
