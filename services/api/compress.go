package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// Answers below leastCompressed bytes fit into one packet anyway.
const leastCompressed = 1024

// compressing returns what packs the answers of a handler for those who can unpack them.
//
// The size of a packed answer tells whether something in it is repeated. Who can put text into the answer, have it sent
// again and again, and see its size on the way could so guess at what stands beside (BREACH). Therefore nothing that holds
// a key or a token is packed; nothing is that another site has asked for; and sizes are blurred.
func compressing() (func(http.Handler) http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(leastCompressed), gzhttp.EnableZstd(false), gzhttp.RandomJitter(32, 0, false))
	if err != nil {
		return nil, err
	}
	return func(next http.Handler) http.Handler {
		packed := wrap(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
				next.ServeHTTP(w, r)
				return
			}
			packed.ServeHTTP(w, r)
		})
	}, nil
}

// writeTagged answers with something that its reader may keep, if it asks each time whether it is still so: then an answer
// of no length says that it is. The tag is a weak one: packed or not, the answer means the same.
func writeTagged(w http.ResponseWriter, r *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only a value that no test has tried
		problem(w, r, http.StatusInternalServerError, "internal error")
		return
	}
	sum := sha256.Sum256(body)
	tag := `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Etag", tag)
	if isTagged(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(append(body, '\n'))
}

// isTagged says whether a tag is one of those in the lines of If-None-Match, which compares weakly (RFC 9110, 13.1.2).
func isTagged(lines []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for entry := range strings.SplitSeq(strings.Join(lines, ","), ",") { // a tag of ours has no comma
		if entry = strings.TrimSpace(entry); entry == "*" || strings.TrimPrefix(entry, "W/") == tag {
			return true
		}
	}
	return false
}
