package webpubsub

import (
	"fmt"
	"strings"
)

// Limits of metadata in bytes (protocol/client-json.md 3.3).
const (
	MaxMetadataKey   = 256
	MaxMetadataValue = 1024
	MaxMetadata      = 8 << 10 // keys and values together
)

// Metadata are named strings that go with data, in the order given: PubSub clients and event handlers see them, simple
// clients do not. Their keys differ in more than letter case.
type Metadata []Metadatum

// Metadatum is one of them.
type Metadatum struct{ Key, Value string }

// MetadataError says what is wrong with metadata.
type MetadataError struct {
	Key  string // of which; empty when it has none, or all together are too many
	Text string
}

func (e *MetadataError) Error() string { return e.Text }

// Check returns a *MetadataError when a protocol cannot carry the metadata. They travel as HTTP headers too, which
// decides what characters they have.
func (m Metadata) Check() error {
	total := 0
	seen := make(map[string]bool, len(m))
	for _, x := range m {
		if err := x.check(); err != nil {
			return err
		}
		key := strings.ToLower(x.Key)
		if seen[key] {
			return wrongMetadata(x.Key, "metadata %.40q is given more than once", x.Key)
		}
		seen[key] = true
		if total += len(x.Key) + len(x.Value); total > MaxMetadata {
			return wrongMetadata("", "the metadata has more than %d bytes", MaxMetadata)
		}
	}
	return nil
}

func (x Metadatum) check() error {
	switch {
	case x.Key == "" || len(x.Key) > MaxMetadataKey:
		return wrongMetadata(x.Key, "a metadata key has %d bytes; 1 to %d are allowed", len(x.Key), MaxMetadataKey)
	case strings.IndexFunc(x.Key, notInKey) >= 0:
		return wrongMetadata(x.Key, "metadata key %.40q is invalid: letters, digits and any of !#$%%&'*+-.^_`|~ are allowed", x.Key)
	case len(x.Value) > MaxMetadataValue:
		return wrongMetadata(x.Key, "metadata %.40q has %d bytes; at most %d are allowed", x.Key, len(x.Value), MaxMetadataValue)
	case strings.IndexFunc(x.Value, notInValue) >= 0:
		return wrongMetadata(x.Key, "metadata %.40q must be printable ASCII", x.Key)
	}
	return nil
}

func wrongMetadata(key, format string, args ...any) error {
	return &MetadataError{Key: key, Text: fmt.Sprintf(format, args...)}
}

// notInKey reports whether r cannot be in a header's name.
func notInKey(r rune) bool {
	letter, digit := 'a' <= r|0x20 && r|0x20 <= 'z', '0' <= r && r <= '9'
	return !letter && !digit && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// notInValue reports whether r cannot be in a header's value; line ends would begin another header.
func notInValue(r rune) bool { return (r < ' ' && r != '\t') || r > '~' }
