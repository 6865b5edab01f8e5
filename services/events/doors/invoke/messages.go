package invoke

import (
	"context"
	"math"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// conversation is a conversation as clients name it.
type conversation struct {
	ConversationID string `json:"conversationId"`
}

// sendTextMessage stores a message and tells everybody else. One that a gateway posts again is the same message.
func (d *Door) sendTextMessage(ctx context.Context, c call) (any, error) {
	var in struct {
		Conversation conversation `json:"conversation"`
		Content      *string      `json:"content"`
		Message      *string      `json:"message"` // what drafts called the content
		RefMessageID *string      `json:"refMessageId"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	line := rules.Line{Key: c.Event, Connection: c.Connection}
	switch {
	case in.Content != nil:
		line.Text = *in.Content
	case in.Message != nil:
		line.Text = *in.Message
	}
	if in.RefMessageID != nil {
		if line.About = *in.RefMessageID; line.About == "" {
			return nil, &Fault{400, CodeBadMessageID, "refMessageId is empty"}
		}
	}
	stored, isNew, err := d.Rules.Say(ctx, c.Actor, in.Conversation.ConversationID, line)
	if err != nil {
		return nil, err
	}
	if isNew {
		d.Tell.Said(stored)
	}
	return struct {
		ID string `json:"id"`
	}{telling.MessageID(stored.Seq)}, nil
}

// query asks for the messages between two, both included, newest first; without one there is no bound.
type query struct {
	Conversation conversation `json:"conversation"`
	Start        *string      `json:"start"`
	End          *string      `json:"end"`
	MaxCount     *int         `json:"maxCount"`
}

// defaultPage is how many messages a query gets that does not say.
const defaultPage = 100

// queryMessageHistory returns a page of a conversation's messages and the query for the next.
func (d *Door) queryMessageHistory(ctx context.Context, c call) (any, error) {
	var in query
	if err := c.read(&in); err != nil {
		return nil, err
	}
	low, high, count := int64(0), int64(math.MaxInt64), defaultPage
	for _, bound := range []struct {
		id    *string
		value *int64
	}{{in.Start, &low}, {in.End, &high}} {
		if bound.id == nil {
			continue
		}
		var err error
		if *bound.value, err = rules.Sequence(*bound.id); err != nil {
			return nil, err
		}
	}
	if in.MaxCount != nil {
		if *in.MaxCount < 1 {
			return nil, invalid("maxCount is %d; it must be at least 1", *in.MaxCount)
		}
		count = min(*in.MaxCount, chat.MaxPage)
	}
	list, err := d.Rules.History(ctx, c.Actor, in.Conversation.ConversationID, low, high, count)
	if err != nil {
		return nil, err
	}
	page := struct {
		Messages  []telling.MessageInfo `json:"messages"`
		NextQuery *query                `json:"nextQuery"`
	}{Messages: []telling.MessageInfo{}}
	for _, message := range list {
		page.Messages = append(page.Messages, telling.InfoOf(message))
	}
	if len(list) == count {
		if next := list[count-1].Seq - 1; next >= max(low, 1) {
			end := telling.MessageID(next)
			page.NextQuery = &in
			page.NextQuery.End = &end
		}
	}
	return page, nil
}
