package rules

import (
	"cmp"
	"context"
	"slices"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Applications are the rules for those who have an access key: they may change anything that can be, and say of every
// change how things have to be before it.
type Applications struct{ r *Rules }

// Applications returns the rules for those who have an access key.
func (r *Rules) Applications() *Applications { return &Applications{r} }

// Roles returns all roles, by name, and Role one.
func (p *Applications) Roles(ctx context.Context) ([]chat.Role, error) {
	return p.r.store.Roles(ctx, p.r.tenant)
}

// Role returns a role by its name.
func (p *Applications) Role(ctx context.Context, name string) (chat.Role, error) {
	roles, err := p.Roles(ctx)
	if err != nil {
		return chat.Role{}, err
	}
	i := slices.IndexFunc(roles, func(r chat.Role) bool { return r.Name == name })
	if i < 0 {
		return chat.Role{}, Refuse(NoRole, "there is no such role")
	}
	return roles[i], nil
}

// PutRole stores a role and reports whether there was none stored.
func (p *Applications) PutRole(ctx context.Context, role chat.Role, c chat.Condition) (created bool, err error) {
	return p.r.store.PutRole(ctx, p.r.tenant, role, c)
}

// DeleteRole deletes a stored role.
func (p *Applications) DeleteRole(ctx context.Context, name string, c chat.Condition) error {
	return outcome{notFound: Refuse(NoRole, "there is no such stored role")}.of(p.r.store.DeleteRole(ctx, p.r.tenant, name, c))
}

// Room returns a room that is not direct, with its members.
func (p *Applications) Room(ctx context.Context, id string) (chat.Room, error) {
	if !chat.IsRoomID(id) {
		return chat.Room{}, errNoRoom
	}
	room, err := p.r.store.Room(ctx, p.r.tenant, id)
	return room, outcome{notFound: errNoRoom}.of(err)
}

// PutRoom creates a private room without members, or gives a room its title.
func (p *Applications) PutRoom(ctx context.Context, id, name string, c chat.Condition) (room chat.Room, created bool, err error) {
	if !chat.IsRoomID(id) {
		return room, false, Refuse(Invalid, "a room id has 1 to 64 letters, digits, - and _, and does not start with %s", chat.DirectPrefix)
	}
	return p.put(ctx, id, name, c)
}

func (p *Applications) put(ctx context.Context, id, name string, c chat.Condition) (room chat.Room, created bool, err error) {
	kept, err := title(name)
	if err != nil {
		return room, false, err
	}
	return p.r.store.PutRoom(ctx, p.r.tenant, chat.Room{ID: id, Title: kept}, c)
}

// RemoveRoom deletes a room.
func (p *Applications) RemoveRoom(ctx context.Context, id string, c chat.Condition) error {
	_, err := p.r.store.RemoveRoom(ctx, p.r.tenant, id, c)
	return outcome{notFound: errNoRoom, forbidden: errNoRoom}.of(err)
}

// topic returns under which id a topic is stored, of a room that is there.
func (p *Applications) topic(ctx context.Context, roomID, topicID string) (string, error) {
	room, err := p.Room(ctx, roomID)
	if err == nil && !chat.IsRoomID(topicID) {
		err = Refuse(Invalid, "a topic id has 1 to 64 letters, digits, - and _")
	}
	return chat.TopicRoom(room.ID, topicID), err
}

var errNoTopic = Refuse(NoTopic, "there is no such topic")

// Topic returns a topic of a room.
func (p *Applications) Topic(ctx context.Context, roomID, topicID string) (chat.Room, error) {
	id, err := p.topic(ctx, roomID, topicID)
	if err != nil {
		return chat.Room{}, err
	}
	topic, err := p.r.store.Room(ctx, p.r.tenant, id)
	return topic, outcome{notFound: errNoTopic}.of(err)
}

// PutTopic creates a topic of a room, or gives it its title.
func (p *Applications) PutTopic(ctx context.Context, roomID, topicID, name string, c chat.Condition) (topic chat.Room, created bool, err error) {
	id, err := p.topic(ctx, roomID, topicID)
	if err != nil {
		return topic, false, err
	}
	return p.put(ctx, id, name, c)
}

// RemoveTopic deletes a topic.
func (p *Applications) RemoveTopic(ctx context.Context, roomID, topicID string, c chat.Condition) error {
	id, err := p.topic(ctx, roomID, topicID)
	if err != nil {
		return err
	}
	_, err = p.r.store.RemoveRoom(ctx, p.r.tenant, id, c)
	return outcome{notFound: errNoTopic}.of(err)
}

// PutMember makes a user, who need not be known yet, a member of a room in a role, or gives a member that role, and
// reports whether the user was none before.
func (p *Applications) PutMember(ctx context.Context, room chat.Room, userID, role string, c chat.Condition) (added bool, err error) {
	if chat.CheckIDs(userID) != nil || userID == chat.ServiceUser {
		return false, errNoUserID()
	}
	user := chat.User{ID: userID, Name: chat.NameOf(userID), Provider: ProviderToken}
	if err := p.r.store.AddUsers(ctx, p.r.tenant, user); err != nil {
		return false, err
	}
	added, err = p.r.store.PutMember(ctx, p.r.tenant, room.ID, userID, role, c)
	return added, outcome{notFound: errNoRoom, forbidden: errNoRoom, limit: errMemberLimit}.of(err)
}

// RemoveMember ends a membership.
func (p *Applications) RemoveMember(ctx context.Context, room chat.Room, userID string, c chat.Condition) error {
	none := Refuse(NoMember, "there is no such member")
	return outcome{notFound: none, forbidden: none}.of(p.r.store.RemoveMember(ctx, p.r.tenant, room.ID, userID, c))
}

var errNoUser = Refuse(NoUser, "there is no such user")

// User returns a user with the role.
func (p *Applications) User(ctx context.Context, id string) (chat.Profile, error) {
	profile, err := p.r.store.Profile(ctx, p.r.tenant, id)
	return profile, outcome{notFound: errNoUser}.of(err)
}

// PutUser stores a user's name and role, chat.RoleUser unless another is given, and returns them as stored.
func (p *Applications) PutUser(ctx context.Context, id, nickname, role string, c chat.Condition) (profile chat.Profile, created bool, err error) {
	if chat.CheckIDs(id) != nil || id == chat.ServiceUser {
		return profile, false, errNoUserID()
	}
	name, err := chat.CheckName(nickname)
	if err != nil {
		return profile, false, Refuse(Invalid, "%v", err)
	}
	profile = chat.Profile{User: chat.User{ID: id, Name: name, Provider: ProviderToken}, Role: cmp.Or(role, chat.RoleUser)}
	created, err = p.r.store.PutProfile(ctx, p.r.tenant, profile, c)
	return profile, created, err
}

// RemoveUser takes a user out of all rooms, whose ids it returns.
func (p *Applications) RemoveUser(ctx context.Context, id string, c chat.Condition) (rooms []string, err error) {
	rooms, err = p.r.store.RemoveProfile(ctx, p.r.tenant, id, c)
	return rooms, outcome{notFound: errNoUser}.of(err)
}

// Conversation returns the room, or the topic, whose conversation an id names.
func (p *Applications) Conversation(ctx context.Context, id string) (chat.Room, error) {
	where := chat.ConversationRoom(id)
	if where == "" {
		return chat.Room{}, errNoConversation
	}
	roomID, topicID := chat.SplitTopic(where)
	room, err := p.r.store.Room(ctx, p.r.tenant, roomID)
	if err == nil && topicID != "" {
		room, err = p.r.store.Room(ctx, p.r.tenant, where)
	}
	return room, outcome{notFound: errNoConversation}.of(err)
}

// Messages returns up to limit messages of a room or topic with a sequence from low to high, both included, newest first.
func (p *Applications) Messages(ctx context.Context, where string, low, high int64, limit int) ([]chat.Message, error) {
	list, err := p.r.store.Messages(ctx, p.r.tenant, where, low, high, limit)
	return list, outcome{notFound: errNoConversation}.of(err)
}

var errNoMessage = Refuse(NoMessage, "there is no such message")

// Message returns the message of a conversation that an id names.
func (p *Applications) Message(ctx context.Context, conversationID, id string) (chat.Message, error) {
	seq, err := Sequence(id)
	if err != nil {
		return chat.Message{}, err
	}
	room, err := p.Conversation(ctx, conversationID)
	if err != nil {
		return chat.Message{}, err
	}
	list, err := p.r.store.Messages(ctx, p.r.tenant, room.ID, seq, seq, 1)
	if err == nil && len(list) == 0 {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.Message{}, outcome{notFound: errNoMessage}.of(err)
	}
	return list[0], nil
}

// EditMessage replaces the text and what an application has put beside it.
func (p *Applications) EditMessage(ctx context.Context, m chat.Message, c chat.Condition) (chat.Message, error) {
	edited, err := p.r.store.EditMessage(ctx, p.r.tenant, m, c)
	return edited, outcome{notFound: errNoMessage}.of(err)
}

// DeleteMessage takes a message out of the history.
func (p *Applications) DeleteMessage(ctx context.Context, m chat.Message, c chat.Condition) error {
	return outcome{notFound: errNoMessage}.of(p.r.store.DeleteMessage(ctx, p.r.tenant, m.RoomID, m.Seq, c))
}
