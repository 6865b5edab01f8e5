package session

import (
	"context"
	"log/slog"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// event asks the application (client-json.md 4.4). What it answers goes to the client before the ack.
func (r *reader) event() {
	c, a := r.Client, r.ack()
	ctx, cancel := context.WithCancel(r.context())
	r.eventAnswered = r.askApplication(ctx, cancel, func(ctx context.Context, name string, d webpubsub.Data) {
		reply, err := c.events.Event(ctx, name, d)
		switch {
		case err == nil:
			if reply != nil {
				c.shared.node.SendToConn(c.conn, webpubsub.Message{Data: *reply})
			}
			c.acknowledge(a, nil)
			return
		case ctx.Err() != nil: // the connection has ended
		default:
			c.logBounded(slog.LevelWarn, "user event", slog.String("event", name), slog.Any("error", err))
		}
		if c.conn.Codec.ID() == protocol.IDSimple {
			c.shared.conns.Close(c.conn, hub.ReasonUpstream.Closing("The application could not handle the message."))
			return
		}
		c.acknowledge(a, internal("The application could not handle the event."))
	})
}

// askApplication calls f with the request's event once all that was asked before has been answered, in a goroutine of its
// own: pings are answered meanwhile. The channel is closed when f has returned. cancel ends ctx and is called afterwards.
func (r *reader) askApplication(ctx context.Context, cancel context.CancelFunc,
	f func(ctx context.Context, name string, d webpubsub.Data)) chan struct{} {
	name, d := r.req.Event, webpubsub.Data{Type: webpubsub.DataText}
	if r.req.HasData() {
		d = dataOf(&r.req)
	}
	before, done := r.takeTurn()
	go func() { // waited for by awaitAnswers
		defer close(done)
		defer cancel()
		<-before
		f(ctx, name, d)
	}()
	return done
}

// takeTurn takes a turn among what the application is asked about the connection, after all that has been asked before, also by a
// reader of a former socket. It comes when before is closed; done is to be closed when it is over.
func (r *reader) takeTurn() (before <-chan struct{}, done chan struct{}) {
	done = make(chan struct{})
	r.allAnswered = done
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.lastTurn
	if before == nil {
		before = over
	}
	r.lastTurn = done
	return before, done
}

// over is a turn that is over.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// awaitAnswers waits until all that was asked of the application has been answered. Invocations are canceled: their answers
// could go to this socket only, which has ended.
func (r *reader) awaitAnswers() {
	r.invoked.cancelAll()
	if r.allAnswered != nil {
		<-r.allAnswered
	}
}
