package fault

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/tests/fault/facts"
	"github.com/chatr-dev/chatr/tests/topology"
)

// webhook is the application. It takes its time to answer, and can be made to hang.
type webhook struct {
	w      *world
	server *httptest.Server

	mu    sync.Mutex
	hung  chan struct{} // closed by resume; nil while it does not hang
	told  map[string]bool
	event func(cloudevents.Event) // what rows do with events of their own
}

// handlingTime is how long the application thinks about an event.
const handlingTime = 10 * time.Millisecond

func newWebhook(w *world) *webhook {
	h := &webhook{w: w, told: map[string]bool{}}
	h.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		of, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		receiver := &cloudevents.Receiver{Keys: func() []string { return []string{topology.AccessKey} }, Hub: of, Origins: []string{"*"}}
		receiver.Handler(h.handle).ServeHTTP(rw, r)
	}))
	w.t.Cleanup(func() {
		h.resume()
		h.server.CloseClientConnections()
		h.server.Close()
	})
	return h
}

// hub is an item of the YAML list of hubs whose handler this is.
func (h *webhook) hub(name string) string {
	return fmt.Sprintf(`
      - name: %s
        handlers:
          - {url: "%s/{hub}/{event}", userEvents: "*", systemEvents: [connected, disconnected]}
`, name, h.server.URL)
}

func (h *webhook) handle(ctx context.Context, e cloudevents.Event) cloudevents.Response {
	h.mu.Lock()
	hung, event := h.hung, h.event
	h.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-ctx.Done(): // the gateway has given up, and asks again
			return cloudevents.Response{Status: http.StatusServiceUnavailable}
		}
	}
	time.Sleep(handlingTime)
	switch {
	case e.Type == cloudevents.Disconnected:
		h.mu.Lock()
		h.told[e.ConnectionID] = true
		h.mu.Unlock()
		h.w.log.Add(facts.Fact{Kind: facts.Told, Conn: e.ConnectionID, Reason: strconv.FormatUint(e.ID, 10)})
	case e.IsSystem():
	default:
		from, number, _ := strings.Cut(string(e.Body), "#")
		if n, err := strconv.Atoi(number); err == nil {
			h.w.log.Add(facts.Fact{Kind: facts.Handled, Client: from, Number: n})
		} else if event != nil {
			event(e)
		}
	}
	return cloudevents.Response{}
}

// on has events whose text is not the load's handled by f.
func (h *webhook) on(f func(cloudevents.Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.event = f
}

// hang makes every event wait, and those that come, until resume.
func (h *webhook) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hung == nil {
		h.hung = make(chan struct{})
	}
}

func (h *webhook) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hung != nil {
		close(h.hung)
		h.hung = nil
	}
}

// allTold reports whether disconnected has been told of every connection that ended.
func (h *webhook) allTold() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.w.log.Facts() {
		if f.Kind == facts.Ended && !h.told[f.Conn] {
			return false
		}
	}
	return true
}
