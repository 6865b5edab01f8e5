package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// invoke begins an invocation, whose answer is a notice.
func invoke(t testing.TB, c *wsclient.Client, id, event string, d webpubsub.Data) {
	t.Helper()
	r := &protocol.Request{Kind: protocol.Invoke, InvocationID: id, Event: event}
	r.SetData(d)
	must(t, c.Do(within(t), r))
}

func cancelInvocation(t testing.TB, c *wsclient.Client, id string) {
	t.Helper()
	must(t, c.Do(within(t), &protocol.Request{Kind: protocol.CancelInvocation, InvocationID: id}))
}

// wantAnswer waits for the answer to an invocation; no failure means success.
func wantAnswer(t testing.TB, c *wsclient.Client, id, failure string) *protocol.Response {
	t.Helper()
	select {
	case r := <-c.Notices():
		if r.Kind != protocol.InvokeResponse || r.InvocationID != id || (r.Failure == nil) != (failure == "") {
			t.Fatalf("got %+v, %v; want an answer to %s with failure %q", r, r.Failure, id, failure)
		}
		if r.Failure != nil && (r.Failure.Name != failure || r.Failure.Message == "") {
			t.Fatalf("got %v, want failure %q", r.Failure, failure)
		}
		return r
	case <-within(t).Done():
		t.Fatalf("invocation %s is not answered", id)
	}
	return nil
}

// wantSoon waits for c to be closed.
func wantSoon(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-within(t).Done():
		t.Fatalf("%s: it does not happen", what)
	}
}

// TestInvocation sends each type of data, and none, and gets it back.
//
// checklist:C24 E12
func TestInvocation(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		var headers http.Header
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/rpc.echo" {
				headers = r.Header
				w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
				_, _ = io.Copy(w, r.Body)
			}
		})))
		c := s.join(codec, "ana")
		for contentType, d := range map[string]webpubsub.Data{
			"text/plain":               text("hello"),
			"application/json":         {Type: webpubsub.DataJSON, Bytes: []byte(`{ "a": [1.50] }`)},
			"application/octet-stream": {Type: webpubsub.DataBinary, Bytes: []byte{0, 255}},
			"application/x-protobuf":   {Type: webpubsub.DataProtobuf, Bytes: []byte("\n\x01x")},
		} {
			got, err := c.Invoke(within(t), "rpc.echo", d)
			if err != nil || got.Type != d.Type || string(got.Bytes) != string(d.Bytes) {
				t.Errorf("%v: got %v %q, %v; want it back", d.Type, got.Type, got.Bytes, err)
			}
			if got := headers.Get("Content-Type"); !strings.HasPrefix(got, contentType) {
				t.Errorf("%v: the handler got Content-Type %q, want %q", d.Type, got, contentType)
			}
			if headers.Get("Ce-Type") != "azure.webpubsub.user.rpc.echo" || headers.Get("Ce-Eventname") != "rpc.echo" ||
				headers.Get("Ce-Connectionid") != c.Info().ConnectionID || headers.Get("Ce-Userid") != "ana" {
				t.Errorf("the handler got %v, want what an event of that name has", headers)
			}
		}
		invoke(t, c, "none", "rpc.echo", webpubsub.Data{})
		if r := wantAnswer(t, c, "none", ""); r.Data.Type != 0 || len(r.Data.Bytes) != 0 {
			t.Errorf("got %v %q, want no data", r.Data.Type, r.Data.Bytes)
		}
		if got := headers.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
			t.Errorf("without data the handler got Content-Type %q, want text/plain", got)
		}
		must(t, s.rest().SendToUser(within(t), "ana", text("the only message")))
		wantMessage(t, c, "the only message")
	})
}

// checklist:C24 E12
func TestFailedInvocation(t *testing.T) {
	t.Parallel()
	fails := withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			http.Error(w, "b is missing", http.StatusBadRequest)
		case "/long":
			http.Error(w, strings.Repeat("x", 5000), http.StatusConflict)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/strange":
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, "x")
		case "/no.json":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		case "/named": // says by itself what the client's error is called
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"code":"RoomNotFound","message":"there is no such room"}`)
		case "/nameless":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":7}`)
		case "/slow":
			_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the request is given up
			<-r.Context().Done()
		}
	}))
	hasty := fails // whoever is given so little time times out, however far the request came
	hasty.config.Upstream = upstream.Config{EventTimeout: 300 * time.Millisecond}
	eachPubSub(t, func(t *testing.T, codec string) {
		t.Parallel() // each waits for the attempts at what is broken
		c := start(t, hasty).join(codec, "ana")
		invoke(t, c, "slow", "slow", text("x"))
		if r := wantAnswer(t, c, "slow", protocol.Timeout); r.Data.Type != 0 {
			t.Error("slow: got data with a failure")
		}
		c = start(t, fails).join(codec, "ana")
		for event, want := range map[string]string{"bad": protocol.BadRequest, "long": protocol.BadRequest, "broken": protocol.InternalServerError,
			"strange": protocol.InternalServerError, "no.json": protocol.InternalServerError, "named": "RoomNotFound", "nameless": protocol.BadRequest} {
			invoke(t, c, event, event, text("x"))
			r := wantAnswer(t, c, event, want)
			text := map[string]string{"bad": "b is missing", "named": "there is no such room"}[event]
			if text != "" && strings.TrimSpace(r.Failure.Message) != text {
				t.Errorf("got message %q, want the handler's text", r.Failure.Message)
			}
			if event == "long" && len(r.Failure.Message) > 1024 {
				t.Errorf("got a message of %d bytes, want at most %d", len(r.Failure.Message), 1024)
			}
			if r.Data.Type != 0 {
				t.Errorf("%s: got data with a failure", event)
			}
		}
		c = start(t, setup{}).join(codec, "ana")
		_, err := c.Invoke(within(t), "any", text("x"))
		wantFailure(t, err, protocol.NotFound)
	})
}

// TestInvocationsUnderWay has several at a time, the first of which hangs: they are posted in order, one after
// another, and hold nothing else up.
//
// checklist:C24 E12
func TestInvocationsUnderWay(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		var mu sync.Mutex
		var posted []string
		release := make(chan struct{})
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/rpc" && r.URL.Path != "/event" {
				return
			}
			body, _ := io.ReadAll(r.Body)
			if string(body) == "0" {
				<-release
			}
			mu.Lock()
			defer mu.Unlock()
			posted = append(posted, string(body))
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(body)
		})))
		c := s.join(codec, "ana", "room")
		const n = 100 // more than may be under way
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range n {
				invoke(t, c, fmt.Sprint(i), "rpc", text(fmt.Sprint(i)))
				if i == 10 {
					must(t, c.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{}))
					must(t, c.Ping(within(t)))
					close(release)
				}
			}
		}()
		wantMessage(t, c, "meanwhile")
		for i := range n {
			if r := wantAnswer(t, c, fmt.Sprint(i), ""); string(r.Data.Bytes) != fmt.Sprint(i) {
				t.Errorf("got %q to invocation %d", r.Data.Bytes, i)
			}
		}
		wantSoon(t, sent, "all are sent")
		must(t, c.SendEvent(within(t), "event", text("an event")))
		mu.Lock()
		defer mu.Unlock()
		for i := range n {
			if posted[i] != fmt.Sprint(i) {
				t.Fatalf("posted %v, want them in order", posted)
			}
		}
	})
}

// checklist:C24
func TestInvocationIDIsTaken(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
				w.Header().Set("Content-Type", "text/plain")
				_, _ = io.WriteString(w, "done")
			}
		})))
		c := s.join(codec, "ana")
		invoke(t, c, "x", "slow", text("first"))
		invoke(t, c, "x", "slow", text("second"))
		wantAnswer(t, c, "x", protocol.BadRequest)
		close(release)
		if r := wantAnswer(t, c, "x", ""); string(r.Data.Bytes) != "done" {
			t.Errorf("got %q, want the first one answered", r.Data.Bytes)
		}
		invoke(t, c, "x", "slow", text("third"))
		wantAnswer(t, c, "x", "") // an id may be used again
	})
}

// TestCancelInvocation cancels one that runs, one that waits behind it, and one that there is not.
//
// checklist:C24 E12
func TestCancelInvocation(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		running, aborted := make(chan struct{}), make(chan struct{})
		var waited atomic.Bool
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hang":
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the request is given up
				close(running)
				<-r.Context().Done()
				close(aborted)
			case "/waits":
				waited.Store(true)
			}
		})))
		c := s.join(codec, "ana")
		cancelInvocation(t, c, "unknown")
		invoke(t, c, "runs", "hang", text("x"))
		invoke(t, c, "waits", "waits", text("x"))
		invoke(t, c, "last", "other", text("x"))
		wantSoon(t, running, "the first is posted")
		cancelInvocation(t, c, "waits")
		invoke(t, c, "waits", "other", text("x")) // its id is free at once
		cancelInvocation(t, c, "runs")
		wantSoon(t, aborted, "the request is given up")
		wantAnswer(t, c, "last", "") // and no answer to the others
		wantAnswer(t, c, "waits", "")
		cancelInvocation(t, c, "last")
		must(t, c.Ping(within(t)))
		if waited.Load() {
			t.Error("an invocation was posted after it had been canceled")
		}
	})
}

// TestInvocationsEndWithTheSocket has the client go away: it has given its invocations up.
//
// checklist:C24
func TestInvocationsEndWithTheSocket(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		running, aborted := make(chan struct{}), make(chan struct{})
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the request is given up
				close(running)
				<-r.Context().Done()
				close(aborted)
			}
		})))
		c := s.join(codec, "ana")
		invoke(t, c, "x", "hang", text("x"))
		wantSoon(t, running, "it is posted")
		c.Drop()
		wantSoon(t, aborted, "the request is given up")
		if isReliable(codec) {
			must(t, c.Recover(within(t)))
			invoke(t, c, "x", "other", text("x")) // the id is free
			wantAnswer(t, c, "x", "")
		}
	})
}
