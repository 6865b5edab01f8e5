package events

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httproute"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/token"
)

// The REST API of the chat (chat-preview.md section 6). Gateways pass on what is below /api/hubs/{hub}/chat/, once they
// have seen that the caller may, with a token of their own for the very request.

const restPrefix = "/api/hubs/"

var restVersions = []string{"2026-02-01-preview", "2026-08-01-preview"}

// restOperation is one of the operations. Its success is 200, or what run says.
type restOperation struct {
	method, path string // below chat/
	run          func(s *Service, ctx context.Context, q *restRequest) (restAnswer, error)
}

var restOperations = []restOperation{
	{"GET", "conversations/{conversationId}", (*Service).restConversation},
	{"GET", "conversations/{conversationId}/messages", (*Service).restMessages},
	{"PATCH", "conversations/{conversationId}/messages/{messageId}", (*Service).restEditMessage},
	{"DELETE", "conversations/{conversationId}/messages/{messageId}", (*Service).restDeleteMessage},
	{"GET", "roles", (*Service).restRoles},
	{"GET", "roles/{roleName}", (*Service).restRole},
	{"PUT", "roles/{roleName}", (*Service).restPutRole},
	{"DELETE", "roles/{roleName}", (*Service).restDeleteRole},
	{"GET", "rooms/{roomId}", (*Service).restRoom},
	{"PUT", "rooms/{roomId}", (*Service).restPutRoom},
	{"DELETE", "rooms/{roomId}", (*Service).restDeleteRoom},
	{"GET", "rooms/{roomId}/members", (*Service).restMembers},
	{"PUT", "rooms/{roomId}/members/{userId}", (*Service).restPutMember},
	{"DELETE", "rooms/{roomId}/members/{userId}", (*Service).restDeleteMember},
	{"PUT", "rooms/{roomId}/topics/{topicId}", (*Service).restPutTopic},
	{"PATCH", "rooms/{roomId}/topics/{topicId}", (*Service).restPatchTopic},
	{"DELETE", "rooms/{roomId}/topics/{topicId}", (*Service).restDeleteTopic},
	{"GET", "users/{userId}", (*Service).restUser},
	{"PUT", "users/{userId}", (*Service).restPutUser},
	{"DELETE", "users/{userId}", (*Service).restDeleteUser},
}

// restRequest is what a request says.
type restRequest struct {
	http  *http.Request
	path  httproute.Params
	query url.Values
	body  []byte
}

// restAnswer is a success.
type restAnswer struct {
	status int // 0: 200, or 204 without a body
	body   any
	tag    string // entity tag; empty: none
}

// answerOf is the answer to a PUT.
func answerOf(created bool, body any, tag string) restAnswer {
	if created {
		return restAnswer{http.StatusCreated, body, tag}
	}
	return restAnswer{0, body, tag}
}

// rest answers a request.
func (s *Service) rest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), eventTime)
	defer cancel()
	answer, err := s.restAnswer(ctx, w, r)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Api-Supported-Versions", strings.Join(restVersions, ", "))
	if err != nil {
		f := s.restFault(ctx, err)
		if f.status >= http.StatusInternalServerError {
			s.logger.Error("chat request not answered", "method", r.Method, "error", err)
		}
		w.Header().Set("X-Ms-Error-Code", f.Code)
		answer = restAnswer{status: f.status, body: map[string]any{"code": f.Code, "message": f.Text, "details": []any{}, "inner": nil}}
	}
	if answer.tag != "" {
		w.Header().Set("ETag", answer.tag)
	}
	if answer.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	text, _ := json.Marshal(answer.body) // structs of strings and lists of them
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(answer.status, http.StatusOK))
	_, _ = w.Write(text)
}

// Codes that only the REST API gives.
const (
	codeUnauthorized       = "Unauthorized"
	codeNotFound           = "NotFound"
	codePreconditionFailed = "PreconditionFailed"
	codeRoleNotFound       = "RoleNotFound"
	codeUserNotFound       = "UserNotFound"
	codeTopicNotFound      = "TopicNotFound"
)

func (s *Service) restAnswer(ctx context.Context, w http.ResponseWriter, r *http.Request) (restAnswer, error) {
	if err := s.authenticate(r); err != nil {
		return restAnswer{}, faulty(http.StatusUnauthorized, codeUnauthorized, "%v", err)
	}
	op, path, err := s.restRoute(r)
	if err != nil {
		return restAnswer{}, err
	}
	q := &restRequest{http: r, path: path, query: httpx.ParseQuery(r.URL.RawQuery)}
	if versions := q.query["api-version"]; len(versions) > 1 || len(versions) == 1 && !slices.Contains(restVersions, versions[0]) {
		return restAnswer{}, invalid("api-version %.40q is not supported here; these are: %s", versions, strings.Join(restVersions, ", "))
	}
	if q.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxInvocation)); err != nil {
		return restAnswer{}, faulty(http.StatusRequestEntityTooLarge, codeInvalidRequest, "the body has more than %d bytes, or ended early", maxInvocation)
	}
	return op.run(s, ctx, q)
}

// authenticate checks that a request is signed with a current key, for this very path.
func (s *Service) authenticate(r *http.Request) error {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return errors.New("the request needs a bearer token")
	}
	claims, err := token.NewKeyVerifier(s.keys()...).Verify(r.Context(), raw)
	if err != nil {
		return err
	}
	return token.CheckRESTAudience(claims, r, nil)
}

// restTable are the operations, by what is below restPrefix.
var restTable = httproute.New(restOperations, func(op *restOperation) (method, path string) { return op.method, "{hub}/chat/" + op.path })

// restRoute finds the operation of a request.
func (s *Service) restRoute(r *http.Request) (*restOperation, httproute.Params, error) {
	op, path, err := restTable.Find(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), restPrefix))
	var method *httproute.MethodError
	switch {
	case errors.Is(err, httproute.ErrNotFound), path != nil && !strings.EqualFold(path.Get("hub"), s.cfg.Hub):
		return nil, nil, faulty(http.StatusNotFound, codeNotFound, "there is no such route")
	case errors.As(err, &method):
		return nil, nil, faulty(http.StatusMethodNotAllowed, codeUnsupported, "%s is not possible here", r.Method)
	case err != nil:
		return nil, nil, invalid("the path has an invalid escape")
	}
	return op, path, nil
}

// restFault maps err to a fault. Operations say by what code something is not found.
func (s *Service) restFault(ctx context.Context, err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, chat.ErrCondition):
		return &fault{http.StatusPreconditionFailed, codePreconditionFailed, "If-Match or If-None-Match is not met by what is there now"}
	case errors.Is(err, chat.ErrInvalid):
		_, text, _ := strings.Cut(err.Error(), chat.ErrInvalid.Error()+": ")
		return &fault{http.StatusBadRequest, codeInvalidRequest, cmp.Or(text, "an argument cannot be stored")}
	case errors.Is(err, chat.ErrLimit):
		return &fault{http.StatusConflict, codeInvalidRequest, limitText}
	}
	return s.fault(ctx, err)
}

// missing gives chat.ErrNotFound and chat.ErrForbidden, which is what a direct room is, a code.
func missing(err error, code, what string) error {
	if errors.Is(err, chat.ErrNotFound) || errors.Is(err, chat.ErrForbidden) {
		return faulty(http.StatusNotFound, code, "there is no such %s", what)
	}
	return err
}

// condition is what the request says of the state before.
func (q *restRequest) condition() chat.Condition {
	return chat.Condition{IfMatch: q.http.Header.Get("If-Match"), IfNoneMatch: q.http.Header.Get("If-None-Match")}
}

// read reads the body, a JSON object, into v.
func (q *restRequest) read(v any) error {
	media, _, err := mime.ParseMediaType(q.http.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && media != "application/merge-patch+json" {
		return faulty(http.StatusUnsupportedMediaType, codeUnsupportedFormat, "the body must be JSON and say so")
	}
	if err := json.Unmarshal(q.body, v); err != nil {
		return invalid("the body must be a JSON object as described in docs/chat.md")
	}
	return nil
}

// size is how many items a page may have.
func (q *restRequest) size() (int, error) {
	text := q.query.Get("maxpagesize")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, invalid("maxpagesize must be a number from 1")
	}
	return min(n, chat.MaxPage), nil
}

// restPage is a page of a list.
type restPage[T any] struct {
	Value    []T    `json:"value"`
	NextLink string `json:"nextLink,omitempty"`
}

// nextLink is this request, continued: with one parameter more, or another.
func (q *restRequest) nextLink(name, value string) string {
	query := url.Values{}
	for _, n := range []string{"api-version", "maxpagesize", "earliestMessageId"} {
		if v := q.query.Get(n); v != "" {
			query.Set(n, v)
		}
	}
	query.Set(name, value)
	h := q.http.Header
	return cmp.Or(h.Get("X-Forwarded-Proto"), "http") + "://" + cmp.Or(h.Get("X-Forwarded-Host"), q.http.Host) + q.http.URL.EscapedPath() + "?" + query.Encode()
}

// tokenMark begins a continuation token, so that another text is told from one.
const tokenMark = "after:"

// pageOf cuts a page out of a list that is sorted by its names.
func pageOf[T any](q *restRequest, all []T, name func(T) string) (restPage[T], error) {
	size, err := q.size()
	if err != nil {
		return restPage[T]{}, err
	}
	page := restPage[T]{Value: []T{}}
	after := ""
	if given := q.query.Get("continuationToken"); given != "" {
		text, err := base64.RawURLEncoding.DecodeString(given)
		var ok bool
		if after, ok = strings.CutPrefix(string(text), tokenMark); err != nil || !ok {
			return page, invalid("the continuationToken is not one that this service gave out")
		}
	}
	for _, item := range all {
		if name(item) <= after {
			continue
		}
		if len(page.Value) == size {
			page.NextLink = q.nextLink("continuationToken", base64.RawURLEncoding.EncodeToString([]byte(tokenMark+name(page.Value[size-1]))))
			break
		}
		page.Value = append(page.Value, item)
	}
	return page, nil
}

type restRole struct {
	Name        string            `json:"name"`
	Permissions []chat.Permission `json:"permissions"`
	Tag         string            `json:"etag"`
}

func roleOf(r chat.Role) restRole {
	return restRole{r.Name, append([]chat.Permission{}, r.Permissions...), r.Tag()}
}

func (s *Service) restRoles(ctx context.Context, q *restRequest) (restAnswer, error) {
	roles, err := s.store.Roles(ctx, s.cfg.Tenant)
	if err != nil {
		return restAnswer{}, err
	}
	all := make([]restRole, len(roles))
	for i, r := range roles {
		all[i] = roleOf(r)
	}
	page, err := pageOf(q, all, func(r restRole) string { return r.Name })
	return restAnswer{body: page}, err
}

func (s *Service) restRole(ctx context.Context, q *restRequest) (restAnswer, error) {
	roles, err := s.store.Roles(ctx, s.cfg.Tenant)
	if err != nil {
		return restAnswer{}, err
	}
	i := slices.IndexFunc(roles, func(r chat.Role) bool { return r.Name == q.path.Get("roleName") })
	if i < 0 {
		return restAnswer{}, missing(chat.ErrNotFound, codeRoleNotFound, "role")
	}
	return restAnswer{body: roleOf(roles[i]), tag: roles[i].Tag()}, nil
}

func (s *Service) restPutRole(ctx context.Context, q *restRequest) (restAnswer, error) {
	var in struct{ Permissions []chat.Permission }
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	if in.Permissions == nil {
		return restAnswer{}, invalid("permissions must be a list, which may be empty")
	}
	role := chat.Role{Name: q.path.Get("roleName"), Permissions: in.Permissions}
	created, err := s.store.PutRole(ctx, s.cfg.Tenant, role, q.condition())
	return answerOf(created, roleOf(role), role.Tag()), err
}

func (s *Service) restDeleteRole(ctx context.Context, q *restRequest) (restAnswer, error) {
	return restAnswer{}, missing(s.store.DeleteRole(ctx, s.cfg.Tenant, q.path.Get("roleName"), q.condition()), codeRoleNotFound, "stored role")
}

type restRoomInfo struct {
	ID                  string `json:"id"`
	Title               string `json:"title"`
	DefaultConversation string `json:"defaultConversation"`
	Tag                 string `json:"etag"`
}

func restRoomOf(r chat.Room) restRoomInfo {
	return restRoomInfo{r.ID, r.Title, chat.Conversation(r.ID), r.Tag()}
}

// roomOf returns the room that the path names. Direct rooms are none of this API's.
func (s *Service) roomOf(ctx context.Context, q *restRequest) (chat.Room, error) {
	id := q.path.Get("roomId")
	if !chat.IsRoomID(id) {
		return chat.Room{}, missing(chat.ErrNotFound, codeRoomNotFound, "room")
	}
	room, err := s.store.Room(ctx, s.cfg.Tenant, id)
	return room, missing(err, codeRoomNotFound, "room")
}

func (s *Service) restRoom(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, err := s.roomOf(ctx, q)
	return restAnswer{body: restRoomOf(room), tag: room.Tag()}, err
}

func (s *Service) restPutRoom(ctx context.Context, q *restRequest) (restAnswer, error) {
	var in struct{ Title string }
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	if !chat.IsRoomID(q.path.Get("roomId")) {
		return restAnswer{}, invalid("a room id has 1 to 64 letters, digits, - and _, and does not start with %s", chat.DirectPrefix)
	}
	title, err := chat.CheckTitle(in.Title)
	if err != nil {
		return restAnswer{}, invalid("%v", err)
	}
	room, created, err := s.store.PutRoom(ctx, s.cfg.Tenant, chat.Room{ID: q.path.Get("roomId"), Title: title}, q.condition())
	return answerOf(created, restRoomOf(room), room.Tag()), err
}

func (s *Service) restDeleteRoom(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, err := s.store.RemoveRoom(ctx, s.cfg.Tenant, q.path.Get("roomId"), q.condition())
	if err != nil {
		return restAnswer{}, missing(err, codeRoomNotFound, "room")
	}
	return restAnswer{}, s.bury(ctx, room)
}

type restMember struct {
	UserID   string `json:"userId"`
	RoleName string `json:"roleName"`
	Tag      string `json:"etag"`
}

func restMemberOf(m chat.Member) restMember { return restMember{m.UserID, m.Role, m.Tag()} }

func (s *Service) restMembers(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, err := s.roomOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	var all []restMember
	for _, m := range room.Members {
		all = append(all, restMemberOf(m))
	}
	slices.SortFunc(all, func(a, b restMember) int { return strings.Compare(a.UserID, b.UserID) })
	page, err := pageOf(q, all, func(m restMember) string { return m.UserID })
	return restAnswer{body: page}, err
}

func (s *Service) restPutMember(ctx context.Context, q *restRequest) (restAnswer, error) {
	var in struct{ RoleName string }
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	room, err := s.roomOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	user := q.path.Get("userId")
	if chat.CheckIDs(user) != nil || user == chat.ServiceUser {
		return restAnswer{}, faulty(http.StatusBadRequest, codeInvalidUserID, "a user id is a text of 1 to %d bytes", chat.MaxIDBytes)
	}
	if err := s.store.AddUsers(ctx, s.cfg.Tenant, chat.User{ID: user, Name: chat.NameOf(user), Provider: providerToken}); err != nil {
		return restAnswer{}, err
	}
	added, err := s.store.PutMember(ctx, s.cfg.Tenant, room.ID, user, in.RoleName, q.condition())
	if err != nil {
		return restAnswer{}, missing(err, codeRoomNotFound, "room")
	}
	if added {
		err = s.entered(ctx, room, user)
	} else {
		err = s.judgeAgain(ctx, room.ID, user)
	}
	m := chat.Member{UserID: user, Role: in.RoleName}
	return answerOf(added, restMemberOf(m), m.Tag()), err
}

// judgeAgain gives a member's connections what the member's role allows now.
func (s *Service) judgeAgain(ctx context.Context, roomID, userID string) error {
	if err := s.muteAll(ctx, roomID, userID); err != nil {
		return err
	}
	return s.enterAll(ctx, roomID, userID)
}

func (s *Service) restDeleteMember(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, err := s.roomOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	if err := s.store.RemoveMember(ctx, s.cfg.Tenant, room.ID, q.path.Get("userId"), q.condition()); err != nil {
		return restAnswer{}, missing(err, codeNotInRoom, "member")
	}
	return restAnswer{}, s.departed(ctx, room, q.path.Get("userId"))
}

type restUser struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Nickname string `json:"nickname"`
	RoleName string `json:"roleName"`
	Tag      string `json:"etag"`
}

func restUserOf(p chat.Profile) restUser {
	return restUser{"Human", p.User.ID, p.User.Name, p.Role, p.Tag()}
}

func (s *Service) restUser(ctx context.Context, q *restRequest) (restAnswer, error) {
	p, err := s.store.Profile(ctx, s.cfg.Tenant, q.path.Get("userId"))
	return restAnswer{body: restUserOf(p), tag: p.Tag()}, missing(err, codeUserNotFound, "user")
}

func (s *Service) restPutUser(ctx context.Context, q *restRequest) (restAnswer, error) {
	var in struct{ Kind, Nickname, RoleName string }
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	id := q.path.Get("userId")
	if chat.CheckIDs(id) != nil || id == chat.ServiceUser {
		return restAnswer{}, faulty(http.StatusBadRequest, codeInvalidUserID, "a user id is a text of 1 to %d bytes", chat.MaxIDBytes)
	}
	if in.Kind != "Human" {
		return restAnswer{}, invalid("kind must be Human, not %.50q", in.Kind)
	}
	name, err := chat.CheckName(in.Nickname)
	if err != nil {
		return restAnswer{}, invalid("%v", err)
	}
	p := chat.Profile{User: chat.User{ID: id, Name: name, Provider: providerToken}, Role: cmp.Or(in.RoleName, chat.RoleUser)}
	created, err := s.store.PutProfile(ctx, s.cfg.Tenant, p, q.condition())
	return answerOf(created, restUserOf(p), p.Tag()), err
}

// restDeleteUser takes a user out of the chat: out of all rooms, and off the air.
func (s *Service) restDeleteUser(ctx context.Context, q *restRequest) (restAnswer, error) {
	id := q.path.Get("userId")
	rooms, err := s.store.RemoveProfile(ctx, s.cfg.Tenant, id, q.condition())
	if err != nil {
		return restAnswer{}, missing(err, codeUserNotFound, "user")
	}
	for _, roomID := range rooms {
		room, err := s.store.Room(ctx, s.cfg.Tenant, roomID)
		if errors.Is(err, chat.ErrNotFound) {
			continue
		}
		if err != nil {
			return restAnswer{}, err
		}
		if err := s.departed(ctx, room, id); err != nil {
			return restAnswer{}, err
		}
	}
	return restAnswer{}, s.gateway.CloseUser(ctx, id, "the user was removed from the chat")
}

// conversationOf returns the room whose conversation the path names.
func (s *Service) conversationOf(ctx context.Context, q *restRequest) (chat.Room, error) {
	id := q.path.Get("conversationId")
	if !chat.IsConversationID(id) {
		return chat.Room{}, faulty(http.StatusBadRequest, codeBadConversation, "a conversation id begins with c. and has the form that rooms give theirs")
	}
	where := chat.ConversationRoom(id)
	if where == "" {
		return chat.Room{}, errNoConversation
	}
	roomID, topicID := chat.SplitTopic(where)
	room, err := s.store.Room(ctx, s.cfg.Tenant, roomID)
	if err == nil && topicID != "" {
		room, err = s.store.Room(ctx, s.cfg.Tenant, where)
	}
	return room, missing(err, codeBadConversation, "conversation")
}

func (s *Service) restConversation(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, err := s.conversationOf(ctx, q)
	roomID, _ := chat.SplitTopic(room.ID)
	return restAnswer{body: map[string]string{"id": q.path.Get("conversationId"), "parentRoom": roomID, "etag": room.Tag()}, tag: room.Tag()}, err
}

type restMessage struct {
	ID        string      `json:"id"`
	CreatedBy string      `json:"createdBy"`
	Content   restContent `json:"content"`
	CreatedAt string      `json:"createdAt"`
	Tag       string      `json:"etag"`
}

type restContent struct {
	Text   string `json:"text,omitempty"`
	Binary string `json:"binary,omitempty"`
}

func restMessageOf(m chat.Message) restMessage {
	return restMessage{messageID(m.Seq), m.AuthorID, restContent{m.Text, m.Binary}, m.SentAt.UTC().Format(timeForm), m.Tag()}
}

// restMessages lists messages from latest to earliest, between two that are not among them.
func (s *Service) restMessages(ctx context.Context, q *restRequest) (restAnswer, error) {
	size, err := q.size()
	if err != nil {
		return restAnswer{}, err
	}
	low, high := int64(0), int64(1<<62)
	for name, bound := range map[string]*int64{"earliestMessageId": &low, "latestMessageId": &high} {
		if q.query.Has(name) {
			if *bound, err = sequence(q.query.Get(name)); err != nil {
				return restAnswer{}, err
			}
			*bound = min(*bound, 1<<62)
		}
	}
	room, err := s.conversationOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	list, err := s.store.Messages(ctx, s.cfg.Tenant, room.ID, low+1, high-1, size)
	if err != nil {
		return restAnswer{}, missing(err, codeBadConversation, "conversation")
	}
	page := restPage[restMessage]{Value: []restMessage{}}
	for _, m := range list {
		page.Value = append(page.Value, restMessageOf(m))
	}
	if n := len(list); n == size && list[n-1].Seq > low+1 {
		page.NextLink = q.nextLink("latestMessageId", messageID(list[n-1].Seq))
	}
	return restAnswer{body: page}, nil
}

// restEditMessage changes what a merge patch names of a message's content.
func (s *Service) restEditMessage(ctx context.Context, q *restRequest) (restAnswer, error) {
	var in struct {
		CreatedBy *string
		Content   struct {
			Text   *string
			Binary json.RawMessage // null takes it away
		}
	}
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	room, m, err := s.messageOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	if in.CreatedBy != nil && *in.CreatedBy != m.AuthorID {
		return restAnswer{}, invalid("createdBy cannot be changed; it is %.100q", m.AuthorID)
	}
	c := q.condition()
	if c == (chat.Condition{}) { // what the patch does not name has to be what was read
		c.IfMatch = m.Tag()
	}
	if in.Content.Text != nil {
		m.Text = *in.Content.Text
	}
	if in.Content.Binary != nil {
		var bytes []byte
		if err := json.Unmarshal(in.Content.Binary, &bytes); err != nil {
			return restAnswer{}, invalid("content.binary must be base64")
		}
		m.Binary = base64.StdEncoding.EncodeToString(bytes)
	}
	edited, err := s.store.EditMessage(ctx, s.cfg.Tenant, m, c)
	if err != nil {
		return restAnswer{}, missing(err, codeMessageNotFound, "message")
	}
	s.tellChanged(ctx, room, notification{Type: "MessageUpdated", Body: messageCreated{conversationIn(room.ID), infoOf(edited)}})
	return restAnswer{body: restMessageOf(edited), tag: edited.Tag()}, nil
}

func (s *Service) restDeleteMessage(ctx context.Context, q *restRequest) (restAnswer, error) {
	room, m, err := s.messageOf(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	if err := s.store.DeleteMessage(ctx, s.cfg.Tenant, room.ID, m.Seq, q.condition()); err != nil {
		return restAnswer{}, missing(err, codeMessageNotFound, "message")
	}
	s.tellChanged(ctx, room, notification{Type: "MessageDeleted", Body: messageDeleted{conversationIn(room.ID), messageID(m.Seq)}})
	return restAnswer{}, nil
}

// messageOf returns the message that the path names.
func (s *Service) messageOf(ctx context.Context, q *restRequest) (chat.Room, chat.Message, error) {
	seq, err := sequence(q.path.Get("messageId"))
	if err != nil {
		return chat.Room{}, chat.Message{}, err
	}
	room, err := s.conversationOf(ctx, q)
	if err != nil {
		return room, chat.Message{}, err
	}
	list, err := s.store.Messages(ctx, s.cfg.Tenant, room.ID, seq, seq, 1)
	if err == nil && len(list) == 0 {
		err = chat.ErrNotFound
	}
	if err != nil {
		return room, chat.Message{}, missing(err, codeMessageNotFound, "message")
	}
	return room, list[0], nil
}

// tellChanged tells clients of the chat protocol, if there are any, what became of a message.
func (s *Service) tellChanged(ctx context.Context, room chat.Room, n notification) {
	roomID, _ := chat.SplitTopic(room.ID)
	there, err := s.hasChatUsers(ctx, roomID)
	if err != nil {
		s.logger.Warn("change of a message not told", "room", roomID, "error", err)
	} else if there {
		s.tryToTell(ctx, n, roomID)
	}
}

// restTopic is a topic: a conversation of its own in a room, of the same members. It is stored as chat.TopicRoom says.
type restTopic struct {
	ID             string `json:"id"`
	Title          string `json:"title"`
	CreatedAt      string `json:"createdAt"`
	CreatedBy      string `json:"createdBy"`
	State          string `json:"state"`
	ConversationID string `json:"conversationId"`
	Tag            string `json:"etag"`
}

// topicState is the one state that a topic has: what is not there has none.
const topicState = "Normal"

func restTopicOf(r chat.Room) restTopic {
	_, topicID := chat.SplitTopic(r.ID)
	return restTopic{topicID, r.Title, r.CreatedAt.UTC().Format(timeForm), r.OwnerID, topicState, chat.Conversation(r.ID), r.Tag()}
}

// topicID returns under which id the topic of the path is stored, in a room that is there.
func (s *Service) topicID(ctx context.Context, q *restRequest) (string, error) {
	if version := q.query.Get("api-version"); version == restVersions[0] {
		return "", faulty(http.StatusNotFound, codeNotFound, "topics came with api-version %s", restVersions[1])
	}
	room, err := s.roomOf(ctx, q)
	if err == nil && !chat.IsRoomID(q.path.Get("topicId")) {
		err = invalid("a topic id has 1 to 64 letters, digits, - and _")
	}
	return chat.TopicRoom(room.ID, q.path.Get("topicId")), err
}

func (s *Service) restPutTopic(ctx context.Context, q *restRequest) (restAnswer, error) {
	id, err := s.topicID(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	return s.putTopic(ctx, q, chat.Room{ID: id}, q.condition())
}

// putTopic stores a topic with what the body says of it.
func (s *Service) putTopic(ctx context.Context, q *restRequest, topic chat.Room, c chat.Condition) (restAnswer, error) {
	in := struct{ Title, State string }{Title: topic.Title}
	if err := q.read(&in); err != nil {
		return restAnswer{}, err
	}
	if in.State != "" && in.State != topicState {
		return restAnswer{}, invalid("the state of a topic can only be %s, not %.50q", topicState, in.State)
	}
	title, err := chat.CheckTitle(in.Title)
	if err != nil {
		return restAnswer{}, invalid("%v", err)
	}
	stored, created, err := s.store.PutRoom(ctx, s.cfg.Tenant, chat.Room{ID: topic.ID, Title: title}, c)
	return answerOf(created, restTopicOf(stored), stored.Tag()), err
}

func (s *Service) restPatchTopic(ctx context.Context, q *restRequest) (restAnswer, error) {
	id, err := s.topicID(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	topic, err := s.store.Room(ctx, s.cfg.Tenant, id)
	if err != nil {
		return restAnswer{}, missing(err, codeTopicNotFound, "topic")
	}
	c := q.condition()
	if c == (chat.Condition{}) {
		c.IfMatch = topic.Tag()
	}
	return s.putTopic(ctx, q, topic, c)
}

func (s *Service) restDeleteTopic(ctx context.Context, q *restRequest) (restAnswer, error) {
	id, err := s.topicID(ctx, q)
	if err != nil {
		return restAnswer{}, err
	}
	_, err = s.store.RemoveRoom(ctx, s.cfg.Tenant, id, q.condition())
	return restAnswer{}, missing(err, codeTopicNotFound, "topic")
}
