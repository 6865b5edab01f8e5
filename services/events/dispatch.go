package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

var limitText = fmt.Sprintf("this is one too many: a person may own %d chats, be in %d, be invited to %d and block %d people, a chat may have %d members",
	chat.MaxOwnedRooms, chat.MaxMemberships, chat.MaxInvitations, chat.MaxBlocked, chat.MaxMembers)

// handler carries out one user event.
type handler func(ctx context.Context, a *act) error

// act is a user event with who stands behind it.
type act struct {
	user  chat.User
	conn  string // the connection it came from, which is live
	event cloudevents.Event
}

// refusal is an event that is the sender's to correct.
type refusal struct {
	status int
	text   string // for people: what would be right
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// handle answers one event. Its work is finished even when the gateway stops waiting for the answer.
func (s *Service) handle(ctx context.Context, e cloudevents.Event) cloudevents.Response {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTime)
	defer cancel()
	start := time.Now()
	label, res := s.route(ctx, e)
	s.metrics.handled(label, res.Status, time.Since(start))
	return res
}

// route goes by the event's full type, since a client may call its events as it likes. label names the event
// in metrics.
func (s *Service) route(ctx context.Context, e cloudevents.Event) (label string, res cloudevents.Response) {
	switch e.Type {
	case cloudevents.Connect:
		res, err := s.connect(ctx, e)
		if err != nil {
			return "connect", s.failure(ctx, e, err)
		}
		return "connect", res
	case cloudevents.Connected:
		return "connected", s.answer(ctx, e, s.connected(ctx, e))
	case cloudevents.Disconnected:
		return "disconnected", s.answer(ctx, e, s.disconnected(ctx, e))
	}
	name, isUser := strings.CutPrefix(e.Type, cloudevents.UserPrefix)
	if isUser && strings.HasPrefix(name, chatPrefix) {
		return s.invoke(ctx, e)
	}
	handle, known := s.handlers[name]
	if !isUser || !known {
		return "unknown", s.answer(ctx, e, refuse(http.StatusNotFound, "there is no event %.50q; see the list of events in docs/chat.md", name))
	}
	return name, s.answer(ctx, e, s.userEvent(ctx, e, handle))
}

func (s *Service) userEvent(ctx context.Context, e cloudevents.Event, handle handler) error {
	if e.UserID == "" {
		return refuse(http.StatusUnauthorized, "this connection has no user; sign in and connect again")
	}
	if ok, _ := s.limit.Allow(e.UserID); !ok {
		return refuse(http.StatusTooManyRequests, "too many events; at most %d a second are taken", s.cfg.EventsPerSecond)
	}
	if len(e.Body) > maxEventBody {
		return refuse(http.StatusRequestEntityTooLarge, "the data has %d bytes; at most %d are taken", len(e.Body), maxEventBody)
	}
	a, err := s.actor(ctx, e)
	if err != nil {
		return err
	}
	return handle(ctx, a)
}

// actor returns an event with its user, who is known, and whose connection is live.
func (s *Service) actor(ctx context.Context, e cloudevents.Event) (*act, error) {
	user, err := s.store.User(ctx, s.cfg.Tenant, e.UserID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil, refuse(http.StatusUnauthorized, "this user is not known; sign in and connect again")
	}
	if err != nil {
		return nil, err
	}
	return &act{user: user, conn: e.ConnectionID, event: e}, s.live(ctx, user, e.ConnectionID)
}

// answer is the response to an event that has been handled with err.
func (s *Service) answer(ctx context.Context, e cloudevents.Event, err error) cloudevents.Response {
	if err == nil {
		return cloudevents.Response{Status: http.StatusNoContent}
	}
	res := s.failure(ctx, e, err)
	if res.Status < http.StatusInternalServerError && e.ConnectionID != "" && !e.IsSystem() {
		s.tellError(ctx, e, string(res.Body))
	}
	return res
}

// failure maps err to a status and a text. What is the sender's to correct is below 500, and is not tried again;
// anything else is logged here and the gateway makes up its mind about trying again.
func (s *Service) failure(ctx context.Context, e cloudevents.Event, err error) cloudevents.Response {
	res := cloudevents.Response{Status: http.StatusInternalServerError, ContentType: "text/plain; charset=utf-8"}
	text := "internal error"
	var r *refusal
	var g *dataplane.Error
	switch {
	case errors.As(err, &g) && g.Status == http.StatusConflict: // webpubsub.MaxRules
		res.Status, text = http.StatusConflict, "this page has been in too many chats; connect again"
	case errors.As(err, &r):
		res.Status, text = r.status, r.text
	case errors.Is(err, chat.ErrNotFound):
		res.Status, text = http.StatusNotFound, "there is no such chat or person"
	case errors.Is(err, chat.ErrForbidden):
		res.Status, text = http.StatusForbidden, "you may not do this"
	case errors.Is(err, chat.ErrInvalid):
		res.Status, text = http.StatusBadRequest, fmt.Sprintf("an id must be a text of 1 to %d bytes", chat.MaxIDBytes)
	case errors.Is(err, chat.ErrLimit):
		res.Status, text = http.StatusConflict, limitText
	default:
		if s.store.Ready(ctx) != nil {
			res.Status, text = http.StatusServiceUnavailable, "the chat's store is not available now; try again later"
		}
		s.logger.Error("event not handled", "type", e.Type, "connection", e.ConnectionID, "error", err)
	}
	res.Body = []byte(text)
	return res
}

// decode reads an event's JSON payload into v.
func (a *act) decode(v any) error {
	if err := json.Unmarshal(a.event.Body, v); err != nil {
		return refuse(http.StatusBadRequest, "the data must be a JSON object as described in docs/chat.md")
	}
	return nil
}

// id reads the one id that a payload is about: all of a text, or the named member of a JSON object.
func (a *act) id(member string) (string, error) {
	id := string(a.event.Body)
	if strings.HasPrefix(a.event.ContentType, "application/json") {
		if json.Unmarshal(a.event.Body, &id) != nil {
			var object map[string]json.RawMessage
			_ = json.Unmarshal(a.event.Body, &object) // what is not an object has no member either
			if json.Unmarshal(object[member], &id) != nil {
				return "", refuse(http.StatusBadRequest, "the data must be a JSON object with a text %q", member)
			}
		}
	}
	return id, nil
}
