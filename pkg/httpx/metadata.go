package httpx

import (
	"net/http"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// MetadataPrefix is what the headers that carry a message's metadata begin with (client-json.md 3.3).
const MetadataPrefix = "X-WebPubSub-Metadata-"

var canonicalPrefix = http.CanonicalHeaderKey(MetadataPrefix)

// SetMetadata adds the headers for m, which has been checked.
func SetMetadata(h http.Header, m webpubsub.Metadata) {
	for _, x := range m {
		h.Set(MetadataPrefix+x.Key, x.Value)
	}
}

// Metadata returns what h carries, by key in lower case; of a repeated header the last value counts. It is yet to be
// checked.
func Metadata(h http.Header) (m webpubsub.Metadata) {
	for name, values := range h {
		if key, ok := strings.CutPrefix(name, canonicalPrefix); ok && len(values) > 0 {
			m = append(m, webpubsub.Metadatum{Key: strings.ToLower(key), Value: values[len(values)-1]})
		}
	}
	slices.SortFunc(m, func(a, b webpubsub.Metadatum) int { return strings.Compare(a.Key, b.Key) })
	return m
}
