package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestEventsServiceOfTheVersionBefore does not know what it is asked, as pods of two versions work side by side during an upgrade: what is
// sent to the chat's hub passes, as it did then, and at once. What a new one answers counts.
func TestEventsServiceOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		upgraded := make(chan struct{})
		j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
			select {
			case <-upgraded:
				verdicts(w, e)
			default:
				http.Error(w, "ce-type must be azure.webpubsub.sys.{name}, azure.webpubsub.gp.{name} or azure.webpubsub.user.{name}, with the name in ce-eventName", http.StatusBadRequest)
			}
		}}
		h := handler(t, j.ServeHTTP)
		set, log := withHandler(h), &memoryLog{}
		set.log, set.tenant.Hubs[0].Listeners = log, []string{"history"}
		set.tenant.Hubs[0].Chat = strings.TrimSuffix(h.URL, "/{event}")
		s := start(t, set)
		c, member := s.join(codec, "ben"), s.join(codec, "ana", "room")
		send := func(says string) error {
			return c.SendToGroup(within(t), "room", text(says), wsclient.SendOptions{})
		}
		must(t, send("refuse"))
		wantMessage(t, member, "refuse")
		close(upgraded)
		wantFailure(t, send("refuse"), protocol.Forbidden)
		must(t, send("take"))
		must(t, send("pass"))
		wantMessage(t, member, "pass")
		log.mu.Lock()
		defer log.mu.Unlock()
		if got := j.questions(); len(got) != 4 || len(log.entries) != 2 {
			t.Errorf("got questions %q and %d copies, want four, each put once, and copies of the two that were published", got, len(log.entries))
		}
	})
}

// TestSettingsChangeWhileAsking has the handler not be asked any more while it is asked: what comes next does not overtake.
func TestSettingsChangeWhileAsking(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		j := &judge{answer: func(w http.ResponseWriter, _ cloudevents.Event) {
			<-release
			w.WriteHeader(http.StatusNoContent)
		}}
		one := judged(t, j).tenant
		one.Keys = tenant.Keys{Primary: key}
		one.Name, one.Hosts = "default", []string{"*"}
		source, err := tenant.NewStatic(one)
		must(t, err)
		s := startWith(t, setup{}, source)
		member := s.join(codec, "ana", "room")
		c := s.join(codec, "ben")
		must(t, c.SendToGroup(within(t), "room", text("first"), wsclient.SendOptions{NoAck: true}))
		eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
		off := one
		off.Hubs = slices.Clone(one.Hubs)
		off.Hubs[0].Handlers = slices.Clone(one.Hubs[0].Handlers)
		off.Hubs[0].Handlers[0].BeforePublish = tenant.BeforePublish{}
		must(t, source.Set(off))
		sent := make(chan error, 1)
		go func() {
			sent <- c.SendToGroup(context.Background(), "room", text("second"), wsclient.SendOptions{})
		}()
		must(t, member.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{}))
		wantMessage(t, member, "meanwhile")
		close(release)
		must(t, <-sent)
		wantMessage(t, member, "first")
		wantMessage(t, member, "second")
		if got := j.questions(); len(got) != 1 {
			t.Errorf("got questions %q, want only that from before the change", got)
		}
	})
}

// TestNoStreamsWhereMessagesAreChecked: what is published in parts could only be asked about in parts. That holds for streams, too, that
// began before the settings said so.
func TestNoStreamsWhereMessagesAreChecked(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		on := judged(t, &judge{}).tenant
		on.Keys, on.Name, on.Hosts = tenant.Keys{Primary: key}, "default", []string{"*"}
		off := on
		off.Hubs = nil
		source, err := tenant.NewStatic(off)
		must(t, err)
		s := startWith(t, setup{}, source)
		p := publish(t, s.join(codec, "ben"))
		p.start("old", "room")
		must(t, source.Set(on))
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "new", Group: "room"})
		p.wantClosed("new", protocol.Forbidden)
		p.send("old", 1, text("part"))
		p.wantClosed("old", protocol.Forbidden)
	})
}
