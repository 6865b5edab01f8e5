// Package httpx is what our HTTP services share: JSON in and out, error answers, request ids, and a server
// that stops without cutting anybody off.
package httpx

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/strictjson"
)

// WriteJSON answers with status and v as JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only a value that no test has tried
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// Details is an error answer as application/problem+json (RFC 9457).
type Details struct {
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"requestId,omitempty"`
}

// Problem answers with an error. detail is for people and says what would be right; it must hold nothing internal.
func Problem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	body, _ := json.Marshal(Details{http.StatusText(status), status, detail, RequestID(r.Context())})
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// BodyError says what is wrong with a request body and which status answers it.
type BodyError struct {
	Status int
	Text   string
}

func (e *BodyError) Error() string { return e.Text }

// ReadJSON decodes a request body of at most limit bytes into v, strictly: see package strictjson. Unknown members are
// ignored; anything after the one value is an error. Every error is a *BodyError.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &BodyError{http.StatusUnsupportedMediaType, "the body must be sent as application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &BodyError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than the %d bytes allowed", limit)}
	}
	if err != nil {
		return &BodyError{http.StatusBadRequest, "the body could not be read"}
	}
	if err := strictjson.Decode(body, v); err != nil {
		return &BodyError{http.StatusBadRequest, "the body could not be read: " + err.Error()}
	}
	return nil
}

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID gives every request an id, in its context and in the answer's X-Request-Id, so that a person's
// report leads to a log line. An id that the caller sends is not trusted with our logs and not used.
func WithRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()[:16]
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// Listen listens on a TCP address for clients, without the kernel's keep-alive: WebSockets have pings of their own and
// requests have time-outs, and turning it on would cost each connection four system calls.
func Listen(address string) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1}
	return c.Listen(context.Background(), "tcp", address)
}

// NewServer returns a server with the time-outs that keep a slow or idle peer from holding resources. A request
// must have been read within a minute, whether its handler wants the body or not, and handlers must be done in
// that time too. A connection that is taken over for a WebSocket has none of these deadlines.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// Leaving has next answer, and from the end of ctx on asks those who are answered to open a new connection for their next request.
// A process that drains needs it: a request on a kept connection that the server closes at that moment fails, and somebody who
// has just asked is likely to ask again. Handshakes of WebSockets are left as they are.
func Leaving(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers on l until ctx ends, then takes no new connections and gives running requests up to drain to
// finish. Connections taken over for WebSockets are not its business. It closes l.
func Serve(ctx context.Context, s *http.Server, l net.Listener, drain time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		_ = s.Close()
	}
	<-failed
	return nil
}
