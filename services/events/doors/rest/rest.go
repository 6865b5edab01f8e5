// Package rest is the door for applications: the chat's REST API (chat-preview.md section 6). Gateways pass on what is below
// /api/hubs/{hub}/chat/, once they have seen that the caller may, with a token of their own for the very request.
package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httproute"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/rules"
)

// Prefix begins the path of every request.
const Prefix = "/api/hubs/"

// maxBody is the size of a request's body in bytes, at most.
const maxBody = invoke.MaxBody

var versions = []string{"2026-02-01-preview", "2026-08-01-preview"}

// Config is what a Door works with. All is required.
type Config struct {
	Rules   *rules.Applications
	Effects *effects.Effects
	Hub     string
	Keys    func() []string // that gateways may sign requests with
	Logger  *slog.Logger
	Ready   func(context.Context) error // nil, or why the store cannot be used
	Time    time.Duration               // for one request
}

// Door takes requests.
type Door struct{ Config }

// New returns the door.
func New(cfg Config) *Door { return &Door{cfg} }

// operation is one of the operations. Its success is 200, or what run says.
type operation struct {
	method, path string // below chat/
	run          func(d *Door, ctx context.Context, q *request) (answer, error)
}

var operations = []operation{
	{"GET", "conversations/{conversationId}", (*Door).conversation},
	{"GET", "conversations/{conversationId}/messages", (*Door).messages},
	{"PATCH", "conversations/{conversationId}/messages/{messageId}", (*Door).editMessage},
	{"DELETE", "conversations/{conversationId}/messages/{messageId}", (*Door).deleteMessage},
	{"GET", "roles", (*Door).roles},
	{"GET", "roles/{roleName}", (*Door).role},
	{"PUT", "roles/{roleName}", (*Door).putRole},
	{"DELETE", "roles/{roleName}", (*Door).deleteRole},
	{"GET", "rooms/{roomId}", (*Door).room},
	{"PUT", "rooms/{roomId}", (*Door).putRoom},
	{"DELETE", "rooms/{roomId}", (*Door).deleteRoom},
	{"GET", "rooms/{roomId}/members", (*Door).members},
	{"PUT", "rooms/{roomId}/members/{userId}", (*Door).putMember},
	{"DELETE", "rooms/{roomId}/members/{userId}", (*Door).deleteMember},
	{"PUT", "rooms/{roomId}/topics/{topicId}", (*Door).putTopic},
	{"PATCH", "rooms/{roomId}/topics/{topicId}", (*Door).patchTopic},
	{"DELETE", "rooms/{roomId}/topics/{topicId}", (*Door).deleteTopic},
	{"GET", "users/{userId}", (*Door).user},
	{"PUT", "users/{userId}", (*Door).putUser},
	{"DELETE", "users/{userId}", (*Door).deleteUser},
}

// request is what a request says.
type request struct {
	http  *http.Request
	path  httproute.Params
	query url.Values
	body  []byte
}

// answer is a success.
type answer struct {
	status int // 0: 200, or 204 without a body
	body   any
	tag    string // entity tag; empty: none
}

// answerOf is the answer to a PUT.
func answerOf(created bool, body any, tag string) answer {
	if created {
		return answer{http.StatusCreated, body, tag}
	}
	return answer{0, body, tag}
}

// ServeHTTP answers a request. Its work is finished even when the gateway stops waiting for the answer.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.Time)
	defer cancel()
	a, err := d.answer(ctx, w, r)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Api-Supported-Versions", strings.Join(versions, ", "))
	if err != nil {
		f := d.fault(ctx, err)
		if f.status >= http.StatusInternalServerError {
			d.Logger.Error("chat request not answered", "method", r.Method, "error", err)
		}
		w.Header().Set("X-Ms-Error-Code", f.code)
		a = answer{status: f.status, body: map[string]any{"code": f.code, "message": f.text, "details": []any{}, "inner": nil}}
	}
	if a.tag != "" {
		w.Header().Set("ETag", a.tag)
	}
	if a.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	text, _ := json.Marshal(a.body) // structs of strings and lists of them
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(a.status, http.StatusOK))
	_, _ = w.Write(text)
}

func (d *Door) answer(ctx context.Context, w http.ResponseWriter, r *http.Request) (answer, error) {
	if err := d.authenticate(r); err != nil {
		return answer{}, faulty(http.StatusUnauthorized, codeUnauthorized, "%v", err)
	}
	op, path, err := d.route(r)
	if err != nil {
		return answer{}, err
	}
	q := &request{http: r, path: path, query: httpx.ParseQuery(r.URL.RawQuery)}
	if given := q.query["api-version"]; len(given) > 1 || len(given) == 1 && !slices.Contains(versions, given[0]) {
		return answer{}, invalid("api-version %.40q is not supported here; these are: %s", given, strings.Join(versions, ", "))
	}
	if q.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return answer{}, faulty(http.StatusRequestEntityTooLarge, invoke.CodeInvalidRequest, "the body has more than %d bytes, or ended early", maxBody)
	}
	return op.run(d, ctx, q)
}

// authenticate checks that a request is signed with a current key, for this very path.
func (d *Door) authenticate(r *http.Request) error {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return errors.New("the request needs a bearer token")
	}
	claims, err := token.NewKeyVerifier(d.Keys()...).Verify(r.Context(), raw)
	if err != nil {
		return err
	}
	return token.CheckRESTAudience(claims, r, nil)
}

// table are the operations, by what is below Prefix.
var table = httproute.New(operations, func(op *operation) (method, path string) { return op.method, "{hub}/chat/" + op.path })

// route finds the operation of a request.
func (d *Door) route(r *http.Request) (*operation, httproute.Params, error) {
	op, path, err := table.Find(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), Prefix))
	var method *httproute.MethodError
	switch {
	case errors.Is(err, httproute.ErrNotFound), path != nil && !strings.EqualFold(path.Get("hub"), d.Hub):
		return nil, nil, faulty(http.StatusNotFound, codeNotFound, "there is no such route")
	case errors.As(err, &method):
		return nil, nil, faulty(http.StatusMethodNotAllowed, invoke.CodeUnsupported, "%s is not possible here", r.Method)
	case err != nil:
		return nil, nil, invalid("the path has an invalid escape")
	}
	return op, path, nil
}

// read reads the body, a JSON object, into v.
func (q *request) read(v any) error {
	media, _, err := mime.ParseMediaType(q.http.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && media != "application/merge-patch+json" {
		return faulty(http.StatusUnsupportedMediaType, invoke.CodeUnsupportedFormat, "the body must be JSON and say so")
	}
	if err := strictjson.Decode(q.body, v); err != nil {
		return invalid("the body must be a JSON object as described in docs/chat-protocol.md: %v", err)
	}
	return nil
}

// condition is what the request says of the state before.
func (q *request) condition() chat.Condition {
	return chat.Condition{IfMatch: q.http.Header.Get("If-Match"), IfNoneMatch: q.http.Header.Get("If-None-Match")}
}

// Codes that only the REST API gives.
const (
	codeUnauthorized       = "Unauthorized"
	codeNotFound           = "NotFound"
	codePreconditionFailed = "PreconditionFailed"
	codeRoleNotFound       = "RoleNotFound"
	codeTopicNotFound      = "TopicNotFound"
)

// fault is why a request is not granted. What is the caller's to correct is below 500.
type fault struct {
	status int
	code   string
	text   string // for people: what would be right
}

func (f *fault) Error() string { return f.code + ": " + f.text }

func faulty(status int, code, format string, args ...any) error {
	return &fault{status, code, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return faulty(http.StatusBadRequest, invoke.CodeInvalidRequest, format, args...)
}

// codes says how a reason is told to callers; those that are not here, as InvalidRequest.
var codes = map[rules.Reason]fault{
	rules.InvalidUser:    {status: http.StatusBadRequest, code: invoke.CodeInvalidUserID},
	rules.InvalidMessage: {status: http.StatusBadRequest, code: invoke.CodeBadMessageID},
	rules.NoRoom:         {status: http.StatusNotFound, code: invoke.CodeRoomNotFound},
	rules.NoTopic:        {status: http.StatusNotFound, code: codeTopicNotFound},
	rules.NoConversation: {status: http.StatusNotFound, code: invoke.CodeBadConversation},
	rules.NoMessage:      {status: http.StatusNotFound, code: invoke.CodeMessageNotFound},
	rules.NoUser:         {status: http.StatusNotFound, code: invoke.CodeUserNotFound},
	rules.NoRole:         {status: http.StatusNotFound, code: codeRoleNotFound},
	rules.NoMember:       {status: http.StatusNotFound, code: invoke.CodeNotInRoom},
	rules.MemberLimit:    {status: http.StatusConflict, code: invoke.CodeInvalidRequest},
}

// fault maps err to a fault. Of what is ours to correct callers learn no more than that.
func (d *Door) fault(ctx context.Context, err error) *fault {
	var own *fault
	var rule *rules.Refusal
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &rule):
		f, ok := codes[rule.Reason]
		if !ok {
			f = fault{status: http.StatusBadRequest, code: invoke.CodeInvalidRequest}
		}
		f.text = rule.Text
		return &f
	case errors.Is(err, chat.ErrCondition):
		return &fault{http.StatusPreconditionFailed, codePreconditionFailed, "If-Match or If-None-Match is not met by what is there now"}
	case errors.Is(err, chat.ErrInvalid):
		_, text, _ := strings.Cut(err.Error(), chat.ErrInvalid.Error()+": ")
		return &fault{http.StatusBadRequest, invoke.CodeInvalidRequest, cmp.Or(text, "an argument cannot be stored")}
	case errors.Is(err, chat.ErrLimit):
		return &fault{http.StatusConflict, invoke.CodeInvalidRequest, rules.LimitText}
	case chat.IsNotReady(err) || d.Ready(ctx) != nil:
		return &fault{http.StatusServiceUnavailable, invoke.CodeStorageUnavailable, "the chat's store is not available now; try again later"}
	}
	return &fault{http.StatusInternalServerError, invoke.CodeInternalError, "internal error"}
}
