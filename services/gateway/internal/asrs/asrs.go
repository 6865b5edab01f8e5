// Package asrs speaks the ancestor of this protocol, "Azure SignalR serverless WebSocket" (event-handler.md section 12):
// simple clients at /ws/client, events as POST requests with X-ASRS-* headers to addresses chosen by templates, and
// users who are in groups whether they are connected or not.
//
// It translates only: connections, ordering, retries and delivery are those of the gateway's other packages.
package asrs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// DefaultHub is the hub of clients and callers that name none. It cannot be named elsewhere.
const DefaultHub = "_default"

// Categories of events.
const (
	Connections = "connections"
	Messages    = "messages"
)

// Names of events. There is no event for a handshake that is done, unlike in our own protocol.
const (
	Connect    = "connect"
	Disconnect = "disconnect"
	Message    = "message"
)

// ClientHub returns the hub that a client's address means: /ws/client/hubs/{hub}, with or without a slash at its end, or
// /ws/client with the hub in the query or not at all. ok is false for other paths.
func ClientHub(path string, query url.Values) (hub string, ok bool) {
	path = strings.TrimSuffix(path, "/")
	if path == "/ws/client" {
		hub = query.Get("hub")
		if hub == "" {
			hub = DefaultHub
		}
		return hub, true
	}
	return strings.CutPrefix(path, "/ws/client/hubs/")
}

// ParseHub is webpubsub.ParseHub that knows DefaultHub.
func ParseHub(name string) (string, error) {
	if name == DefaultHub {
		return name, nil
	}
	return webpubsub.ParseHub(name)
}

// Caller is what each event of a client says about the client. It does not change.
type Caller struct {
	Claims      map[string][]string // of its token
	Query       string              // of its handshake, without the token
	Forwarded   string              // addresses on the way to us, its own first
	Thumbprint  string              // of its certificate
	Subprotocol []string            // that it has offered
}

// NewCaller returns the caller of a handshake.
func NewCaller(r *http.Request, claims map[string][]string, offered []string, thumbprint string) *Caller {
	return &Caller{
		Claims: claims, Query: withoutToken(r.URL.RawQuery), Forwarded: forwardedFor(r), Thumbprint: thumbprint, Subprotocol: offered,
	}
}

// withoutToken removes the access token from a raw query and leaves the rest as it is.
func withoutToken(raw string) string {
	parts := strings.Split(raw, "&")
	parts = slices.DeleteFunc(parts, func(part string) bool {
		name, _, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		return err != nil || name == "access_token"
	})
	return strings.Join(parts, "&")
}

// forwardedFor returns the addresses through which a request has come, as handlers get them in X-Forwarded-For: as proxies have
// reported them, then the peer that we see.
func forwardedFor(r *http.Request) string {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	return strings.Join(append(slices.Clone(r.Header.Values("X-Forwarded-For")), peer), ", ")
}

// NewRequest returns the POST that brings an event to url, signed with each of the keys. Only messages have a body.
func (c *Caller) NewRequest(ctx context.Context, url, category, event string, e cloudevents.Event, keys ...string) (*http.Request, error) {
	body := e.Body
	if category != Messages {
		body = nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	h := r.Header
	h.Set("X-ASRS-Connection-Id", e.ConnectionID)
	h.Set("X-ASRS-Hub", e.Hub)
	h.Set("X-ASRS-Category", category)
	h.Set("X-ASRS-Event", event)
	h.Set("X-ASRS-User-Claims", claimList(c.Claims))
	h.Set("X-ASRS-Signature", cloudevents.Signature(e.ConnectionID, keys...))
	h.Set("X-ASRS-Client-Query", headerSafe(c.Query))
	h.Set("Date", e.Time.UTC().Format(http.TimeFormat))
	for name, value := range map[string]string{
		"X-ASRS-User-Id": cloudevents.Escape(e.UserID), "X-ASRS-Client-Cert-Thumbprint": c.Thumbprint, "X-Forwarded-For": headerSafe(c.Forwarded),
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if category == Messages {
		h.Set("Content-Type", e.ContentType)
	}
	if event == Connect && len(c.Subprotocol) > 0 {
		h.Set("Sec-WebSocket-Protocol", strings.Join(c.Subprotocol, ", "))
	}
	return r, nil
}

// claimList returns claims as "name: value" with commas between, a value at a time.
func claimList(claims map[string][]string) string {
	var all []string
	for name, values := range claims {
		for _, value := range values {
			all = append(all, headerSafe(name+": "+value))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// headerSafe replaces what a header cannot carry.
func headerSafe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// ConnectAnswer is what an answer to connect says about the connection.
type ConnectAnswer struct {
	UserID      string // empty: not said
	Groups      []string
	Subprotocol string
	Greeting    []byte // the first text frame; empty: none
}

// ParseConnectAnswer reads an answer to connect, for a client that has offered subprotocols. The error says what is wrong with the
// answer, for operators.
func ParseConnectAnswer(h http.Header, body []byte, offered []string) (ConnectAnswer, error) {
	protocols := h.Values("Sec-WebSocket-Protocol")
	w := ConnectAnswer{Groups: h.Values("X-ASRS-Connection-Group"), UserID: h.Get("X-ASRS-User-Id"), Greeting: body}
	if len(protocols) > 0 {
		w.Subprotocol = strings.TrimSpace(protocols[0])
	}
	switch {
	case len(protocols) > 1:
		return w, fmt.Errorf("the answer to connect has Sec-WebSocket-Protocol %d times", len(protocols))
	case w.Subprotocol != "" && !slices.Contains(offered, w.Subprotocol):
		return w, errors.New("the answer to connect has a Sec-WebSocket-Protocol that the client has not offered")
	case w.Subprotocol != headerSafe(w.Subprotocol):
		return w, errors.New("the answer to connect has a Sec-WebSocket-Protocol that is not ASCII")
	case len(h.Values("X-ASRS-User-Id")) > 1:
		return w, fmt.Errorf("the answer to connect has X-ASRS-User-Id %d times", len(h.Values("X-ASRS-User-Id")))
	case !utf8.ValidString(w.UserID):
		return w, errors.New("the answer to connect has an X-ASRS-User-Id that is not UTF-8")
	case len(body) > webpubsub.MaxMessageBytes:
		return w, fmt.Errorf("the answer to connect has more than %d bytes", webpubsub.MaxMessageBytes)
	case !utf8.Valid(body):
		return w, errors.New("the answer to connect is not UTF-8, which a text frame must be")
	}
	for _, group := range w.Groups {
		if err := webpubsub.CheckGroup(group); err != nil {
			return w, fmt.Errorf("the answer to connect: %w", err)
		}
	}
	return w, nil
}

// storeTimeout is how long a call to the store of users' groups may take.
const storeTimeout = 5 * time.Second
