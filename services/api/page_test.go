package api

import (
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.browser()
	for path, c := range map[string]struct {
		status      int
		kind, cache string
	}{
		"/":                   {200, "text/html", "no-cache"},
		"/login.html":         {200, "text/html", "no-cache"},
		"/index.html":         {200, "text/html", "no-cache"},
		"/assets/app-1a2b.js": {200, "text/javascript", "public, max-age=31536000, immutable"},
		"/favicon.svg":        {200, "image/svg", "no-cache"},
		"/.hidden":            {404, "application/problem+json", "no-store"},
		"/nothing":            {404, "application/problem+json", "no-store"},
		"/assets/..%2f..%2fx": {404, "application/problem+json", "no-store"},
	} {
		status, _, res := b.do("GET", path, nil)
		equal(t, path, []any{status, res.Header.Get("Cache-Control")}, []any{c.status, c.cache})
		if !strings.HasPrefix(res.Header.Get("Content-Type"), c.kind) {
			t.Errorf("%s: got %q, want %q", path, res.Header.Get("Content-Type"), c.kind)
		}
	}
	_, _, res := b.do("GET", "/", nil)
	status, _, _ := b.do("GET", "/", nil, "If-None-Match", res.Header.Get("Etag"))
	equal(t, "unchanged", status, 304)
	status, _, _ = b.do("POST", "/", nil)
	equal(t, "POST", status, 405)
	_, _, res = b.do("HEAD", "/", nil)
	equal(t, "HEAD", []any{res.StatusCode, res.ContentLength > 0}, []any{200, true})
}

func TestPathsOfThePage(t *testing.T) {
	w := newWorld(t, Config{})
	for path, want := range map[string]int{
		"/people": 200, "/rooms/r1": 200, "/rooms/a%2Fb": 200, "/rooms/a%20b/17": 200, "/rooms/private_abc/1": 200, "/rooms/17": 200,
		"/rooms": 404, "/rooms/": 404, "/rooms/r1/": 404, "/rooms/r1/0": 404, "/rooms/r1/x": 404, "/rooms/r1/17/": 404, "/rooms/r1/17/18": 404, "/people/": 404, "/people/ada": 404,
	} {
		res, body := w.browser().fetch(path, "Accept-Encoding", "identity")
		equal(t, path, []any{res.StatusCode, strings.Contains(string(body), "<title>Chatr</title>")}, []any{want, want == 200})
	}
}
