package rest

import (
	"context"
	"net/http"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// topicInfo is a topic: a conversation of its own in a room, of the same members. It is stored as chat.TopicRoom says.
type topicInfo struct {
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

func topicOf(r chat.Room) topicInfo {
	_, topicID := chat.SplitTopic(r.ID)
	return topicInfo{topicID, r.Title, chat.WireTime(r.CreatedAt), r.OwnerID, topicState, chat.Conversation(r.ID), r.Tag()}
}

// topicPath returns the room and the topic that the path names.
func (q *request) topicPath() (roomID, topicID string, err error) {
	if q.query.Get("api-version") == versions[0] {
		return "", "", faulty(http.StatusNotFound, codeNotFound, "topics came with api-version %s", versions[1])
	}
	return q.path.Get("roomId"), q.path.Get("topicId"), nil
}

func (d *Door) putTopic(ctx context.Context, q *request) (answer, error) {
	return d.storeTopic(ctx, q, "", q.condition())
}

// storeTopic stores the topic of the path with what the body says of it.
func (d *Door) storeTopic(ctx context.Context, q *request, title string, c chat.Condition) (answer, error) {
	roomID, topicID, err := q.topicPath()
	if err != nil {
		return answer{}, err
	}
	in := struct {
		Title string `json:"title"`
		State string `json:"state"`
	}{Title: title}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	if in.State != "" && in.State != topicState {
		return answer{}, invalid("the state of a topic can only be %s, not %.50q", topicState, in.State)
	}
	topic, created, err := d.Rules.PutTopic(ctx, roomID, topicID, in.Title, c)
	if err == nil {
		d.Effects.Follow(ctx, []string{topic.ID}, nil)
	}
	return answerOf(created, topicOf(topic), topic.Tag()), err
}

func (d *Door) patchTopic(ctx context.Context, q *request) (answer, error) {
	roomID, topicID, err := q.topicPath()
	if err != nil {
		return answer{}, err
	}
	topic, err := d.Rules.Topic(ctx, roomID, topicID)
	if err != nil {
		return answer{}, err
	}
	c := q.condition()
	if c == (chat.Condition{}) {
		c.IfMatch = topic.Tag()
	}
	return d.storeTopic(ctx, q, topic.Title, c)
}

func (d *Door) deleteTopic(ctx context.Context, q *request) (answer, error) {
	roomID, topicID, err := q.topicPath()
	if err != nil {
		return answer{}, err
	}
	err = d.Rules.RemoveTopic(ctx, roomID, topicID, q.condition())
	if err == nil {
		d.Effects.Follow(ctx, []string{chat.TopicRoom(roomID, topicID)}, nil)
	}
	return answer{}, err
}
