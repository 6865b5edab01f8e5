package protocol

import (
	"bytes"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// metadataHead is what stands behind the data of a message that has metadata (client-json.md 3.3).
const metadataHead = `,"metadata":{`

// appendMetadata appends the member, unless there is no metadata.
func appendMetadata(dst []byte, m webpubsub.Metadata) []byte {
	if len(m) == 0 {
		return dst
	}
	dst = append(dst, metadataHead...)
	for i, x := range m {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, x.Key), ':')
		dst = appendString(dst, x.Value)
	}
	return append(dst, '}')
}

// metadata reads what a request says, or a message.
func (o *object) metadata() (webpubsub.Metadata, error) {
	t := o.toks[mMetadata]
	if t.Absent() {
		return nil, nil
	}
	if t.Kind != '{' {
		return nil, errMetadata
	}
	m, err := readMetadata(o.b[t.Start+1 : t.End])
	if err != nil {
		return nil, err
	}
	return m, checkMetadata(m)
}

var errMetadata = invalid("metadata must be an object of strings")

func checkMetadata(m webpubsub.Metadata) error {
	if len(m) == 0 {
		return nil
	}
	if err := m.Check(); err != nil {
		return invalid("%s", err)
	}
	return nil
}

// tooMany reports whether m is over the limit even if it only had keys of one byte.
func tooMany(m webpubsub.Metadata) bool { return len(m) > webpubsub.MaxMetadata }

// readMetadata reads the object with whose inside b begins. It stops where there is too much, which is left to be found.
func readMetadata(b []byte) (m webpubsub.Metadata, err error) {
	s := jsonscan.New(b)
	if s.Eat('}') {
		return nil, nil
	}
	for !tooMany(m) {
		name, value, err := s.Pair()
		if err != nil || value.Kind != '"' {
			return nil, errMetadata
		}
		m = append(m, webpubsub.Metadatum{Key: string(name.Text(b)), Value: string(value.Text(b))})
		if !s.Eat(',') {
			break
		}
	}
	return m, nil
}

// metadata returns what goes with the message's data.
func (e Envelope) metadata() webpubsub.Metadata {
	b, ok := bytes.CutPrefix(e.JSON[e.End:], []byte(metadataHead))
	if !ok {
		return nil
	}
	m, _ := readMetadata(b) // was checked when it was accepted
	return m
}

// appendMetadataFields appends an entry of a map under tag for each.
func appendMetadataFields(dst []byte, tag uint64, m webpubsub.Metadata) []byte {
	for _, x := range m {
		start := len(dst)
		dst = appendText(dst, entryKey, x.Key)
		dst = enclose(appendText(dst, entryValue, x.Value), start, tag)
	}
	return dst
}

// metadataEntry adds the entry of a map that the field is.
func (f *fields) metadataEntry(m webpubsub.Metadata) webpubsub.Metadata {
	if tooMany(m) {
		return m
	}
	return append(m, f.entry())
}

// entry reads the entry of a map that the field is.
func (f *fields) entry() (x webpubsub.Metadatum) {
	entry := fields{rest: f.b}
	for entry.next() {
		switch entry.tag {
		case entryKey:
			x.Key = string(entry.text())
		case entryValue:
			x.Value = string(entry.text())
		}
	}
	f.fail(entry.err)
	return x
}
