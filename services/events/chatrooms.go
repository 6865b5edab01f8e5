package events

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

// roomInfo is a room as clients of the chat protocol see it.
type roomInfo struct {
	roomJoined
	Members []string `json:"members,omitempty"`
}

func infoOfRoom(r chat.Room) roomInfo {
	info := roomInfo{roomJoined: joinedNotification(r).Body.(roomJoined)}
	for _, m := range r.Members {
		info.Members = append(info.Members, m.UserID)
	}
	return info
}

// login tells a user the rooms to show. Direct rooms are not among them: they are between two people with names, and
// this protocol has no invitation that one accepts.
func (s *Service) login(ctx context.Context, a *act) (any, error) {
	role, err := s.enterChat(ctx, a)
	if err != nil {
		return nil, err
	}
	var profile struct {
		UserID          string   `json:"userId"`
		RoomIDs         []string `json:"roomIds,omitempty"`
		ConversationIDs []string `json:"conversationIds,omitempty"`
	}
	profile.UserID = a.user.ID
	if !role.Allows(chat.UserFetchAllRooms) {
		return profile, nil
	}
	rooms, err := s.store.Memberships(ctx, s.cfg.Tenant, a.user.ID)
	for _, id := range rooms {
		if chat.IsRoomID(id) {
			profile.RoomIDs = append(profile.RoomIDs, id)
			profile.ConversationIDs = append(profile.ConversationIDs, chat.Conversation(id))
		}
	}
	return profile, err
}

// membership returns how the acting user stands to a room of this protocol.
func (s *Service) membership(ctx context.Context, a *act, roomID string) (m chat.Membership, err error) {
	if _, err := s.enterChat(ctx, a); err != nil {
		return m, err
	}
	if len(roomID) > 64 || roomID == "" {
		return m, invalid("a room id has 1 to 64 letters, digits, - and _")
	}
	if chat.IsRoomID(roomID) { // no other can be there
		m, err = s.store.Membership(ctx, s.cfg.Tenant, roomID, a.user.ID)
	} else {
		err = chat.ErrNotFound
	}
	if errors.Is(err, chat.ErrNotFound) {
		err = faulty(http.StatusNotFound, codeRoomNotFound, "there is no such room")
	}
	return m, err
}

// getRoom describes a room to one of its members.
func (s *Service) getRoom(ctx context.Context, a *act) (any, error) {
	var in struct {
		ID          string
		WithMembers bool
	}
	if err := a.read(&in); err != nil {
		return nil, err
	}
	m, err := s.membership(ctx, a, in.ID)
	switch {
	case err != nil:
		return nil, err
	case !m.In:
		return nil, errNotInRoom
	case !in.WithMembers:
		return infoOfRoom(m.Room), nil
	}
	room, err := s.store.Room(ctx, s.cfg.Tenant, in.ID)
	if errors.Is(err, chat.ErrNotFound) {
		err = faulty(http.StatusNotFound, codeRoomNotFound, "there is no such room")
	}
	return infoOfRoom(room), err
}

// createRoom creates a private room and puts people into it.
func (s *Service) createRoom(ctx context.Context, a *act) (any, error) {
	var in struct {
		Title   string
		RoomID  *string
		Members []string
	}
	if err := a.read(&in); err != nil {
		return nil, err
	}
	role, err := s.enterChat(ctx, a)
	if err != nil {
		return nil, err
	}
	if !role.Allows(chat.UserCreateRoom) {
		return nil, faulty(http.StatusForbidden, codeMayNotCreateRoom, "your role %.100s does not allow to create rooms", role.Name)
	}
	room := chat.Room{ID: strings.ToLower(rand.Text()), Kind: chat.KindPrivate, OwnerID: a.user.ID}
	if in.RoomID != nil {
		room.ID = *in.RoomID
	}
	if !chat.IsRoomID(room.ID) {
		return nil, invalid("a room id has 1 to 64 letters, digits, - and _, and does not start with %s", chat.DirectPrefix)
	}
	if room.Title, err = chat.CheckTitle(in.Title); err != nil {
		return nil, invalid("%v", err)
	}
	if len(in.Members) > chat.MaxMembers {
		return nil, faulty(http.StatusConflict, codeFailedCreateRoom, "a room has at most %d members", chat.MaxMembers)
	}
	for _, id := range in.Members {
		room.Members = append(room.Members, chat.Member{UserID: id})
	}
	if err := s.meet(ctx, a, room.Founders()[1:], codeMayNotCreateRoom); err != nil {
		return nil, err
	}
	return s.found(ctx, a, room)
}

// found stores a new room, lets its members in and tells them. The connection that asked is told by the answer.
func (s *Service) found(ctx context.Context, a *act, room chat.Room) (any, error) {
	found, err := s.store.CreateRoom(ctx, s.cfg.Tenant, room)
	if errors.Is(err, chat.ErrExists) && s.isDone(a) {
		found, err = s.store.Room(ctx, s.cfg.Tenant, room.ID)
	}
	switch {
	case errors.Is(err, chat.ErrExists):
		return nil, faulty(http.StatusConflict, codeRoomExists, "there is or was a room with this id; choose another")
	case errors.Is(err, chat.ErrLimit):
		return nil, faulty(http.StatusConflict, codeFailedCreateRoom, "%s", limitText)
	case err != nil:
		return nil, err
	}
	s.markDone(a)
	if err := s.welcome(ctx, found, a.conn); err != nil {
		return nil, err
	}
	return infoOfRoom(found), nil
}

// meet makes sure that users are known whom somebody names: they need not have connected yet. Nobody is put into a
// room by somebody whom they have blocked.
func (s *Service) meet(ctx context.Context, a *act, ids []string, code string) error {
	var users []chat.User
	for _, id := range ids {
		if chat.CheckIDs(id) != nil {
			return faulty(http.StatusBadRequest, codeInvalidUserID, "a user id is a text of 1 to %d bytes", chat.MaxIDBytes)
		}
		users = append(users, chat.User{ID: id, Name: chat.NameOf(id), Provider: providerToken})
	}
	if len(users) == 0 {
		return nil
	}
	by, err := s.store.BlockedBy(ctx, s.cfg.Tenant, a.user.ID, ids)
	if err != nil {
		return err
	}
	if len(by) > 0 {
		return faulty(http.StatusForbidden, code, "%.100q does not want to be in a room with you", by[0])
	}
	return s.store.AddUsers(ctx, s.cfg.Tenant, users...)
}

// welcome lets all members of a new room in and tells them of it, but for one connection.
func (s *Service) welcome(ctx context.Context, room chat.Room, except string) error {
	var ids []string
	for _, m := range room.Members {
		ids = append(ids, m.UserID)
	}
	err := each(ctx, ids, func(ctx context.Context, id string) error { return s.enterAll(ctx, room.ID, id) })
	if err != nil {
		return err
	}
	if err := s.notifyRoom(ctx, room.ID, joinedNotification(room), dataplane.Except(except)); err != nil {
		return err
	}
	return s.tellMembers(ctx, room.ID, "chatCreated", chatCreatedOf(room))
}

// manageRoomMember puts somebody into a room, or takes somebody out.
func (s *Service) manageRoomMember(ctx context.Context, a *act) (any, error) {
	var in struct{ RoomID, Operation, UserID string }
	if err := a.read(&in); err != nil {
		return nil, err
	}
	if chat.CheckIDs(in.UserID) != nil {
		return nil, faulty(http.StatusBadRequest, codeInvalidUserID, "userId must be a text of 1 to %d bytes", chat.MaxIDBytes)
	}
	m, err := s.membership(ctx, a, in.RoomID)
	if err != nil {
		return nil, err
	}
	switch in.Operation {
	case "Add":
		err = s.putIn(ctx, a, m, in.UserID)
	case "Delete":
		err = s.takeOut(ctx, a, m, in.UserID)
	default:
		err = invalid("operation must be Add or Delete, not %.50q", in.Operation)
	}
	return struct{}{}, err
}

// putIn makes a user a member of a room. Everybody may put themselves into a public one.
func (s *Service) putIn(ctx context.Context, a *act, m chat.Membership, userID string) error {
	self := userID == a.user.ID
	switch {
	case self && m.In && !s.isDone(a):
		return faulty(http.StatusConflict, codeAlreadyInRoom, "you are a member already")
	case self && m.Room.Kind == chat.KindPublic:
	case !m.Role.Allows(chat.RoomInvite):
		return mayNot(m, "add members to")
	}
	if err := s.meet(ctx, a, []string{userID}, codeMayNotInRoom); err != nil && !self {
		return err
	}
	put := s.store.AddMember
	if self {
		put = s.store.Join
	}
	added, err := put(ctx, s.cfg.Tenant, m.Room.ID, userID)
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return faulty(http.StatusNotFound, codeRoomNotFound, "there is no such room")
	case errors.Is(err, chat.ErrForbidden):
		return mayNot(m, "join")
	case errors.Is(err, chat.ErrLimit):
		return faulty(http.StatusConflict, codeFailedManageMember, "%s", limitText)
	case err != nil:
		return err
	case !added && !s.isDone(a):
		return faulty(http.StatusConflict, codeAlreadyInRoom, "%.100q is a member already", userID)
	}
	s.markDone(a)
	return s.entered(ctx, m.Room, userID)
}

// entered lets a new member's connections in, shows pages the room, and tells everybody.
func (s *Service) entered(ctx context.Context, room chat.Room, userID string) error {
	user, err := s.store.User(ctx, s.cfg.Tenant, userID)
	if err != nil {
		return err
	}
	if err := s.enterAll(ctx, room.ID, userID); err != nil {
		return err
	}
	if room.Kind == chat.KindPrivate { // the user's pages do not know it yet
		whole, err := s.store.Room(ctx, s.cfg.Tenant, room.ID)
		if err != nil {
			return err
		}
		if err := s.tellUser(ctx, userID, "chatCreated", chatCreatedOf(whole)); err != nil {
			return err
		}
	}
	return s.tellJoined(ctx, room, user)
}

// takeOut ends a membership. Everybody may leave.
func (s *Service) takeOut(ctx context.Context, a *act, m chat.Membership, userID string) error {
	self := userID == a.user.ID
	if !m.Role.Allows(chat.RoomRemoveUser) && !self {
		return mayNot(m, "remove members from")
	}
	left, err := s.store.Leave(ctx, s.cfg.Tenant, m.Room.ID, userID)
	if err != nil {
		return err
	}
	if !left && !s.isDone(a) {
		return faulty(http.StatusNotFound, codeNotInRoom, "%.100q is not a member of this room", userID)
	}
	s.markDone(a)
	return s.departed(ctx, m.Room, userID)
}

// departed silences a former member's connections and tells everybody.
func (s *Service) departed(ctx context.Context, room chat.Room, userID string) error {
	user, err := s.store.User(ctx, s.cfg.Tenant, userID)
	if err != nil {
		return err
	}
	if err := s.exitAll(ctx, room.ID, userID); err != nil {
		return err
	}
	return s.tellLeft(ctx, room, user)
}

// mayNot says what a role does not allow. Who is no member has none.
func mayNot(m chat.Membership, what string) error {
	if !m.In {
		return faulty(http.StatusForbidden, codeMayNotInRoom, "only members may %s this room", what)
	}
	return faulty(http.StatusForbidden, codeMayNotInRoom, "your role %.100s does not allow to %s this room", m.Role.Name, what)
}
