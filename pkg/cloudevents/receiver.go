package cloudevents

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/httpx"
)

// DefaultMaxBody is the size of an event's body in bytes, at most, unless a Receiver says otherwise.
const DefaultMaxBody = 1 << 20

// Receiver is the handler's end: it answers validation and lets through signed events of one hub only.
//
// It does not look at an event's age: lifecycle events are kept while a handler is down and come late. An event
// may also come twice; connection id and ID tell.
type Receiver struct {
	Keys    func() []string // valid now; an event signed with any of them is genuine
	Hub     string          // in any letter case
	Origins []string        // services that may send: host names, or "*" for any that knows a key; none: nobody
	// CurrentOrigins, unless nil, is asked instead of Origins, for those that change while the service runs.
	CurrentOrigins func() []string
	MaxBody        int64 // bytes; 0: DefaultMaxBody

	// Verify, unless nil, checks the bearer token that a service sends with each event beside the signature; its error
	// refuses the event and is not repeated to the sender.
	Verify func(ctx context.Context, token string) error
}

// Response answers an event.
type Response struct {
	Status      int // 0: 200, or 204 without a body
	ContentType string
	Body        []byte
	State       *string // replaces the connection's state, "" clears it; nil: unchanged
}

// Handler returns the webhook that calls h with each genuine event. Refusals are short texts: 400 for a request
// that is no event of this hub, 401 for one that is not proven to come from the service, 405, 413.
func (rc *Receiver) Handler(h func(ctx context.Context, e Event) Response) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodOptions:
			rc.validate(w, r)
		case http.MethodPost:
			e, err := rc.read(w, r)
			if err != nil {
				err.write(w)
				return
			}
			h(r.Context(), e).write(w)
		default:
			w.Header().Set("Allow", "OPTIONS, POST")
			http.Error(w, "events come by POST, validation by OPTIONS", http.StatusMethodNotAllowed)
		}
	})
}

// validate answers a service that asks whether it may send (event-handler.md section 3).
func (rc *Receiver) validate(w http.ResponseWriter, r *http.Request) {
	origin, err := one(r.Header, "WebHook-Request-Origin")
	if err == nil && r.Header.Get("ce-hub") != "" {
		err = rc.checkHub(r.Header)
	}
	if err == nil && !rc.allows(origin) {
		err = &refusal{http.StatusForbidden, "this origin may not send events here"}
	}
	if err != nil {
		err.write(w)
		return
	}
	w.Header().Set("WebHook-Allowed-Origin", origin)
	w.WriteHeader(http.StatusOK)
}

func (rc *Receiver) allows(origin string) bool {
	origins := rc.Origins
	if rc.CurrentOrigins != nil {
		origins = rc.CurrentOrigins()
	}
	return slices.ContainsFunc(origins, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, origin)
	})
}

func (rc *Receiver) checkHub(h http.Header) *refusal {
	hub, err := one(h, "ce-hub")
	if err == nil && !strings.EqualFold(hub, rc.Hub) {
		err = badRequest("ce-hub names a hub that is not handled here")
	}
	return err
}

// read returns the event in r once it is known to be genuine and whole.
func (rc *Receiver) read(w http.ResponseWriter, r *http.Request) (Event, *refusal) {
	if err := rc.checkSender(r.Context(), r.Header); err != nil {
		return Event{}, err
	}
	if err := rc.checkHub(r.Header); err != nil {
		return Event{}, err
	}
	e, err := parse(r.Header)
	if err != nil {
		return Event{}, err
	}
	limit := rc.MaxBody
	if limit <= 0 {
		limit = DefaultMaxBody
	}
	body, readErr := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(readErr, &tooLarge) {
		return Event{}, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit)}
	}
	if readErr != nil {
		return Event{}, badRequest("the body ended early")
	}
	e.Body = body
	return e, nil
}

// checkSender verifies that the request is signed with a current key and comes from an allowed origin.
func (rc *Receiver) checkSender(ctx context.Context, h http.Header) *refusal {
	connectionID, err := one(h, "ce-connectionId")
	if err != nil {
		return err
	}
	if !genuine(connectionID, h.Values("ce-signature"), rc.Keys()) {
		return &refusal{http.StatusUnauthorized, "ce-signature is not made with a current access key"}
	}
	origin, err := one(h, "WebHook-Request-Origin")
	if err != nil {
		return err
	}
	if !rc.allows(origin) {
		return &refusal{http.StatusUnauthorized, "this origin may not send events here"}
	}
	if rc.Verify == nil {
		return nil
	}
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || rc.Verify(ctx, strings.TrimSpace(token)) != nil {
		return &refusal{http.StatusUnauthorized, "the Authorization header must be a bearer token that is valid here"}
	}
	return nil
}

// genuine compares in constant time, each entry with each key.
func genuine(connectionID string, lines, keys []string) bool {
	found := 0
	for _, key := range keys {
		if key == "" {
			continue
		}
		want := []byte(Signature(connectionID, key))
		for _, line := range lines {
			for entry := range strings.SplitSeq(line, ",") {
				found |= subtle.ConstantTimeCompare([]byte(strings.ToLower(strings.TrimSpace(entry))), want)
			}
		}
	}
	return found == 1
}

// parse reads the attributes. The type alone says what an event is: a client may well send one that is named
// like a system event.
func parse(h http.Header) (Event, *refusal) {
	var e Event
	var id, when string
	for _, attribute := range []struct {
		name  string
		value *string
	}{
		{"ce-type", &e.Type}, {"ce-eventName", &e.Name}, {"ce-hub", &e.Hub}, {"ce-connectionId", &e.ConnectionID},
		{"ce-id", &id}, {"ce-time", &when}, {"WebHook-Request-Origin", &e.Origin}, {"Content-Type", &e.ContentType},
	} {
		var err *refusal
		if *attribute.value, err = one(h, attribute.name); err != nil {
			return e, err
		}
	}
	for _, name := range []string{"ce-userId", "ce-subprotocol", "ce-connectionState", "ce-group", "ce-ackId", "ce-noEcho"} {
		if len(h.Values(name)) > 1 {
			return e, badRequest(name + " must not be repeated")
		}
	}
	e.UserID = unescape(h.Get("ce-userId"))
	e.Subprotocol = h.Get("ce-subprotocol")
	e.State = h.Get("ce-connectionState")
	e.Group = unescape(h.Get("ce-group"))
	e.AckID = h.Get("ce-ackId")
	e.NoEcho = h.Get("ce-noEcho") == "true"
	e.Metadata = httpx.Metadata(h)

	var err error
	if e.ID, err = strconv.ParseUint(id, 10, 64); err != nil {
		return e, badRequest("ce-id must be a decimal number")
	}
	if e.Time, err = time.Parse(time.RFC3339, when); err != nil {
		return e, badRequest("ce-time must be like 2026-01-31T09:05:07Z")
	}
	if err := e.Metadata.Check(); err != nil {
		return e, badRequest(err.Error())
	}
	return e, checkType(e)
}

func checkType(e Event) *refusal {
	switch e.Type {
	case SystemPrefix + e.Name:
		if e.Type != Connect && e.Type != Connected && e.Type != Disconnected {
			return badRequest("ce-type is not a known system event")
		}
	case PresencePrefix + e.Name:
		if e.Type != Joined && e.Type != Left {
			return badRequest("ce-type is not a known presence event")
		}
	case UserPrefix + e.Name:
	case BeforePublish:
		return checkBeforePublish(e)
	default:
		return badRequest("ce-type must be " + SystemPrefix + "{name}, " + PresencePrefix + "{name} or " + UserPrefix +
			"{name}, with the name in ce-eventName, or " + BeforePublish)
	}
	return nil
}

// checkBeforePublish reports what is wrong with an event that asks about a message.
func checkBeforePublish(e Event) *refusal {
	switch {
	case e.Name != BeforePublishName:
		return badRequest("ce-eventName must be " + BeforePublishName + ", as ce-type says")
	case e.Group == "":
		return badRequest("ce-group must be given, once")
	}
	if _, err := strconv.ParseUint(e.AckID, 10, 64); err != nil && e.AckID != "" {
		return badRequest("ce-ackId must be a decimal number")
	}
	return nil
}

// one returns a header that must be there exactly once.
func one(h http.Header, name string) (string, *refusal) {
	values := h.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", badRequest(name + " must be given, once")
	}
	return values[0], nil
}

// refusal is an answer to a request that is no event.
type refusal struct {
	status int
	text   string
}

func badRequest(text string) *refusal { return &refusal{http.StatusBadRequest, text} }

func (f *refusal) write(w http.ResponseWriter) { http.Error(w, f.text, f.status) }

func (p Response) write(w http.ResponseWriter) {
	if p.State != nil {
		w.Header().Set("ce-connectionState", *p.State)
	}
	status := p.Status
	if status == 0 {
		status = http.StatusOK
		if len(p.Body) == 0 {
			status = http.StatusNoContent
		}
	}
	if p.ContentType != "" {
		w.Header().Set("Content-Type", p.ContentType)
	}
	w.WriteHeader(status)
	w.Write(p.Body) //nolint:errcheck // the service notices and asks again
}
