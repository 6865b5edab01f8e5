package rest

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// send is R02, R09, R12 and R18 (rest-api.md section 3).
func (h *Handler) send(ctx context.Context, q *request) (any, error) {
	a, err := q.selection()
	if err != nil {
		return nil, err
	}
	ttl, err := q.integer("messageTtlSeconds", 0, int(webpubsub.MaxTTL/time.Second), 0)
	if err != nil {
		return nil, err
	}
	metadata, err := q.metadata()
	if err != nil {
		return nil, err
	}
	data, err := q.data()
	if err != nil {
		return nil, err
	}
	data.Metadata = metadata
	m := webpubsub.Message{Data: data, TTL: time.Duration(ttl) * time.Second}
	if a.Scope == group {
		m.Group = a.Name // seen as from the group, not from the server
	}
	r, err := q.repeatable(time.Now())
	switch {
	case err != nil:
		h.repeats.WithLabelValues("rejected").Inc()
		q.w.Header().Set(repeatResult, "rejected")
		return nil, err
	case r != nil:
		return nil, h.sendOnce(ctx, q, r, a, m)
	}
	return nil, h.node.Send(ctx, a, m)
}

// data reads the body as its content type says (rest-api.md section 3.1).
func (q *request) data() (webpubsub.Data, error) {
	kind, charset, err := contentType(q.http.Header)
	if err != nil {
		return webpubsub.Data{}, err
	}
	body, err := q.body()
	if err != nil || kind == webpubsub.DataBinary {
		return webpubsub.Data{Type: kind, Bytes: body}, err
	}
	if body, err = q.decode(body, charset); err != nil {
		return webpubsub.Data{}, err
	}
	if kind == webpubsub.DataJSON {
		if err := protocol.CheckJSON(body); err != nil {
			return webpubsub.Data{}, badRequest("body", "the body is %v", err)
		}
	}
	return webpubsub.Data{Type: kind, Bytes: body}, nil
}

// contentType says what kind of data a request with header sends, and in which charset. Without a content type it is binary
// (rest-api.md section 3.1).
func contentType(header http.Header) (kind webpubsub.DataType, charset string, err error) {
	text := header.Get("Content-Type")
	if text == "" {
		return webpubsub.DataBinary, "", nil
	}
	media, parameters, err := mime.ParseMediaType(text)
	if err == nil {
		switch media {
		case "application/json":
			return webpubsub.DataJSON, parameters["charset"], nil
		case "text/plain":
			return webpubsub.DataText, parameters["charset"], nil
		case "application/octet-stream":
			return webpubsub.DataBinary, "", nil
		}
	}
	return 0, "", &problem{
		status:  http.StatusUnsupportedMediaType,
		message: "the content type must be application/json, text/plain or application/octet-stream",
		target:  "Content-Type",
	}
}

// decode returns body as UTF-8, which is what all receivers get. The limit holds for the result too.
func (q *request) decode(body []byte, charset string) ([]byte, error) {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii":
		if !utf8.Valid(body) {
			return nil, badRequest("body", "the body is not valid UTF-8")
		}
		return body, nil
	}
	encoding, err := htmlindex.Get(charset)
	if name, _ := htmlindex.Name(encoding); err != nil || name == "replacement" {
		return nil, &problem{
			status:  http.StatusUnsupportedMediaType,
			message: "the charset is unknown; utf-8 is always right",
			target:  "Content-Type",
		}
	}
	decoded, err := encoding.NewDecoder().Bytes(body)
	if err != nil || bytes.ContainsRune(decoded, utf8.RuneError) {
		return nil, badRequest("body", "the body is not valid in the charset of its content type")
	}
	if len(decoded) > q.limit() {
		return nil, q.tooLarge()
	}
	return decoded, nil
}

// metadata reads the headers that carry a message's metadata (client-json.md 3.3).
func (q *request) metadata() (webpubsub.Metadata, error) {
	m := httpx.Metadata(q.http.Header)
	for _, x := range m {
		name := httpx.MetadataPrefix + x.Key
		if n := len(q.http.Header.Values(name)); n > 1 {
			return nil, badRequest(name, "metadata %.40q is given %d times; once is allowed", x.Key, n)
		}
	}
	if err := m.Check(); err != nil {
		var wrong *webpubsub.MetadataError
		errors.As(err, &wrong)
		return nil, badRequest(httpx.MetadataPrefix+wrong.Key, "%s", err)
	}
	return m, nil
}
