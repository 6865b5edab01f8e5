package histories

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/api"
)

// browser is what a device asks the API service with. It keeps what it may keep, and asks whether it is still so.
type browser struct {
	w    *world
	name string // of its person
	user string
	base string // of addresses
	key  string // that sessions are signed with
	send func(r *http.Request) (*http.Response, error)

	mu     sync.Mutex // guards the following
	cookie string
	kept   map[string]kept // by path
}

// kept is an answer that may be so still.
type kept struct {
	tag  string
	body []byte
}

func newBrowser(w *world, d *device, base, key string, send func(r *http.Request) (*http.Response, error)) *browser {
	return &browser{w: w, name: userOf[d.name], user: d.user, base: base, key: key, send: send, kept: map[string]kept{}}
}

// signIn gives the browser a new session, as an identity provider does to whom it knows.
func (b *browser) signIn(ctx context.Context) error {
	if err := b.w.store.SaveUser(ctx, tenantID, b.w.cast.person(b.name)); err != nil {
		return err
	}
	now := time.Now()
	payload, _ := json.Marshal(map[string]any{"t": tenantID, "u": b.user, "i": now.Unix(), "e": now.Add(24 * time.Hour).Unix()})
	text := base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(b.key))
	mac.Write([]byte("chatr session 1\x00" + text))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookie = "chatr_session=" + text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return nil
}

// request is a request of the browser, with its session.
func (b *browser) request(ctx context.Context, method, path string) (*http.Request, error) {
	b.mu.Lock()
	cookie, tag := b.cookie, b.kept[path].tag
	b.mu.Unlock()
	if cookie == "" {
		if err := b.signIn(ctx); err != nil {
			return nil, err
		}
		return b.request(ctx, method, path)
	}
	r, err := http.NewRequestWithContext(ctx, method, b.base+path, nil)
	if err == nil {
		r.Header.Set("Cookie", cookie)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
	}
	return r, err
}

// call makes a request once. Whoever is signed out signs in again, and has to ask again.
func (b *browser) call(method, path string, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(b.w.ctx, answerTime)
	defer cancel()
	r, err := b.request(ctx, method, path)
	if err != nil {
		return 0, err
	}
	res, err := b.send(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	b.mu.Lock()
	switch {
	case res.StatusCode == http.StatusNotModified:
		res.StatusCode, body = http.StatusOK, b.kept[path].body
	case err == nil && res.StatusCode == http.StatusOK && res.Header.Get("ETag") != "":
		b.kept[path] = kept{res.Header.Get("ETag"), body}
	}
	b.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode == http.StatusUnauthorized:
		return res.StatusCode, b.signIn(ctx)
	case res.StatusCode != http.StatusOK:
		return res.StatusCode, fmt.Errorf("%s %s: %d %.200s", method, path, res.StatusCode, body)
	}
	return res.StatusCode, json.NewDecoder(bytes.NewReader(body)).Decode(into)
}

// get reads something, as often as it takes, and returns whether it is there: 200, 403, 404 or 410. 0 is for nobody any more.
func (b *browser) get(into any, path string, args ...any) int {
	path = fmt.Sprintf(path, args...)
	for b.w.ctx.Err() == nil {
		status, err := b.call(http.MethodGet, path, into)
		switch status {
		case http.StatusOK:
			if err == nil {
				return status
			}
			b.w.failed("%s is answered with %v", path, err)
		case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
			return status
		case http.StatusUnauthorized, http.StatusTooManyRequests:
		default:
			if status >= 400 && status < 500 {
				b.w.failed("%s is answered with %d: %v", path, status, err)
				return status
			}
		}
		select {
		case <-time.After(time.Second):
		case <-b.w.ctx.Done():
		}
	}
	return 0
}

// mayConnect asks whether its page may have a connection.
func (b *browser) mayConnect() bool {
	var address struct{ URL string }
	status, err := b.call(http.MethodPost, "/api/negotiate", &address)
	return err == nil && status == http.StatusOK
}

const sessionKey = "a key for sessions that is long enough, really"

// newAPI returns the API service on the store, from which pages read.
func newAPI(w *world) http.Handler {
	s, err := api.New(api.Config{
		Tenant: tenantID, Hub: "chat", SessionKey: sessionKey, SessionTime: 24 * time.Hour, IdleAfter: time.Minute, RequestsPerSecond: 1e6,
	}, api.Deps{
		Store: w.store, Gateway: dataplane.New("http://gateway", testKey, "chat", dataplane.Options{HTTP: &http.Client{Transport: gateways{w}}}),
		Keys: func() tenant.Keys { return tenant.Keys{Primary: testKey} }, Web: fstest.MapFS{},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		panic(err)
	}
	return s.Handler()
}

// gateways is the gateways as the API service sees them, which does not die.
type gateways struct{ w *world }

func (t gateways) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.w.g.serve(w, r, nil)
	return w.Result(), nil
}
