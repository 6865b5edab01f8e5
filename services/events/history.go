package events

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// What becomes of a group message in the log, as metrics say it.
const (
	historyStored     = "stored"
	historyKnown      = "known"      // its key is there already: it was read or sent twice
	historyForeign    = "foreign"    // of another hub, or for a group that is no room
	historyNotText    = "not_text"   // binary, or JSON without a text
	historyBlank      = "blank"      // nothing but white space
	historyInvalid    = "invalid"    // too long, or from nobody
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
	for _, entry := range batch {
		result, err := s.rememberOne(ctx, entry)
		if err != nil {
			return err
		}
		s.metrics.history.WithLabelValues(result).Inc()
	}
	return nil
}

func (s *Service) rememberOne(ctx context.Context, e messagelog.Entry) (result string, err error) {
	if e.Hub != (webpubsub.HubKey{Tenant: s.cfg.Tenant, Hub: s.cfg.Hub}) {
		return historyForeign, nil
	}
	text, key, fault := said(e.Data)
	if fault != "" {
		return fault, nil
	}
	if key == "" || len(key) > chat.MaxKeyBytes {
		key = e.ID
	}
	m := chat.Message{RoomID: e.Group, AuthorID: e.FromUserID, Text: text, Key: key, SentAt: e.Time}
	_, created, err := s.store.AddMessage(ctx, s.cfg.Tenant, m)
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return historyForeign, nil
	case errors.Is(err, chat.ErrForbidden):
		return historyNotAllowed, nil
	case errors.Is(err, chat.ErrInvalid):
		return historyInvalid, nil
	case err != nil:
		return "", err
	case !created:
		return historyKnown, nil
	}
	return historyStored, nil
}

// said returns the text of a group message and its author's key for it, or why it has none. Who the payload says
// it is from is not looked at.
func said(d webpubsub.Data) (text, key, fault string) {
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
