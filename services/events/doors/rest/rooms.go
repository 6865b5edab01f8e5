package rest

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/rules"
)

type roomInfo struct {
	ID                  string `json:"id"`
	Title               string `json:"title"`
	DefaultConversation string `json:"defaultConversation"`
	Tag                 string `json:"etag"`
}

func roomOf(r chat.Room) roomInfo {
	return roomInfo{r.ID, r.Title, chat.Conversation(r.ID), r.Tag()}
}

func (d *Door) room(ctx context.Context, q *request) (answer, error) {
	room, err := d.Rules.Room(ctx, q.path.Get("roomId"))
	return answer{body: roomOf(room), tag: room.Tag()}, err
}

func (d *Door) putRoom(ctx context.Context, q *request) (answer, error) {
	var in struct {
		Title string `json:"title"`
	}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	room, created, err := d.Rules.PutRoom(ctx, q.path.Get("roomId"), in.Title, q.condition())
	if err == nil {
		d.Effects.Follow(ctx, []string{room.ID}, nil)
	}
	return answerOf(created, roomOf(room), room.Tag()), err
}

// deleteRoom, as the other deletions, has done what was not done the first time when a caller tries again.
func (d *Door) deleteRoom(ctx context.Context, q *request) (answer, error) {
	id := q.path.Get("roomId")
	err := d.Rules.RemoveRoom(ctx, id, q.condition())
	if rules.IsSoAlready(err) || err == nil {
		d.Effects.Follow(ctx, []string{id}, nil)
	}
	return answer{}, err
}
