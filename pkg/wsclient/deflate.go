package wsclient

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
)

// Compression by permessage-deflate (RFC 7692), without context takeover: each message by itself.
const (
	deflateOffer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
	deflateFrom  = 512 // bytes of a message that is worth it
)

// deflateAgreed reports whether the server has chosen what was offered. Whatever else it wants of us, a smaller window say,
// we would not keep to.
func deflateAgreed(chosen string) bool {
	parameters := strings.Split(chosen, ";")
	ours := false
	for i, p := range parameters {
		switch p = strings.TrimSpace(p); {
		case i == 0 && p == "permessage-deflate", p == "client_no_context_takeover", strings.HasPrefix(p, "server_max_window_bits="):
		case i > 0 && p == "server_no_context_takeover":
			ours = true
		default:
			return false
		}
	}
	return ours
}

// deflate compresses what one goroutine sends at a time, and expands what one reads.
type deflate struct {
	out    bytes.Buffer
	writer *flate.Writer

	in     bytes.Buffer
	reader io.ReadCloser
}

// What ends a message and is left out of it (RFC 7692 section 7.2), and a last block behind it, for our reader.
const (
	deflateTail = "\x00\x00\xff\xff"
	deflateEnd  = deflateTail + "\x01\x00\x00\xff\xff"
)

// compress returns payload compressed, valid until the next call.
func (d *deflate) compress(payload []byte) []byte {
	d.out.Reset()
	if d.writer == nil {
		d.writer, _ = flate.NewWriter(&d.out, flate.BestSpeed) // fails for unknown levels only
	} else {
		d.writer.Reset(&d.out)
	}
	_, _ = d.writer.Write(payload) // a buffer takes all
	_ = d.writer.Flush()
	return bytes.TrimSuffix(d.out.Bytes(), []byte(deflateTail))
}

// expand returns what payload was before it was compressed, valid until the next call.
func (d *deflate) expand(payload []byte) ([]byte, error) {
	compressed := io.MultiReader(bytes.NewReader(payload), strings.NewReader(deflateEnd))
	if d.reader == nil {
		d.reader = flate.NewReader(compressed)
	} else {
		_ = d.reader.(flate.Resetter).Reset(compressed, nil) // never fails
	}
	d.in.Reset()
	if n, err := io.Copy(&d.in, io.LimitReader(d.reader, maxMessage+1)); err != nil {
		return nil, fmt.Errorf("the server sent a message that cannot be expanded: %w", err)
	} else if n > maxMessage {
		return nil, fmt.Errorf("the server sent a message of more than %d bytes", maxMessage)
	}
	return d.in.Bytes(), nil
}
