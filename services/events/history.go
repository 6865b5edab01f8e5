package events

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// What becomes of a group message in the log, as metrics say it.
const (
	historyStored     = "stored"
	historyKnown      = "known"      // its key is there already: it was read or sent twice
	historyForeign    = "foreign"    // of another hub, no message, or for a group that is no room
	historyNotText    = "not_text"   // binary, or JSON without a text
	historyBlank      = "blank"      // nothing but white space
	historyInvalid    = "invalid"    // too long, no text (NUL), or from nobody
	historyNotAllowed = "not_member" // its author is not a member, or blocked
)

// keepHistory stores what people say in rooms, at least once, in the order of the log. Of failures in a row the
// first is logged. Chats of other hubs read the same log as consumers of their own.
func (s *Service) keepHistory(ctx context.Context) error {
	failing := false
	log := messagelog.Name(s.cfg.Tenant, "history")
	return s.log.Consume(ctx, log, "events/"+s.cfg.Hub, func(ctx context.Context, batch []messagelog.Entry) error {
		err := s.remember(ctx, batch)
		if err != nil && !failing && ctx.Err() == nil {
			s.logger.Error("messages not stored; they will be tried again", "error", err)
		}
		failing = err != nil
		return err
	})
}

// remember stores a batch. An error hands the whole batch over again later, which is harmless: a message that is
// there is recognised by its key. What can never be stored is counted and left out, so that it holds up nobody.
func (s *Service) remember(ctx context.Context, batch []messagelog.Entry) error {
	for part := range slices.Chunk(batch, chat.MaxBatch) {
		results, err := s.rememberPart(ctx, part)
		if err != nil {
			return err
		}
		for _, result := range results {
			s.metrics.history.WithLabelValues(result).Inc()
		}
	}
	return nil
}

func (s *Service) rememberPart(ctx context.Context, part []messagelog.Entry) (results []string, err error) {
	var messages []chat.Message
	var from []string
	for _, entry := range part {
		m, fault := s.message(entry)
		if fault != "" {
			results = append(results, fault)
			continue
		}
		messages, from = append(messages, m), append(from, entry.ConnectionID)
	}
	if len(messages) == 0 { // another hub was busy
		return results, nil
	}
	outcomes, err := s.store.AddMessages(ctx, s.cfg.Tenant, messages)
	var fresh []remembered
	for i, o := range outcomes {
		results = append(results, result(o))
		if o.Created {
			fresh = append(fresh, remembered{o.Message, from[i]})
		}
	}
	s.tellRemembered(ctx, fresh)
	return results, err
}

// message returns what is to be stored of an entry, or why nothing is.
func (s *Service) message(e messagelog.Entry) (m chat.Message, fault string) {
	if e.Event != nil || e.Hub != (webpubsub.HubKey{Tenant: s.cfg.Tenant, Hub: s.cfg.Hub}) {
		return m, historyForeign
	}
	text, key, fault := saidIn(e.Data)
	if utf8.RuneCountInString(text) > chat.MaxTextRunes {
		fault = historyInvalid
	}
	if key == "" || len(key) > chat.MaxKeyBytes {
		key = e.ID
	}
	return chat.Message{RoomID: e.Group, AuthorID: e.FromUserID, Text: text, Key: key, SentAt: e.Time}, fault
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
// it is from is not looked at.
func saidIn(d webpubsub.Data) (text, key, fault string) {
	switch d.Type {
	case webpubsub.DataText:
		text = string(d.Bytes)
	case webpubsub.DataJSON:
		var in struct {
			Message *string
			Key     json.RawMessage
		}
		if json.Unmarshal(d.Bytes, &in) != nil || in.Message == nil {
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
	return text, key, ""
}
