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
)

// The chat protocol of the official chat client (chat-preview.md): its invocations are user events of these names,
// answered by a result or a fault, both JSON.
const chatPrefix = "chat."

// maxInvocation is the size of an invocation's data in bytes, at most: a text of chat.MaxTextBytes whose every byte is
// written as an escape.
const maxInvocation = 6*chat.MaxTextBytes + 4<<10

// invocation carries out one invocation. Its result has no member "code": clients would take it for a fault.
type invocation func(ctx context.Context, a *act) (result any, err error)

func (s *Service) invocationsByName() map[string]invocation {
	return map[string]invocation{
		"chat.login":               s.login,
		"chat.getRoom":             s.getRoom,
		"chat.createRoom":          s.createRoom,
		"chat.manageRoomMember":    s.manageRoomMember,
		"chat.sendTextMessage":     s.sendTextMessage,
		"chat.queryMessageHistory": s.queryMessageHistory,
	}
}

// Codes of faults (chat-preview.md section 4), as far as they are given.
const (
	codeNoAnonymous        = "NoAnonymous"
	codeInvalidRequest     = "InvalidRequest"
	codeUnsupported        = "UnsupportedOperation"
	codeUnsupportedFormat  = "UnsupportedMessageFormat"
	codeStorageUnavailable = "StorageUnavailable"
	codeInternalError      = "InternalError"

	codeInvalidUserID = "InvalidUserId"
	codeLoginRequired = "LoginRequired"

	codeRoomNotFound       = "RoomNotFound"
	codeRoomExists         = "RoomAlreadyExists"
	codeNotInRoom          = "UserNotInRoom"
	codeAlreadyInRoom      = "UserAlreadyInRoom"
	codeMayNotCreateRoom   = "NoPermissionCreateRoom"
	codeMayNotInRoom       = "NoPermissionInRoom"
	codeFailedCreateRoom   = "FailedCreateRoom"
	codeFailedManageMember = "FailedManageRoomMember"
	codeFailedSend         = "FailedSendMessage"
	codeBadConversation    = "InvalidConversationId"
	codeBadMessageID       = "InvalidMessageId"
	codeMessageNotFound    = "MessageNotFound"
)

// fault is why an invocation has no result. What is the client's to correct is below 500.
type fault struct {
	status int
	Code   string `json:"code"`
	Text   string `json:"message"` // for people: what would be right
}

func (f *fault) Error() string { return f.Code + ": " + f.Text }

func faulty(status int, code, format string, args ...any) error {
	return &fault{status, code, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return faulty(http.StatusBadRequest, codeInvalidRequest, format, args...)
}

var errNotInRoom = faulty(http.StatusForbidden, codeNotInRoom, "you are not a member of this room")

// invoke answers an invocation. Gateways make a fault of an answer that is no success and has a code.
func (s *Service) invoke(ctx context.Context, e cloudevents.Event) (label string, res cloudevents.Response) {
	label, run := "chat.unknown", invocation(func(context.Context, *act) (any, error) {
		return nil, faulty(http.StatusNotFound, codeUnsupported, "there is no invocation %.50q; see docs/chat.md", e.Name)
	})
	if known, ok := s.invocations[e.Name]; ok {
		label, run = e.Name, known
	}
	result, err := s.runInvocation(ctx, e, run)
	res = cloudevents.Response{Status: http.StatusOK, ContentType: cloudevents.TypeJSON}
	if err != nil {
		f := s.fault(ctx, err)
		if f.status >= http.StatusInternalServerError {
			s.logger.Error("invocation not answered", "event", label, "connection", e.ConnectionID, "error", err)
		}
		res.Status, result = f.status, f
	}
	res.Body, _ = json.Marshal(result) // structs of strings, numbers and lists of them
	return label, res
}

func (s *Service) runInvocation(ctx context.Context, e cloudevents.Event, run invocation) (any, error) {
	if e.UserID == "" {
		return nil, faulty(http.StatusUnauthorized, codeNoAnonymous, "this connection has no user; connect with a token that names one")
	}
	if ok, _ := s.invokeLimit.Allow(e.UserID); !ok {
		return nil, faulty(http.StatusTooManyRequests, codeInvalidRequest, "too many invocations; at most %d a second are taken", invocationsPerEvent*s.cfg.EventsPerSecond)
	}
	if len(e.Body) > maxInvocation {
		return nil, invalid("the data has %d bytes; at most %d are taken", len(e.Body), maxInvocation)
	}
	a, err := s.actor(ctx, e)
	if err != nil {
		return nil, err
	}
	return run(ctx, a)
}

// enter notes that the user of an invocation speaks the chat protocol, so that a client that comes back and does not
// log in again hears of everything, and returns the user's role. A guest of the original who does so has a name by it.
func (s *Service) enterChat(ctx context.Context, a *act) (chat.Role, error) {
	if s.isUnnamed(a.user) {
		a.user.Name = chat.NameOf(a.user.ID)
		if err := s.store.SaveUser(ctx, s.cfg.Tenant, a.user); err != nil {
			return chat.Role{}, err
		}
		if err := s.tellPresence(ctx, a.user.ID, false, onlineMessage(a.user, false)); err != nil {
			return chat.Role{}, err
		}
	}
	return s.store.EnterChat(ctx, s.cfg.Tenant, a.user.ID)
}

// fault maps err to a fault. Of what is ours to correct clients learn no more than that.
func (s *Service) fault(ctx context.Context, err error) *fault {
	var f *fault
	var r *refusal
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &r): // by actor
		return &fault{r.status, codeLoginRequired, r.text}
	case errors.Is(err, chat.ErrInvalid):
		return &fault{http.StatusBadRequest, codeInvalidRequest, fmt.Sprintf("an id must be a text of 1 to %d bytes", chat.MaxIDBytes)}
	case s.store.Ready(ctx) != nil:
		return &fault{http.StatusServiceUnavailable, codeStorageUnavailable, "the chat's store is not available now; try again later"}
	}
	return &fault{http.StatusInternalServerError, codeInternalError, "internal error"}
}

// read reads an invocation's data into v, which must be a JSON object.
func (a *act) read(v any) error {
	if !strings.HasPrefix(a.event.ContentType, cloudevents.TypeJSON) {
		return faulty(http.StatusBadRequest, codeUnsupportedFormat, "the data must be JSON, not %.50s", a.event.ContentType)
	}
	if err := json.Unmarshal(a.event.Body, v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return invalid("%.50s must not be a JSON %.50s", wrong.Field, wrong.Value)
		}
		return invalid("the data must be a JSON object as described in docs/chat.md")
	}
	return nil
}

// done remembers for a while which events have changed the store, so that one which a gateway posts again, because
// something after the change failed, is gone on with and not taken for another.
type done map[string]time.Time

const (
	doneTime = time.Minute // longer than a gateway tries
	doneMost = 10_000
)

func (s *Service) markDone(a *act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.done) >= doneMost {
		for key, at := range s.done {
			if time.Since(at) > doneTime {
				delete(s.done, key)
			}
		}
	}
	if len(s.done) < doneMost {
		s.done[a.key()] = time.Now()
	}
}

func (s *Service) isDone(a *act) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.done[a.key()]
	return found && time.Since(at) <= doneTime
}

// key names the event for good: the same in each attempt of a gateway, and no other's.
func (a *act) key() string { return fmt.Sprintf("invoke/%s/%d", a.conn, a.event.ID) }
