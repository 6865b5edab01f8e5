package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// page is the built web client, in memory: it is small, and ready to be sent.
type page struct{ files map[string]*asset }

// asset is a file of the page. packed is nil when it would not be smaller.
type asset struct {
	plain, packed []byte
	kind          string
	tag           string // by content; a weak one: packed or not, it means the same
	cache         string
}

// loadPage reads everything in web. Without an index.html the page says that it was not built.
func loadPage(web fs.FS) (*page, error) {
	p := &page{files: map[string]*asset{}}
	zip, _ := gzip.NewWriterLevel(nil, gzip.BestCompression) // of more than a megabyte, so it is made once
	err := fs.WalkDir(web, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		content, err := fs.ReadFile(web, name)
		if err == nil {
			p.files["/"+name] = newAsset(name, content, zip)
		}
		return err
	})
	return p, err
}

func newAsset(name string, content []byte, zip *gzip.Writer) *asset {
	a := &asset{plain: content, kind: mime.TypeByExtension(path.Ext(name)), cache: "no-cache"}
	if a.kind == "" {
		a.kind = "application/octet-stream"
	}
	if strings.HasPrefix(name, "assets/") { // Vite puts the content's hash into these names
		a.cache = "public, max-age=31536000, immutable"
	}
	sum := sha256.Sum256(content)
	a.tag = `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	var packed bytes.Buffer
	zip.Reset(&packed)
	_, _ = zip.Write(content)
	_ = zip.Close()
	if packed.Len() < len(content)*9/10 {
		a.packed = packed.Bytes()
	}
	return a
}

// roomPath are the page's paths of a room and of a message in it, by its sequence. An id may be any text.
var roomPath = regexp.MustCompile(`^/rooms/[^/]+(/[1-9][0-9]{0,17})?$`)

// servePage answers with the page's files. Every path at which the page shows something, and the original's two pages, are
// the one page.
func (s *Service) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem(w, r, http.StatusMethodNotAllowed, "the page can only be read, by GET or HEAD")
		return
	}
	name := r.URL.Path
	if name == "/" || name == "/login.html" || name == "/people" || roomPath.MatchString(r.URL.EscapedPath()) {
		name = "/index.html"
	}
	a, found := s.page.files[name]
	switch {
	case !found && name == "/index.html":
		problem(w, r, http.StatusNotFound, "this binary was built without the page; run make build")
		return
	case !found:
		problem(w, r, http.StatusNotFound, "there is nothing at this path")
		return
	}
	a.serve(w, r)
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", a.cache)
	h.Set("Etag", a.tag)
	if a.packed != nil {
		h.Set("Vary", "Accept-Encoding")
	}
	if isTagged(r.Header.Values("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.plain
	if a.packed != nil && takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = a.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// takesGzip says whether a client has asked for gzip, and not that it may not be.
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
			return !found || strings.Trim(weight, "0.") != ""
		}
	}
	return false
}
