// Package invoke is the door for the chat protocol of the official client (chat-preview.md): its invocations are user events
// whose names begin with chat., answered by a result or a fault, both JSON.
package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/presence"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Prefix begins the name of every invocation.
const Prefix = "chat."

// MaxBody is the size of an invocation's data in bytes, at most: a text of chat.MaxTextBytes whose every byte is
// written as an escape.
const MaxBody = 6*chat.MaxTextBytes + 4<<10

// Config is what a Door works with. All is required.
type Config struct {
	Rules    *rules.Rules
	Presence *presence.Presence
	Effects  *effects.Effects
	Tell     *telling.Teller
	Logger   *slog.Logger
	Ready    func(context.Context) error // nil, or why the store cannot be used

	PerSecond int // invocations of one person, on average
}

// Door takes invocations.
type Door struct {
	Config
	limit       *ratelimit.Limiter
	invocations map[string]invocation // by name
}

// invocation carries out one invocation. Its result has no member "code": clients would take it for a fault.
type invocation func(ctx context.Context, c call) (result any, err error)

// call is an invocation with who stands behind it.
type call struct {
	rules.Actor
	role        chat.Role // that holds everywhere
	contentType string
	body        []byte
}

// New returns the door.
func New(cfg Config) *Door {
	// A client that starts asks for each of its rooms at once.
	d := &Door{Config: cfg, limit: ratelimit.New(float64(cfg.PerSecond), 2*chat.MaxMemberships)}
	d.invocations = map[string]invocation{
		"chat.login":               d.login,
		"chat.getRoom":             d.getRoom,
		"chat.createRoom":          d.createRoom,
		"chat.manageRoomMember":    d.manageRoomMember,
		"chat.sendTextMessage":     d.sendTextMessage,
		"chat.queryMessageHistory": d.queryMessageHistory,
	}
	return d
}

// Handle answers an invocation. Gateways make a fault of an answer that is no success and has a code. label names the
// invocation in metrics.
func (d *Door) Handle(ctx context.Context, e cloudevents.Event) (label string, res cloudevents.Response) {
	label, run := "chat.unknown", invocation(func(context.Context, call) (any, error) {
		return nil, faulty(http.StatusNotFound, CodeUnsupported, "there is no invocation %.50q; see docs/chat-protocol.md", e.Name)
	})
	if known, ok := d.invocations[e.Name]; ok {
		label, run = e.Name, known
	}
	result, err := d.run(ctx, e, run)
	res = cloudevents.Response{Status: http.StatusOK, ContentType: cloudevents.TypeJSON}
	if err != nil {
		f := d.Fault(ctx, err)
		if f.Status >= http.StatusInternalServerError {
			d.Logger.Error("invocation not answered", "event", label, "connection", e.ConnectionID, "error", err)
		}
		res.Status, result = f.Status, f
	}
	res.Body, _ = json.Marshal(result) // structs of strings, numbers and lists of them
	return label, res
}

func (d *Door) run(ctx context.Context, e cloudevents.Event, run invocation) (any, error) {
	if e.UserID == "" {
		return nil, faulty(http.StatusUnauthorized, CodeNoAnonymous, "this connection has no user; connect with a token that names one")
	}
	if ok, _ := d.limit.Allow(e.UserID); !ok {
		return nil, faulty(http.StatusTooManyRequests, CodeInvalidRequest, "too many invocations; at most %d a second are taken", d.PerSecond)
	}
	if len(e.Body) > MaxBody {
		return nil, invalid("the data has %d bytes; at most %d are taken", len(e.Body), MaxBody)
	}
	c := call{contentType: e.ContentType, body: e.Body}
	c.Connection, c.Event = e.ConnectionID, fmt.Sprintf("invoke/%s/%d", e.ConnectionID, e.ID)
	if e.Name == "chat.sendTextMessage" && d.Presence.WasLive(e.UserID, e.ConnectionID) { // the store sees for itself what may be said
		c.User.ID = e.UserID
		return run(ctx, c)
	}
	var err error
	if c.User, err = d.Rules.User(ctx, e.UserID); err != nil {
		return nil, err
	}
	if err := d.Presence.Live(ctx, c.User, c.Connection); err != nil {
		return nil, err
	}
	if c.role, err = d.enter(ctx, c.User); err != nil {
		return nil, err
	}
	return run(ctx, c)
}

// enter notes that a user speaks the chat protocol, and returns the user's role. A guest of the original who does so has a
// name by it.
func (d *Door) enter(ctx context.Context, u chat.User) (chat.Role, error) {
	if d.Rules.IsUnnamed(u) {
		if err := d.Presence.Name(ctx, u, chat.NameOf(u.ID)); err != nil {
			return chat.Role{}, err
		}
	}
	return d.Rules.SpeakProtocol(ctx, u.ID)
}

// read reads an invocation's data into v, which must be a JSON object.
func (c call) read(v any) error {
	if !strings.HasPrefix(c.contentType, cloudevents.TypeJSON) {
		return faulty(http.StatusBadRequest, CodeUnsupportedFormat, "the data must be JSON, not %.50s", c.contentType)
	}
	if err := strictjson.Decode(c.body, v); err != nil {
		return invalid("the data must be a JSON object as described in docs/chat-protocol.md: %v", err)
	}
	return nil
}

// Codes of faults (chat-preview.md section 4), as far as they are given.
const (
	CodeNoAnonymous        = "NoAnonymous"
	CodeInvalidRequest     = "InvalidRequest"
	CodeUnsupported        = "UnsupportedOperation"
	CodeUnsupportedFormat  = "UnsupportedMessageFormat"
	CodeStorageUnavailable = "StorageUnavailable"
	CodeInternalError      = "InternalError"

	CodeInvalidUserID = "InvalidUserId"
	CodeLoginRequired = "LoginRequired"
	CodeUserNotFound  = "UserNotFound"

	CodeRoomNotFound       = "RoomNotFound"
	CodeRoomExists         = "RoomAlreadyExists"
	CodeNotInRoom          = "UserNotInRoom"
	CodeAlreadyInRoom      = "UserAlreadyInRoom"
	CodeMayNotCreateRoom   = "NoPermissionCreateRoom"
	CodeMayNotInRoom       = "NoPermissionInRoom"
	CodeFailedCreateRoom   = "FailedCreateRoom"
	CodeFailedManageMember = "FailedManageRoomMember"
	CodeFailedSend         = "FailedSendMessage"
	CodeBadConversation    = "InvalidConversationId"
	CodeBadMessageID       = "InvalidMessageId"
	CodeMessageNotFound    = "MessageNotFound"
)

// Fault is why an invocation has no result. What is the client's to correct is below 500.
type Fault struct {
	Status int    `json:"-"`
	Code   string `json:"code"`
	Text   string `json:"message"` // for people: what would be right
}

func (f *Fault) Error() string { return f.Code + ": " + f.Text }

func faulty(status int, code, format string, args ...any) error {
	return &Fault{status, code, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return faulty(http.StatusBadRequest, CodeInvalidRequest, format, args...)
}

// codes says how a reason is told to clients.
var codes = map[rules.Reason]Fault{
	rules.Invalid:        {Status: http.StatusBadRequest, Code: CodeInvalidRequest},
	rules.InvalidUser:    {Status: http.StatusBadRequest, Code: CodeInvalidUserID},
	rules.InvalidMessage: {Status: http.StatusBadRequest, Code: CodeBadMessageID},
	rules.NotStorable:    {Status: http.StatusBadRequest, Code: CodeFailedSend},
	rules.NotSignedIn:    {Status: http.StatusUnauthorized, Code: CodeLoginRequired},
	rules.NotConnected:   {Status: http.StatusForbidden, Code: CodeLoginRequired},
	rules.NoRoom:         {Status: http.StatusNotFound, Code: CodeRoomNotFound},
	rules.NoConversation: {Status: http.StatusNotFound, Code: CodeBadConversation},
	rules.NoMessage:      {Status: http.StatusNotFound, Code: CodeMessageNotFound},
	rules.NoUser:         {Status: http.StatusNotFound, Code: CodeUserNotFound},
	rules.NotIn:          {Status: http.StatusForbidden, Code: CodeNotInRoom},
	rules.NoMember:       {Status: http.StatusNotFound, Code: CodeNotInRoom},
	rules.RoomExists:     {Status: http.StatusConflict, Code: CodeRoomExists},
	rules.AlreadyIn:      {Status: http.StatusConflict, Code: CodeAlreadyInRoom},
	rules.MayNotCreate:   {Status: http.StatusForbidden, Code: CodeMayNotCreateRoom},
	rules.MayNot:         {Status: http.StatusForbidden, Code: CodeMayNotInRoom},
	rules.RoomLimit:      {Status: http.StatusConflict, Code: CodeFailedCreateRoom},
	rules.MemberLimit:    {Status: http.StatusConflict, Code: CodeFailedManageMember},
}

// Fault maps err to a fault. Of what is ours to correct clients learn no more than that.
func (d *Door) Fault(ctx context.Context, err error) *Fault {
	var own *Fault
	var rule *rules.Refusal
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &rule):
		if f, ok := codes[rule.Reason]; ok {
			f.Text = rule.Text
			return &f
		}
	case errors.Is(err, chat.ErrInvalid):
		return &Fault{http.StatusBadRequest, CodeInvalidRequest, fmt.Sprintf("an id must be a text of 1 to %d bytes", chat.MaxIDBytes)}
	case chat.IsNotReady(err) || d.Ready(ctx) != nil:
		return &Fault{http.StatusServiceUnavailable, CodeStorageUnavailable, "the chat's store is not available now; try again later"}
	}
	return &Fault{http.StatusInternalServerError, CodeInternalError, "internal error"}
}
