// Package page is the door for pages: Chatr's own and the original's. An event is a name with a text or a JSON object; it
// is answered by nothing, or refused with a status and a text, which the page is told as a server message, too.
package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/presence"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// maxBody is the size of an event's data in bytes, at most: nobody has to send more than a title.
const maxBody = 16 << 10

// messagesPerEvent is how many messages a person may send for each other event.
const messagesPerEvent = 10

// Config is what a Door works with. All is required.
type Config struct {
	Rules    *rules.Rules
	Presence *presence.Presence
	Effects  *effects.Effects
	Live     *effects.Live
	Tell     *telling.Teller
	Logger   *slog.Logger
	Ready    func(context.Context) error // nil, or why the store cannot be used

	EventsPerSecond int // of one person, on average, with bursts of four times that
}

// Door takes the events of pages.
type Door struct {
	Config
	limit    *ratelimit.Limiter
	sayLimit *ratelimit.Limiter
	handlers map[string]handler // by the event's name
	typists  typists
}

// handler carries out one event.
type handler func(ctx context.Context, e event) error

// event is a client's event with who stands behind it.
type event struct {
	rules.Actor
	contentType string
	body        []byte
}

// New returns the door.
func New(cfg Config) *Door {
	d := &Door{Config: cfg, limit: ratelimit.New(float64(cfg.EventsPerSecond), 4*cfg.EventsPerSecond)}
	d.typists.rooms = map[string]map[string]time.Time{}
	d.sayLimit = ratelimit.New(float64(messagesPerEvent*cfg.EventsPerSecond), 4*messagesPerEvent*cfg.EventsPerSecond)
	d.handlers = map[string]handler{
		"userConnected":     d.userConnected,
		"userEnterIdle":     d.userEnterIdle,
		"userExitIdle":      d.userExitIdle,
		"createChat":        d.createChat,
		"joinChat":          d.joinChat,
		"leaveChat":         d.leaveChat,
		"deleteChat":        d.deleteChat,
		"markRead":          d.markRead,
		"createPrivateChat": d.createPrivateChat,
		"acceptChat":        d.joinChat,
		"blockUser":         d.blockUser,
		"unblockUser":       d.unblockUser,
		"lookAt":            d.lookAt,
	}
	return d
}

// Handle answers a client's event. label names it in metrics.
func (d *Door) Handle(ctx context.Context, e cloudevents.Event) (label string, res cloudevents.Response) {
	name := strings.TrimPrefix(e.Type, cloudevents.UserPrefix)
	if name == "sendMessage" {
		result, err := d.said(ctx, e)
		return name, d.answer(ctx, e, result, err)
	}
	handle, known := d.handlers[name]
	label = name
	var err error
	if known {
		err = d.handle(ctx, e, handle)
	} else {
		label, err = "unknown", refuse(http.StatusNotFound, "there is no event %.50q; see the list of events in docs/chat.md", name)
	}
	if err == nil {
		return label, cloudevents.Response{Status: http.StatusNoContent}
	}
	res = d.Failure(ctx, e, err)
	if res.Status < http.StatusInternalServerError && e.ConnectionID != "" && !e.IsSystem() {
		d.tellError(ctx, e.ConnectionID, name, string(res.Body))
	}
	return label, res
}

// handle carries out an event.
func (d *Door) handle(ctx context.Context, e cloudevents.Event, handle handler) error {
	if ok, _ := d.limit.Allow(e.UserID); !ok && e.UserID != "" {
		return refuse(http.StatusTooManyRequests, "too many events; at most %d a second are taken", d.EventsPerSecond)
	}
	if len(e.Body) > maxBody {
		return refuse(http.StatusRequestEntityTooLarge, "the data has %d bytes; at most %d are taken", len(e.Body), maxBody)
	}
	a, err := d.actor(ctx, e)
	if err != nil {
		return err
	}
	return handle(ctx, event{a, e.ContentType, e.Body})
}

// said carries out sendMessage.
func (d *Door) said(ctx context.Context, e cloudevents.Event) (any, error) {
	if ok, _ := d.sayLimit.Allow(e.UserID); !ok && e.UserID != "" {
		return nil, refuse(http.StatusTooManyRequests, "too many messages; at most %d a second are taken", messagesPerEvent*d.EventsPerSecond)
	}
	if len(e.Body) > maxSaid {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the data has %d bytes; at most %d are taken", len(e.Body), maxSaid)
	}
	a, err := d.speaker(ctx, e)
	if err != nil {
		return nil, err
	}
	return d.sendMessage(ctx, event{a, e.ContentType, e.Body})
}

// actor returns who has sent an event: a known user, on a live connection.
func (d *Door) actor(ctx context.Context, e cloudevents.Event) (rules.Actor, error) {
	if e.UserID == "" {
		return rules.Actor{}, refuse(http.StatusUnauthorized, "this connection has no user; sign in and connect again")
	}
	user, err := d.Rules.User(ctx, e.UserID)
	if err != nil {
		return rules.Actor{}, err
	}
	a := rules.Actor{User: user, Connection: e.ConnectionID, Event: eventKey(e)}
	return a, d.Presence.Live(ctx, user, e.ConnectionID)
}

// speaker is actor for whoever only says something: the store sees for itself whether a message may be, and keeps the same
// one once, so somebody who has been made sure of a moment ago need not be again.
func (d *Door) speaker(ctx context.Context, e cloudevents.Event) (rules.Actor, error) {
	if d.Presence.WasLive(e.UserID, e.ConnectionID) {
		return rules.Actor{User: chat.User{ID: e.UserID}, Connection: e.ConnectionID, Event: eventKey(e)}, nil
	}
	return d.actor(ctx, e)
}

// eventKey names an event for good.
func eventKey(e cloudevents.Event) string { return fmt.Sprintf("event/%s/%d", e.ConnectionID, e.ID) }

// tellError tells a connection why its event failed, before the failed ack does. It is a courtesy: that it cannot
// be told changes nothing.
func (d *Door) tellError(ctx context.Context, conn, name, text string) {
	if err := d.Tell.Connection(ctx, conn, telling.Error(name, text)); err != nil {
		d.Logger.Debug("error not told", "connection", conn, "error", err)
	}
}

// refusal is an event that is refused by the door itself.
type refusal struct {
	status int
	text   string // for people: what would be right
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// statuses says by what status a reason is refused; those that are not here, by 400.
var statuses = map[rules.Reason]int{
	rules.NotSignedIn: http.StatusUnauthorized, rules.NotConnected: http.StatusForbidden, rules.TooMany: http.StatusTooManyRequests,
	rules.NoRoom: http.StatusNotFound, rules.NoUser: http.StatusNotFound, rules.NoConversation: http.StatusNotFound,
	rules.NotIn: http.StatusForbidden, rules.MayNot: http.StatusForbidden, rules.MayNotCreate: http.StatusForbidden,
	rules.RoomExists: http.StatusConflict, rules.RoomLimit: http.StatusConflict, rules.MemberLimit: http.StatusConflict,
}

// Failure maps err to a status and a text. What is the sender's to correct is below 500, and is not tried again;
// anything else is logged here and the gateway makes up its mind about trying again.
func (d *Door) Failure(ctx context.Context, e cloudevents.Event, err error) cloudevents.Response {
	res := cloudevents.Response{Status: http.StatusInternalServerError, ContentType: "text/plain; charset=utf-8"}
	text := "internal error"
	var own *refusal
	var rule *rules.Refusal
	var g *dataplane.Error
	switch {
	case errors.As(err, &g) && g.Status == http.StatusConflict: // webpubsub.MaxRules
		res.Status, text = http.StatusConflict, "this page has been in too many chats; connect again"
	case errors.As(err, &own):
		res.Status, text = own.status, own.text
	case errors.As(err, &rule):
		res.Status, text = http.StatusBadRequest, rule.Text
		if status, ok := statuses[rule.Reason]; ok {
			res.Status = status
		}
	case errors.Is(err, chat.ErrInvalid):
		res.Status, text = http.StatusBadRequest, fmt.Sprintf("an id must be a text of 1 to %d bytes", chat.MaxIDBytes)
	default:
		if chat.IsNotReady(err) || d.Ready(ctx) != nil {
			res.Status, text = http.StatusServiceUnavailable, "the chat's store is not available now; try again later"
		}
		d.Logger.Error("event not handled", "type", e.Type, "connection", e.ConnectionID, "error", err)
	}
	res.Body = []byte(text)
	return res
}

// decode reads an event's JSON payload into v.
func (e event) decode(v any) error {
	if err := strictjson.Decode(e.body, v); err != nil {
		return refuse(http.StatusBadRequest, "the data must be a JSON object as described in docs/chat.md: %v", err)
	}
	return nil
}

// id reads the one id that a payload is about: all of a text, or the named member of a JSON object. A JSON text is one,
// too.
func (e event) id(member string) (string, error) {
	if !strings.HasPrefix(e.contentType, cloudevents.TypeJSON) {
		return string(e.body), nil
	}
	var id *string
	if strings.HasPrefix(strings.TrimSpace(string(e.body)), `"`) {
		if err := strictjson.Decode(e.body, &id); err != nil {
			return "", refuse(http.StatusBadRequest, "the data must be a text: %v", err)
		}
		return *id, nil
	}
	var object map[string]any
	if err := strictjson.Decode(e.body, &object); err != nil {
		return "", refuse(http.StatusBadRequest, "the data must be a JSON object with a text %q: %v", member, err)
	}
	text, ok := object[member].(string)
	if !ok {
		return "", refuse(http.StatusBadRequest, "the data must be a JSON object with a text %q", member)
	}
	return text, nil
}
