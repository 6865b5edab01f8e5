package page

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// What becomes of a group message in the log, as metrics say it.
const (
	historyStored     = "stored"
	historyKnown      = "known"      // its key is there already: it was read or sent twice
	historyForeign    = "foreign"    // of another hub, no message, or for a group that is no room
	historyNotText    = "not_text"   // binary, or JSON without a text
	historyBlank      = "blank"      // nothing but white space
	historyInvalid    = "invalid"    // too long, or from nobody
	historyNotAllowed = "not_member" // its author is not a member, or blocked
)

// Heard takes what pages have said to a room's group, and everybody has heard, from the message log into the history. What
// is stored is what was heard, also where a client of today would be refused.
type Heard struct {
	rules   *rules.Rules
	tell    *telling.Teller
	hub     webpubsub.HubKey
	results *prometheus.CounterVec
}

// NewHeard returns a Heard for the chat of a hub.
func NewHeard(r *rules.Rules, tell *telling.Teller, hub webpubsub.HubKey, reg prometheus.Registerer) *Heard {
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "events_history_messages_total",
		Help: "Group messages read from the message log, by result: stored, known (seen before), or the reason why they are not in the history.",
	}, []string{"result"})
	reg.MustRegister(results)
	return &Heard{r, tell, hub, results}
}

// Keep stores a batch. An error hands the whole batch over again later, which is harmless: a message that is there is
// recognised by its key. What can never be stored is counted and left out, so that it holds up nobody.
func (h *Heard) Keep(ctx context.Context, batch []messagelog.Entry) error {
	for part := range slices.Chunk(batch, chat.MaxBatch) {
		results, err := h.keepPart(ctx, part)
		if err != nil {
			return err
		}
		for _, result := range results {
			h.results.WithLabelValues(result).Inc()
		}
	}
	return nil
}

func (h *Heard) keepPart(ctx context.Context, part []messagelog.Entry) (results []string, err error) {
	var messages []chat.Message
	for _, entry := range part {
		m, fault := h.message(entry)
		if fault != "" {
			results = append(results, fault)
			continue
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 { // another hub was busy
		return results, nil
	}
	outcomes, err := h.rules.Keep(ctx, messages)
	for _, o := range outcomes {
		results = append(results, result(o))
		if o.Created {
			h.tell.Said(o.Message)
		}
	}
	return results, err
}

// message returns what is to be stored of an entry, or why nothing is.
func (h *Heard) message(e messagelog.Entry) (m chat.Message, fault string) {
	if e.Event != nil || e.Hub != h.hub {
		return m, historyForeign
	}
	text, key, fault := saidIn(e.Data)
	if utf8.RuneCountInString(text) > chat.MaxTextRunes {
		fault = historyInvalid
	}
	if key == "" || len(key) > chat.MaxKeyBytes || strings.ContainsRune(key, 0) {
		key = e.ID
	}
	return chat.Message{RoomID: e.Group, AuthorID: e.FromUserID, Text: text, Key: key, SentAt: e.Time, Connection: e.ConnectionID, Heard: true}, fault
}

func result(o chat.Outcome) string {
	switch {
	case errors.Is(o.Err, chat.ErrNotFound):
		return historyForeign
	case errors.Is(o.Err, chat.ErrForbidden):
		return historyNotAllowed
	case o.Err != nil:
		return historyInvalid
	case !o.Created:
		return historyKnown
	}
	return historyStored
}

// saidIn returns the text of a group message and its author's key for it, or why it has none. Who the payload says
// it is from is not looked at. A NUL, which no store can keep, is kept as the character that stands for what cannot be
// shown, which is what a browser shows of it.
func saidIn(d webpubsub.Data) (text, key, fault string) {
	switch d.Type {
	case webpubsub.DataText:
		text = string(d.Bytes)
	case webpubsub.DataJSON:
		var in struct {
			Message *string         `json:"message"`
			Key     json.RawMessage `json:"key"`
		}
		if strictjson.Heard(d.Bytes, &in) != nil || in.Message == nil {
			return "", "", historyNotText
		}
		text = *in.Message
		_ = json.Unmarshal(in.Key, &key) // one that is no text is none
	default:
		return "", "", historyNotText
	}
	if strings.TrimSpace(text) == "" {
		return "", "", historyBlank
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD"), key, ""
}
