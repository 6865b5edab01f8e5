package rest

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// conversationID returns the id that the path names.
func (q *request) conversationID() (string, error) {
	id := q.path.Get("conversationId")
	if !chat.IsConversationID(id) {
		return "", faulty(http.StatusBadRequest, invoke.CodeBadConversation, "a conversation id begins with c. and has the form that rooms give theirs")
	}
	return id, nil
}

func (d *Door) conversation(ctx context.Context, q *request) (answer, error) {
	id, err := q.conversationID()
	if err != nil {
		return answer{}, err
	}
	room, err := d.Rules.Conversation(ctx, id)
	roomID, _ := chat.SplitTopic(room.ID)
	return answer{body: map[string]string{"id": id, "parentRoom": roomID, "etag": room.Tag()}, tag: room.Tag()}, err
}

type messageInfo struct {
	ID        string  `json:"id"`
	CreatedBy string  `json:"createdBy"`
	Content   content `json:"content"`
	CreatedAt string  `json:"createdAt"`
	Tag       string  `json:"etag"`
}

type content struct {
	Text   string `json:"text,omitempty"`
	Binary string `json:"binary,omitempty"`
}

func messageOf(m chat.Message) messageInfo {
	return messageInfo{telling.MessageID(m.Seq), m.AuthorID, content{m.Text, m.Binary}, chat.WireTime(m.SentAt), m.Tag()}
}

// messages lists messages from latest to earliest, between two that are not among them.
func (d *Door) messages(ctx context.Context, q *request) (answer, error) {
	size, err := q.size()
	if err != nil {
		return answer{}, err
	}
	low, high := int64(0), int64(1<<62)
	for name, bound := range map[string]*int64{"earliestMessageId": &low, "latestMessageId": &high} {
		if q.query.Has(name) {
			if *bound, err = rules.Sequence(q.query.Get(name)); err != nil {
				return answer{}, err
			}
			*bound = min(*bound, 1<<62)
		}
	}
	id, err := q.conversationID()
	if err != nil {
		return answer{}, err
	}
	room, err := d.Rules.Conversation(ctx, id)
	if err != nil {
		return answer{}, err
	}
	list, err := d.Rules.Messages(ctx, room.ID, low+1, high-1, size)
	if err != nil {
		return answer{}, err
	}
	p := page[messageInfo]{Value: []messageInfo{}}
	for _, m := range list {
		p.Value = append(p.Value, messageOf(m))
	}
	if n := len(list); n == size && list[n-1].Seq > low+1 {
		p.NextLink = q.nextLink("latestMessageId", telling.MessageID(list[n-1].Seq))
	}
	return answer{body: p}, nil
}

// message returns the message that the path names.
func (d *Door) message(ctx context.Context, q *request) (chat.Message, error) {
	id, err := q.conversationID()
	if err != nil {
		return chat.Message{}, err
	}
	return d.Rules.Message(ctx, id, q.path.Get("messageId"))
}

// editMessage changes what a merge patch names of a message's content.
func (d *Door) editMessage(ctx context.Context, q *request) (answer, error) {
	var in struct {
		CreatedBy *string `json:"createdBy"`
		Content   struct {
			Text   *string        `json:"text"`
			Binary jsontext.Value `json:"binary"` // null takes it away
		} `json:"content"`
	}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	m, err := d.message(ctx, q)
	if err != nil {
		return answer{}, err
	}
	if in.CreatedBy != nil && *in.CreatedBy != m.AuthorID {
		return answer{}, invalid("createdBy cannot be changed; it is %.100q", m.AuthorID)
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
		if err := strictjson.Decode(in.Content.Binary, &bytes); err != nil {
			return answer{}, invalid("content.binary must be base64")
		}
		m.Binary = base64.StdEncoding.EncodeToString(bytes)
	}
	edited, err := d.Rules.EditMessage(ctx, m, c)
	if err != nil {
		return answer{}, err
	}
	d.Effects.Follow(ctx, []string{edited.RoomID}, nil)
	return answer{body: messageOf(edited), tag: edited.Tag()}, nil
}

func (d *Door) deleteMessage(ctx context.Context, q *request) (answer, error) {
	m, err := d.message(ctx, q)
	if err != nil {
		return answer{}, err
	}
	if err := d.Rules.DeleteMessage(ctx, m, q.condition()); err != nil {
		return answer{}, err
	}
	d.Effects.Follow(ctx, []string{m.RoomID}, nil)
	return answer{}, nil
}
