package rest

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/chat"
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
	return answerOf(created, roomOf(room), room.Tag()), err
}

func (d *Door) deleteRoom(ctx context.Context, q *request) (answer, error) {
	room, err := d.Rules.RemoveRoom(ctx, q.path.Get("roomId"), q.condition())
	if err != nil {
		return answer{}, err
	}
	return answer{}, d.Effects.RoomDeleted(ctx, room)
}
