package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"sync"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// invocations are those of one socket that have not been answered. SDKs give theirs up with the socket, so that an
// answer on a later one could only meet another invocation of the same id. How many there may be is bounded by eventQueue.
type invocations struct {
	mu      sync.Mutex // guards the following
	running map[string]*invocation
}

type invocation struct {
	cancel context.CancelFunc
}

// has reports whether an invocation of that id is running.
func (i *invocations) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.running[id] != nil
}

func (i *invocations) add(id string, v *invocation) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running == nil {
		i.running = map[string]*invocation{}
	}
	i.running[id] = v
}

// remove reports whether v is still running, which it is not any more.
func (i *invocations) remove(id string, v *invocation) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running[id] != v {
		return false
	}
	delete(i.running, id)
	return true
}

// cancel gives up an invocation, if it is running.
func (i *invocations) cancel(id string) {
	i.mu.Lock()
	v := i.running[id]
	i.mu.Unlock()
	if v != nil && i.remove(id, v) {
		v.cancel()
	}
}

// cancelAll gives all up.
func (i *invocations) cancelAll() {
	i.mu.Lock()
	ids := make([]string, 0, len(i.running))
	for id := range i.running {
		ids = append(ids, id)
	}
	i.mu.Unlock()
	for _, id := range ids {
		i.cancel(id)
	}
}

// invocation asks the application and sends its answer as an invokeResponse (client-json.md 4.7, event-handler.md
// 6.3). Like other events of a connection, invocations are posted one after another, in order; a client may have
// several under way, and cancel those that wait as well.
func (r *reader) invocation() {
	c, id := r.Client, r.req.InvocationID
	if r.invoked.has(id) {
		c.answerInvocation(id, webpubsub.Data{}, &protocol.Failure{Name: protocol.BadRequest,
			Message: fmt.Sprintf("The invocation '%s' is running; invocations need ids of their own.", id)})
		return
	}
	if !r.enterQueue() {
		c.answerInvocation(id, webpubsub.Data{}, invokeFailure(r.events.Refuse()))
		return
	}
	ctx, cancel := context.WithCancel(r.context())
	v, invoked := &invocation{cancel}, &r.invoked
	invoked.add(id, v)
	e := r.events.Invocation(r.req.Event, r.eventData())
	r.queue(func(context.Context) {
		defer cancel()
		if ctx.Err() != nil { // canceled before its turn
			e.Withdraw()
			return
		}
		reply, err := e.Put(ctx)
		if !invoked.remove(id, v) {
			return // canceled
		}
		var answer webpubsub.Data
		if reply != nil && len(reply.Bytes) > 0 { // metadata have no place in it
			answer = *reply
		}
		c.answerInvocation(id, answer, invokeFailure(err))
	})
}

func (c *Client) answerInvocation(id string, d webpubsub.Data, failure *protocol.Failure) {
	c.reply(c.conn.Codec.AppendInvokeResponse(nil, id, d, failure))
}

func invokeFailure(err error) *protocol.Failure {
	var failure *upstream.Failure
	switch {
	case err == nil:
		return nil
	case errors.Is(err, upstream.ErrNoHandler):
		return &protocol.Failure{Name: protocol.NotFound, Message: "No event handler is set for this event."}
	case !errors.As(err, &failure):
	case failure.Reason == upstream.ReasonFull:
		return internal(tooManyEvents)
	case failure.Reason == upstream.ReasonTimeout:
		return &protocol.Failure{Name: protocol.Timeout, Message: "The application did not answer in time."}
	case failure.Status >= 400 && chosenFailure(failure) != nil:
		return chosenFailure(failure)
	case failure.Status >= 400 && failure.Status < 500:
		text := "The application refused the invocation."
		if n := len(failure.Body); n > 0 && n <= maxFailureText {
			text = string(failure.Body)
		}
		return &protocol.Failure{Name: protocol.BadRequest, Message: text}
	}
	return internal("The application could not handle the invocation.")
}

// chosenFailure is the error that an application chose for the client: the JSON {"code", "message"}, as the errors of the
// REST API have it. Clients of the chat protocol go by the code.
func chosenFailure(f *upstream.Failure) *protocol.Failure {
	if media, _, err := mime.ParseMediaType(f.ContentType); err != nil || media != cloudevents.TypeJSON || len(f.Body) > maxFailureText {
		return nil
	}
	var chosen struct{ Code, Message string }
	if json.Unmarshal(f.Body, &chosen) != nil || chosen.Code == "" {
		return nil
	}
	return &protocol.Failure{Name: chosen.Code, Message: chosen.Message}
}

// maxFailureText is how much of an application's refusal is repeated to the client.
const maxFailureText = 1024
