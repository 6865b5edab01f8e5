package invoke

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// login tells a user the rooms to show.
func (d *Door) login(ctx context.Context, c call) (any, error) {
	rooms, err := d.Rules.Rooms(ctx, c.Actor, c.role)
	profile := struct {
		UserID          string   `json:"userId"`
		RoomIDs         []string `json:"roomIds,omitempty"`
		ConversationIDs []string `json:"conversationIds,omitempty"`
	}{UserID: c.User.ID, RoomIDs: rooms}
	for _, id := range rooms {
		profile.ConversationIDs = append(profile.ConversationIDs, chat.Conversation(id))
	}
	return profile, err
}

func (d *Door) getRoom(ctx context.Context, c call) (any, error) {
	var in struct {
		ID          string `json:"id"`
		WithMembers bool   `json:"withMembers"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	room, err := d.Rules.Room(ctx, c.Actor, in.ID, in.WithMembers)
	return telling.RoomInfoOf(room), err
}

// createRoom creates a private room and puts people into it. The connection that asks is told by the answer, which is what is so
// when everybody else has been told: who has been taken out of the room meanwhile has heard of that, and must not be told then
// of being in it.
func (d *Door) createRoom(ctx context.Context, c call) (any, error) {
	var in struct {
		Title   string   `json:"title"`
		RoomID  *string  `json:"roomId"`
		Members []string `json:"members"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	id := ""
	if in.RoomID != nil {
		if id = *in.RoomID; id == "" {
			return nil, invalid("roomId is empty; leave it out for an id that nobody guesses")
		}
	}
	room, err := d.Rules.CreatePrivate(ctx, c.Actor, id, in.Title, in.Members)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, m := range room.Members {
		users = append(users, m.UserID)
	}
	d.Effects.Follow(ctx, []string{room.ID}, users)
	room, err = d.Rules.Room(ctx, c.Actor, room.ID, true)
	return telling.RoomInfoOf(room), err
}

// manageRoomMember puts somebody into a room, or takes somebody out. A client forgets a room when it has the answer that it is out,
// so one that has been put into it again meanwhile, and told so, is refused.
func (d *Door) manageRoomMember(ctx context.Context, c call) (any, error) {
	var in struct {
		RoomID    string `json:"roomId"`
		Operation string `json:"operation"`
		UserID    string `json:"userId"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	change := d.Rules.AddMember
	switch in.Operation {
	case "Add":
	case "Delete":
		change = d.Rules.RemoveMember
	default:
		return nil, invalid("operation must be Add or Delete, not %.50q", in.Operation)
	}
	err := change(ctx, c.Actor, in.RoomID, in.UserID)
	if rules.IsSoAlready(err) || err == nil { // whoever tries again has what was not done the first time done
		d.Effects.Follow(ctx, []string{in.RoomID}, []string{in.UserID})
	}
	if err == nil && in.Operation == "Delete" && in.UserID == c.User.ID {
		err = d.Rules.IsOut(ctx, c.Actor, in.RoomID)
	}
	return struct{}{}, err
}
