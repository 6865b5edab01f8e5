package page

import (
	"context"
	"net/http"
)

func (d *Door) createChat(ctx context.Context, e event) error {
	var in struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if err := e.decode(&in); err != nil {
		return err
	}
	room, err := d.Rules.CreatePublic(ctx, e.Actor, in.ID, in.Name)
	if err != nil {
		return err
	}
	d.Effects.Follow(ctx, []string{room.ID}, []string{e.User.ID})
	return nil
}

// joinChat is acceptChat, too.
func (d *Door) joinChat(ctx context.Context, e event) error {
	id, err := e.id("chatId")
	if err != nil {
		return err
	}
	if err := d.Rules.Join(ctx, e.Actor, id); err != nil {
		return err
	}
	d.Effects.Follow(ctx, []string{id}, []string{e.User.ID})
	return nil
}

func (d *Door) leaveChat(ctx context.Context, e event) error {
	id, err := e.id("chatId")
	if err != nil {
		return err
	}
	if err := d.Rules.Leave(ctx, e.Actor, id); err != nil {
		return err
	}
	d.Effects.Follow(ctx, []string{id}, []string{e.User.ID})
	return nil
}

func (d *Door) deleteChat(ctx context.Context, e event) error {
	id, err := e.id("chatId")
	if err != nil {
		return err
	}
	if err := d.Rules.DeleteRoom(ctx, e.Actor, id); err != nil {
		return err
	}
	d.Effects.Follow(ctx, []string{id}, nil)
	return nil
}

// createPrivateChat opens a direct room. Whom the payload calls the initiator does not matter.
func (d *Door) createPrivateChat(ctx context.Context, e event) error {
	id, err := e.id("targetUserId")
	if err != nil {
		return err
	}
	direct, err := d.Rules.OpenDirect(ctx, e.Actor, id)
	if err != nil {
		return err
	}
	d.Effects.Follow(ctx, []string{direct.Room.ID}, []string{e.User.ID, id})
	if direct.Created { // which both have been told
		return nil
	}
	return d.Tell.Invited(ctx, direct.Room.ID, e.User, direct.Other)
}

func (d *Door) blockUser(ctx context.Context, e event) error {
	id, err := e.id("userId")
	if err != nil {
		return err
	}
	if err := d.Rules.Block(ctx, e.Actor, id); err != nil {
		return err
	}
	d.Effects.Follow(ctx, nil, []string{e.User.ID, id})
	return d.Tell.Blocked(ctx, e.User.ID, id)
}

func (d *Door) unblockUser(ctx context.Context, e event) error {
	id, err := e.id("userId")
	if err != nil {
		return err
	}
	if err := d.Rules.Unblock(ctx, e.Actor, id); err != nil {
		return err
	}
	d.Effects.Follow(ctx, nil, []string{e.User.ID, id})
	return d.Tell.Blocked(ctx, e.User.ID, id)
}

// markRead is how a page says how far its user has read a chat. The user's other pages are told.
func (d *Door) markRead(ctx context.Context, e event) error {
	var in struct {
		ChatID string `json:"chatId"`
		Seq    *int64 `json:"seq"`
	}
	if err := e.decode(&in); err != nil {
		return err
	}
	if in.Seq == nil || *in.Seq < 0 {
		return refuse(http.StatusBadRequest, `the data must be {"chatId": id, "seq": number of the newest message read}`)
	}
	if err := d.Rules.MarkRead(ctx, e.Actor, in.ChatID, *in.Seq); err != nil {
		return err
	}
	d.Effects.Follow(ctx, nil, []string{e.User.ID})
	return nil
}

// userEnterIdle and userExitIdle are about the connection they come from.
func (d *Door) userEnterIdle(ctx context.Context, e event) error {
	return d.Presence.SetIdle(ctx, e.Actor, true)
}

func (d *Door) userExitIdle(ctx context.Context, e event) error {
	return d.Presence.SetIdle(ctx, e.Actor, false)
}

// userConnected is how a page of the original says that it is there, and waits for its own userOnline. Who it is
// and that it is there is known already. Only a guest of the original gets its name from it, once.
func (d *Door) userConnected(ctx context.Context, e event) error {
	if !d.Rules.IsUnnamed(e.User) {
		return d.Presence.TellOwn(ctx, e.User, e.Connection)
	}
	var in struct {
		UserName string `json:"userName"`
	}
	if err := e.decode(&in); err != nil {
		return err
	}
	return d.Presence.Name(ctx, e.User, in.UserName)
}
