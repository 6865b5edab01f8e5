package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
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
