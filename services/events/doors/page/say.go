package page

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// maxSaid is the size in bytes of what somebody says, at most: a text of chat.MaxTextRunes whose every byte is written as
// an escape, with an id, a key and names.
const maxSaid = 6*4*chat.MaxTextRunes + 4<<10

// sendMessage is how our page says something: by an invocation, whose answer says where in the room it has its place. The
// connection is not told again; the same key is the same message, and has the same answer.
func (d *Door) sendMessage(ctx context.Context, e event) (any, error) {
	var in struct {
		ChatID string `json:"chatId"`
		Text   string `json:"text"`
		Key    string `json:"key"`
	}
	if err := e.decode(&in); err != nil {
		return nil, err
	}
	line := rules.Line{Text: in.Text, Key: cmp.Or(in.Key, e.Event), Connection: e.Connection}
	m, isNew, err := d.Rules.SayInRoom(ctx, e.Actor, in.ChatID, line)
	if err != nil {
		return nil, err
	}
	if isNew {
		d.Tell.Said(m)
	}
	return struct {
		Seq    int64  `json:"seq"`
		Number int64  `json:"number"`
		At     string `json:"at"`
	}{m.Seq, m.Number, chat.WireTime(m.SentAt)}, nil
}

// BeforePublish answers a gateway that asks about a message which a client sends to a group: pages of the original, and
// ours of the version before. What may be said is stored and told by us, to its sender, too, so the gateway has nothing
// left to do (202). The rest is refused, and heard by nobody.
func (d *Door) BeforePublish(ctx context.Context, e cloudevents.Event) cloudevents.Response {
	if err := d.beforePublish(ctx, e); err != nil {
		res := d.Failure(ctx, e, err)
		if res.Status == http.StatusNotFound || res.Status == http.StatusUnauthorized { // which mean that we do not know the event
			res.Status = http.StatusForbidden
		}
		return res
	}
	return cloudevents.Response{Status: http.StatusAccepted}
}

func (d *Door) beforePublish(ctx context.Context, e cloudevents.Event) error {
	if roomID, ok := telling.TypingRoom(e.Group); ok {
		return d.typing(ctx, e, roomID)
	}
	if len(e.Body) > maxSaid {
		return refuse(http.StatusRequestEntityTooLarge, "the data has %d bytes; at most %d are taken", len(e.Body), maxSaid)
	}
	a, err := d.speaker(ctx, e)
	if err != nil {
		return err
	}
	text, key, err := said(e)
	if err != nil {
		return err
	}
	if key == "" { // a client that knows no keys sends the same again with the same ackId
		if key = a.Event; e.AckID != "" {
			key = fmt.Sprintf("ack/%s/%s", e.ConnectionID, e.AckID)
		}
	}
	line := rules.Line{Text: text, Key: key}
	if e.NoEcho {
		line.Connection = e.ConnectionID
	}
	m, isNew, err := d.Rules.SayInRoom(ctx, a, e.Group, line)
	if err != nil {
		return err
	}
	if isNew {
		d.Tell.Said(m)
	}
	return nil
}

// said returns the text of a message to a group and its author's key for it. Who the payload says it is from is not looked
// at; a payload that clients could take for the service's word is refused.
func said(e cloudevents.Event) (text, key string, err error) {
	switch {
	case strings.HasPrefix(e.ContentType, cloudevents.TypeText):
		return string(e.Body), "", nil
	case !strings.HasPrefix(e.ContentType, cloudevents.TypeJSON):
		return "", "", refuse(http.StatusBadRequest, "a message is a text, or JSON with a text \"message\", not %.50s", e.ContentType)
	}
	var in struct {
		Message *string        `json:"message"`
		Key     jsontext.Value `json:"key"`

		NotificationType jsontext.Value `json:"notificationType"`
		ChatEvent        jsontext.Value `json:"chatEvent"`
		Event            jsontext.Value `json:"event"`
	}
	if err := strictjson.Decode(e.Body, &in); err != nil {
		return "", "", refuse(http.StatusBadRequest, "a message must be a JSON object with a text \"message\": %v", err)
	}
	if in.NotificationType != nil || in.ChatEvent != nil || in.Event != nil {
		return "", "", refuse(http.StatusForbidden, "only the service says what has happened: leave out notificationType, chatEvent and event")
	}
	if in.Message == nil {
		return "", "", refuse(http.StatusBadRequest, "a message must be a JSON object with a text \"message\"")
	}
	if in.Key != nil {
		_ = strictjson.Decode(in.Key, &key) // one that is no text is none
	}
	return *in.Message, key, nil
}

// answer is the response to an invocation that has been answered by result, or failed. Gateways make a fault of a failure
// with a code.
func (d *Door) answer(ctx context.Context, e cloudevents.Event, result any, err error) cloudevents.Response {
	res := cloudevents.Response{Status: http.StatusOK, ContentType: cloudevents.TypeJSON}
	if err != nil {
		res = d.Failure(ctx, e, err)
		result = struct {
			Code string `json:"code"`
			Text string `json:"message"`
		}{strings.ReplaceAll(http.StatusText(res.Status), " ", ""), string(res.Body)}
		res.ContentType = cloudevents.TypeJSON
	}
	res.Body, _ = json.Marshal(result) // structs of strings and numbers
	return res
}
