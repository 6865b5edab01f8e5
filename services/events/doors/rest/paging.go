package rest

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// defaultPage is how many items a page has when the request does not say.
const defaultPage = 100

// size is how many items a page may have.
func (q *request) size() (int, error) {
	text := q.query.Get("maxpagesize")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, invalid("maxpagesize must be a number from 1")
	}
	return min(n, chat.MaxPage), nil
}

// page is a page of a list.
type page[T any] struct {
	Value    []T    `json:"value"`
	NextLink string `json:"nextLink,omitempty"`
}

// nextLink is this request, continued: with one parameter more, or another.
func (q *request) nextLink(name, value string) string {
	query := url.Values{}
	for _, n := range []string{"api-version", "maxpagesize", "earliestMessageId"} {
		if v := q.query.Get(n); v != "" {
			query.Set(n, v)
		}
	}
	query.Set(name, value)
	h := q.http.Header
	return cmp.Or(h.Get("X-Forwarded-Proto"), "http") + "://" + cmp.Or(h.Get("X-Forwarded-Host"), q.http.Host) + q.http.URL.EscapedPath() + "?" + query.Encode()
}

// tokenMark begins a continuation token, so that another text is told from one.
const tokenMark = "after:"

// pageOf cuts a page out of a list that is sorted by its names.
func pageOf[T any](q *request, all []T, name func(T) string) (page[T], error) {
	size, err := q.size()
	if err != nil {
		return page[T]{}, err
	}
	p := page[T]{Value: []T{}}
	after := ""
	if given := q.query.Get("continuationToken"); given != "" {
		text, err := base64.RawURLEncoding.DecodeString(given)
		var ok bool
		if after, ok = strings.CutPrefix(string(text), tokenMark); err != nil || !ok {
			return p, invalid("the continuationToken is not one that this service gave out")
		}
	}
	for _, item := range all {
		if name(item) <= after {
			continue
		}
		if len(p.Value) == size {
			p.NextLink = q.nextLink("continuationToken", base64.RawURLEncoding.EncodeToString([]byte(tokenMark+name(p.Value[size-1]))))
			break
		}
		p.Value = append(p.Value, item)
	}
	return p, nil
}
