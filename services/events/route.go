package events

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
)

// handle answers one event. Its work is finished even when the gateway stops waiting for the answer.
func (s *Service) handle(ctx context.Context, e cloudevents.Event) cloudevents.Response {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTime)
	defer cancel()
	start := time.Now()
	label, res := s.route(ctx, e)
	s.metrics.handled(label, res.Status, time.Since(start))
	return res
}

// route goes by the event's full type, since a client may call its events as it likes. label names the event
// in metrics.
func (s *Service) route(ctx context.Context, e cloudevents.Event) (label string, res cloudevents.Response) {
	switch e.Type {
	case cloudevents.Connect:
		res, err := s.system.Connect(ctx, e)
		if err != nil {
			res = s.page.Failure(ctx, e, err)
		}
		return "connect", res
	case cloudevents.Connected:
		return "connected", s.noted(ctx, e, s.system.Connected(ctx, e))
	case cloudevents.Disconnected:
		return "disconnected", s.noted(ctx, e, s.system.Disconnected(ctx, e))
	case cloudevents.BeforePublish:
		return "beforePublish", s.page.BeforePublish(ctx, e)
	}
	if name, isUser := strings.CutPrefix(e.Type, cloudevents.UserPrefix); isUser && strings.HasPrefix(name, invoke.Prefix) {
		return s.invoke.Handle(ctx, e)
	}
	return s.page.Handle(ctx, e)
}

// noted is the answer to an event that a gateway only tells of.
func (s *Service) noted(ctx context.Context, e cloudevents.Event, err error) cloudevents.Response {
	if err != nil {
		return s.page.Failure(ctx, e, err)
	}
	return cloudevents.Response{Status: http.StatusNoContent}
}

// keepHistory stores what people have said in rooms, at least once, in the order of the log. Of failures in a row the
// first is logged. Chats of other hubs read the same log as consumers of their own.
func (s *Service) keepHistory(ctx context.Context) error {
	failing := false
	log := messagelog.Name(s.cfg.Tenant, "history")
	return s.deps.Log.Consume(ctx, log, "events/"+s.cfg.Hub, func(ctx context.Context, batch []messagelog.Entry) error {
		err := s.heard.Keep(ctx, batch)
		if err != nil && !failing && ctx.Err() == nil {
			s.deps.Logger.Error("messages not stored; they will be tried again", "error", err)
		}
		failing = err != nil
		return err
	})
}
