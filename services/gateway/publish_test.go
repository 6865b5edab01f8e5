package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// judge is an event handler that is asked about messages to groups, and keeps what it was asked.
type judge struct {
	mu     sync.Mutex
	events []string            // names of all events, in order; of beforePublish the body too
	asked  []cloudevents.Event // of beforePublish
	answer func(w http.ResponseWriter, e cloudevents.Event)
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/beforePublish" {
		j.note(strings.TrimPrefix(r.URL.Path, "/"), nil)
		return
	}
	e := cloudevents.Event{Type: r.Header.Get("ce-type"), ConnectionID: r.Header.Get("ce-connectionId"), UserID: r.Header.Get("ce-userId"),
		Group: r.Header.Get("ce-group"), AckID: r.Header.Get("ce-ackId"), NoEcho: r.Header.Get("ce-noEcho") == "true",
		ContentType: r.Header.Get("Content-Type"), Body: body}
	j.note("ask "+string(body), &e)
	if j.answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	j.answer(w, e)
}

func (j *judge) note(name string, e *cloudevents.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, name)
	if e != nil {
		j.asked = append(j.asked, *e)
	}
}

// questions returns the bodies that the judge was asked about.
func (j *judge) questions() (bodies []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.asked {
		bodies = append(bodies, string(e.Body))
	}
	return bodies
}

func (j *judge) last() cloudevents.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.asked[len(j.asked)-1]
}

// heard returns the names of all events.
func (j *judge) heard() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// judged is a setup whose hub asks j before it publishes.
func judged(t *testing.T, j *judge, change ...func(*tenant.BeforePublish)) setup {
	t.Helper()
	h := handler(t, j.ServeHTTP)
	h.BeforePublish = tenant.BeforePublish{Enabled: true, Timeout: patience}
	for _, c := range change {
		c(&h.BeforePublish)
	}
	return withHandler(h)
}

func waitFor(d time.Duration) func(*tenant.BeforePublish) {
	return func(b *tenant.BeforePublish) { b.Timeout = d }
}

// verdicts answers by what a message says.
func verdicts(w http.ResponseWriter, e cloudevents.Event) {
	switch body := string(e.Body); {
	case strings.Contains(body, "replace"):
		w.Header().Set("Content-Type", e.ContentType)
		_, _ = io.WriteString(w, strings.Replace(body, "replace", "replaced", 1))
	case strings.Contains(body, "take"):
		w.WriteHeader(http.StatusAccepted)
	case strings.Contains(body, "refuse"):
		http.Error(w, "not\r\nhere", http.StatusForbidden)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// sender sends data to group room in a subprotocol, or as a simple client in sendToGroup mode. It returns what the ack says.
func sender(s *server, codec string, query string) (c *wsclient.Client, send func(t *testing.T, d webpubsub.Data) error) {
	if codec == "" {
		c = s.dial(s.clientURL("ben", all)+toRoom+query, "")
		return c, func(t *testing.T, d webpubsub.Data) error { return c.Send(within(t), d) }
	}
	c = s.join(codec, "ben")
	return c, func(t *testing.T, d webpubsub.Data) error {
		return c.SendToGroup(within(t), "room", d, wsclient.SendOptions{})
	}
}

// dataTypes are those that a client of a subprotocol can send.
func dataTypes(codec string) []webpubsub.DataType {
	switch {
	case codec == "":
		return []webpubsub.DataType{webpubsub.DataText}
	case isProtobuf(codec):
		return []webpubsub.DataType{webpubsub.DataText, webpubsub.DataBinary, webpubsub.DataProtobuf}
	}
	return []webpubsub.DataType{webpubsub.DataText, webpubsub.DataJSON, webpubsub.DataBinary}
}

// saying returns data of a type that says something.
func saying(typ webpubsub.DataType, s string) webpubsub.Data {
	switch typ {
	case webpubsub.DataJSON:
		return webpubsub.Data{Type: typ, Bytes: []byte(`{"says":"` + s + `"}`)}
	case webpubsub.DataProtobuf:
		return webpubsub.Data{Type: typ, Bytes: []byte(pbField(1, "type.googleapis.com/x") + pbField(2, s))}
	}
	return webpubsub.Data{Type: typ, Bytes: []byte(s)}
}

// TestHandlerDecidesWhatIsPublished has a client send, in each subprotocol and of each type, what the handler lets pass, replaces,
// takes and refuses. Somebody on another node hears the first two, as coming from the client.
func TestHandlerDecidesWhatIsPublished(t *testing.T) {
	t.Parallel()
	j := &judge{answer: verdicts}
	pairsOf(t, judged(t, j), func(t *testing.T, a, b *server) {
		eachCodec(t, func(t *testing.T, codec string) {
			a, b := *a, *b
			a.t, b.t = t, t
			for _, typ := range dataTypes(codec) {
				member := b.join(protocol.NameReliableJSON, "ana", "room")
				c, send := sender(&a, codec, "")
				for _, says := range []string{"pass", "replace", "take"} {
					must(t, send(t, saying(typ, says)))
				}
				err := send(t, saying(typ, "refuse"))
				if codec == "" {
					must(t, err)
					if e := wantClose(t, c, 1008); e.Reason != "not here" {
						t.Errorf("got reason %q, want the handler's on one line", e.Reason)
					}
				} else {
					wantFailure(t, err, protocol.Forbidden)
					if !strings.Contains(err.Error(), "not here") {
						t.Errorf("got %v, want what the handler says", err)
					}
					must(t, send(t, saying(typ, "after")))
				}
				want := []webpubsub.Data{saying(typ, "pass"), saying(typ, "replaced")}
				if codec != "" {
					want = append(want, saying(typ, "after"))
				}
				for i, d := range want {
					m, err := member.Receive(within(t))
					must(t, err)
					if typ == webpubsub.DataProtobuf && i == 1 { // its length stands in it
						d = webpubsub.Data{Type: typ, Bytes: []byte(strings.Replace(string(saying(typ, "replace").Bytes), "replace", "replaced", 1))}
					}
					if m.Group != "room" || m.FromUserID != "ben" || m.Data.Type != d.Type || string(m.Data.Bytes) != string(d.Bytes) || m.SequenceID != uint64(i+1) {
						t.Errorf("got message %d %v %q to %s from %q, want message %d %v %q to room from ben", m.SequenceID, m.Data.Type, m.Data.Bytes, m.Group, m.FromUserID, i+1, d.Type, d.Bytes)
					}
				}
				e := j.last()
				if e.Type != "chatr.sys.beforePublish" || e.Group != "room" || e.UserID != "ben" || (e.AckID != "") != (codec != "") || e.NoEcho {
					t.Errorf("got event %+v, want one of ben's connection about the message to room", e)
				}
				member.Drop()
				c.Drop()
			}
		})
	})
}

// TestAskedMessagesAreNotEchoed sends without echo what passes and what is replaced.
func TestAskedMessagesAreNotEchoed(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		j := &judge{answer: verdicts}
		s := start(t, judged(t, j))
		c, other := s.join(codec, "ana", "room"), s.join(codec, "ana", "room")
		for _, says := range []string{"pass", "replace"} {
			must(t, c.SendToGroup(within(t), "room", text(says), wsclient.SendOptions{NoEcho: true}))
			if !j.last().NoEcho {
				t.Error("the handler does not hear that the sender wants no echo")
			}
		}
		must(t, c.SendToGroup(within(t), "room", text("for all"), wsclient.SendOptions{}))
		wantMessage(t, c, "for all")
		for _, want := range []string{"pass", "replaced", "for all"} {
			wantMessage(t, other, want)
		}
	})
	j := &judge{}
	s := start(t, judged(t, j))
	c, send := sender(s, "", "&noEcho=true")
	must(t, send(t, text("x")))
	must(t, send(t, text("y")))
	eventually(t, "both were asked about", func() bool { return len(j.questions()) == 2 })
	if !j.last().NoEcho {
		t.Error("the handler does not hear that a simple client wants no echo")
	}
	c.Drop()
}

// sendNow sends a request that wants no ack, and returns when the server has read it.
func sendNow(t *testing.T, c *wsclient.Client, r *protocol.Request, says string) {
	t.Helper()
	r.SetData(text(says))
	must(t, c.Do(within(t), r))
	must(t, c.Ping(within(t)))
}

// TestAskingKeepsOrder has the handler hold back its answer about a message. What the connection sends and asks after it waits; its
// pings, joins and leaves do not, nor what others send.
func TestAskingKeepsOrder(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
			if string(e.Body) == "first" {
				<-release
			}
			w.WriteHeader(http.StatusNoContent)
		}}
		s := start(t, judged(t, j))
		member := s.join(codec, "ana", "room")
		c, other := s.join(codec, "ben", "old"), s.join(codec, "cara")
		sent := make(chan error, 2)
		request := func(r *protocol.Request, says string) {
			r.SetData(text(says))
			go func() { sent <- c.Do(within(t), r) }()
		}
		request(&protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: 1001}, "first")
		eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
		sendNow(t, c, &protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "second")
		must(t, c.Join(within(t), "new"))
		must(t, c.Leave(within(t), "old"))
		must(t, other.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{}))
		wantMessage(t, member, "meanwhile")
		request(&protocol.Request{Kind: protocol.SendEvent, Event: "named", HasAck: true, AckID: 7}, "third")
		if got := j.questions(); !slices.Equal(got, []string{"first", "meanwhile"}) {
			t.Errorf("got questions %q, want none about the second before the answer about the first", got)
		}
		close(release)
		for range 2 {
			must(t, <-sent)
		}
		wantMessage(t, member, "first")
		wantMessage(t, member, "second")
		heard := slices.DeleteFunc(j.heard(), func(name string) bool { return name != "named" && name != "ask second" })
		if !slices.Equal(heard, []string{"ask second", "named"}) {
			t.Errorf("got %q, want the event after the question about the message before it", heard)
		}
	})
}

// TestRepeatedAckIDIsAskedOnce sends a message again while the handler is asked about it, on the same socket and after a recovery, and
// once more when it was acked. A failed one may be tried again.
func TestRepeatedAckIDIsAskedOnce(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		fails := true
		j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
			switch says := string(e.Body); {
			case says == "once":
				<-release
			case says == "again" && fails:
				fails = false
				http.Error(w, "not yet", http.StatusConflict)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		}}
		s := start(t, judged(t, j))
		c := s.join(codec, "ben")
		frame := func(id uint64, says string) (bool, []byte) {
			r := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: id}
			r.SetData(text(says))
			codec, _ := protocol.ByName(codec)
			return codec.Binary(), codec.AppendRequest(nil, r)
		}
		send := func(id uint64, says string) {
			binary, b := frame(id, says)
			must(t, c.SendFrame(within(t), binary, b))
		}
		do := func(id uint64, says string) error {
			r := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: id}
			r.SetData(text(says))
			return c.Do(within(t), r)
		}
		send(5, "once")
		eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
		send(5, "once")
		must(t, c.Ping(within(t))) // which does not wait
		if isReliable(codec) {
			c.Drop()
			must(t, c.Recover(within(t)))
			send(5, "once")
		}
		must(t, c.Ping(within(t)))
		again := make(chan error, 1)
		go func() { again <- do(5, "once") }()
		close(release)
		if err := <-again; !isDuplicate(err) {
			t.Errorf("got %v, want a duplicate", err) // the first ack of the id may also be for another sending of it
		}
		wantFailure(t, do(5, "other"), protocol.Duplicate)
		wantFailure(t, do(6, "again"), protocol.Forbidden)
		must(t, do(6, "again"))
		wantFailure(t, do(6, "again"), protocol.Duplicate)
		if got := j.questions(); !slices.Equal(got, []string{"once", "again", "again"}) {
			t.Errorf("got questions %q, want one about each message, and another after a refusal", got)
		}
		if got := j.last().AckID; got != "6" {
			t.Errorf("got ackId %q, want the client's", got)
		}
	})
}

// isDuplicate reports whether err is what a client that has sent a request several times may be told.
func isDuplicate(err error) bool {
	return err == nil || strings.Contains(err.Error(), protocol.Duplicate)
}

// TestHandlerThatFailsToAnswer has a handler that is in each way of no use. By the settings the message is refused or passes; in either
// case the connection goes on, and no late answer changes anything.
func TestHandlerThatFailsToAnswer(t *testing.T) {
	t.Parallel()
	say := func(status int, contentType, body string) func(http.ResponseWriter, cloudevents.Event) {
		return func(w http.ResponseWriter, _ cloudevents.Event) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter, cloudevents.Event)
		wait   time.Duration
	}{
		"slow":           {wait: 200 * time.Millisecond},
		"fails":          {say(500, "text/plain", "boom"), time.Second},
		"hangs up":       {func(http.ResponseWriter, cloudevents.Event) { panic(http.ErrAbortHandler) }, time.Second},
		"malformed JSON": {say(200, "application/json", `{"a":`), patience},
		"malformed text": {say(200, "text/plain", "\xff"), patience},
		"unknown type":   {say(200, "text/html", "<p>"), patience},
		"another status": {say(201, "text/plain", "x"), patience},
		"huge":           {say(200, "text/plain", strings.Repeat("x", 1<<20+1)), patience},
		"huge state": {func(w http.ResponseWriter, _ cloudevents.Event) {
			w.Header().Set("ce-connectionState", strings.Repeat("x", 5000))
		}, patience},
		"redirects":         {say(302, "text/plain", "there"), patience},
		"does not know it":  {say(404, "text/plain", "Cannot POST"), time.Second},
		"did not know it":   {say(400, "text/plain", "ce-type must be azure"), time.Second},
		"does not trust us": {say(401, "text/plain", "who?"), patience},
	} {
		for _, policy := range []string{tenant.RefuseWhenFailing, tenant.PassWhenFailing} {
			t.Run(name+" "+policy, func(t *testing.T) {
				t.Parallel()
				j, ended := &judge{}, make(chan struct{})
				defer close(ended)
				j.answer = func(w http.ResponseWriter, e cloudevents.Event) {
					switch {
					case !strings.Contains(string(e.Body), "bad"):
						w.WriteHeader(http.StatusNoContent)
					case tt.answer == nil:
						<-ended
					default:
						tt.answer(w, e)
					}
				}
				s := start(t, judged(t, j, waitFor(tt.wait), func(b *tenant.BeforePublish) { b.WhenFailing = policy }))
				member := s.join(protocol.NameJSON, "ana", "room")
				c := s.join(protocol.NameJSON, "ben")
				err := c.SendToGroup(within(t), "room", text("bad"), wsclient.SendOptions{})
				if policy == tenant.PassWhenFailing {
					must(t, err)
					wantMessage(t, member, "bad")
				} else {
					wantFailure(t, err, protocol.InternalServerError)
				}
				eventually(t, "the handler works for what comes next", func() bool {
					return c.SendToGroup(within(t), "room", text("good"), wsclient.SendOptions{}) == nil
				})
				wantMessage(t, member, "good")
			})
		}
	}
}

// TestHandlerThatIsNotThere sends where nobody listens.
func TestHandlerThatIsNotThere(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		must(t, l.Close())
		h := tenant.Handler{URL: "http://" + l.Addr().String() + "/{event}", BeforePublish: tenant.BeforePublish{Enabled: true, Timeout: 300 * time.Millisecond}}
		s := start(t, withHandler(h))
		c, send := sender(s, codec, "")
		err = send(t, text("x"))
		if codec == "" {
			wantClose(t, c, 1011)
			return
		}
		wantFailure(t, err, protocol.InternalServerError)
		must(t, c.Join(within(t), "room"))
	})
}

// TestRefusalTexts are what clients get to see of refusals.
func TestRefusalTexts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 600)
	for _, tt := range []struct{ contentType, body, want string }{
		{"text/plain; charset=utf-8", " read\n\tonly \x00\u202e", "read only"},
		{"application/json", `{"code":"x","message":"read only"}`, "read only"},
		{"application/problem+json", `{"title":"x","detail":"read only"}`, "read only"},
		{"text/html", "<h1>Error</h1>", "The application has refused the message."},
		{"text/plain", "\xff", "The application has refused the message."},
		{"application/json", "{", "The application has refused the message."},
		{"application/json", `{"message":7}`, "The application has refused the message."},
		{"text/plain", long, long[:1024]},
	} {
		j := &judge{answer: func(w http.ResponseWriter, _ cloudevents.Event) {
			w.Header().Set("Content-Type", tt.contentType)
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, tt.body)
		}}
		s := start(t, judged(t, j))
		err := s.join(protocol.NameJSON, "ben").SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{})
		failure, ok := err.(*wsclient.AckError)
		if !ok || failure.Name != protocol.Forbidden || failure.Message != tt.want {
			t.Errorf("%s %.20q: got %v, want Forbidden and %.40q", tt.contentType, tt.body, err, tt.want)
		}
	}
}

// TestLogsGetWhatIsPublished has listeners that get copies of what passes and of what a message was replaced by, and nothing of what was
// taken or refused.
func TestLogsGetWhatIsPublished(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		set := judged(t, &judge{answer: verdicts})
		log := &memoryLog{}
		set.log, set.tenant.Hubs[0].Listeners = log, []string{"history"}
		s := start(t, set)
		member := s.join(protocol.NameJSON, "ana", "room")
		_, send := sender(s, codec, "")
		for _, says := range []string{"take", "pass", "replace", "refuse"} {
			if err := send(t, text(says)); err != nil && says != "refuse" {
				t.Error(err)
			}
		}
		wantMessage(t, member, "pass")
		wantMessage(t, member, "replaced")
		log.mu.Lock()
		defer log.mu.Unlock()
		var got []string
		for _, e := range log.entries {
			got = append(got, string(e.Data.Bytes))
			if e.Group != "room" || e.FromUserID != "ben" || e.Hub != chat {
				t.Errorf("got entry %+v, want one of ben's message to room", e)
			}
		}
		if !slices.Equal(got, []string{"pass", "replaced"}) {
			t.Errorf("got %q in the log, want what was published", got)
		}
	})
}

// TestConnectionsThatEndWhileTheyAreAsked has clients leave, and be thrown out, while the handler is asked about one message and another
// one waits. What a client that leaves has sent before is published, before the handler hears of the end; what somebody sent who was
// thrown out is not.
func TestConnectionsThatEndWhileTheyAreAsked(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *server, c *wsclient.Client) (publishes bool){
		"client leaves": func(t *testing.T, _ *server, c *wsclient.Client) bool {
			_ = c.Close(1000, "")
			return true
		},
		"socket is lost": func(_ *testing.T, _ *server, c *wsclient.Client) bool {
			c.Drop()
			return true
		},
		"thrown out": func(t *testing.T, s *server, c *wsclient.Client) bool {
			must(t, s.rest().CloseUser(within(t), "ben", "enough"))
			wantClose(t, c, 1000)
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachCodec(t, func(t *testing.T, codec string) {
				release := make(chan struct{})
				j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
					if string(e.Body) == "first" {
						<-release
					}
					verdicts(w, e)
				}}
				set := judged(t, j)
				set.config.RecoveryTime = 100 * time.Millisecond
				s := start(t, set)
				member := s.join(protocol.NameJSON, "ana", "room")
				c, _ := sender(s, codec, "")
				for _, says := range []string{"first", "second"} {
					if codec == "" {
						must(t, c.Send(within(t), text(says)))
					} else {
						must(t, c.SendToGroup(within(t), "room", text(says), wsclient.SendOptions{NoAck: true}))
					}
				}
				eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
				if codec != "" {
					must(t, c.Ping(within(t))) // both have been read
				} else if name == "socket is lost" {
					close(release)
					return // a simple client cannot know what has been read
				}
				publishes := end(t, s, c)
				eventually(t, "the connection has ended", func() bool {
					exists, err := s.rest().UserExists(within(t), "ben")
					return err == nil && !exists
				})
				close(release)
				eventually(t, "the handler hears of the end", func() bool { return slices.Contains(j.heard(), "disconnected") })
				if heard := j.heard(); heard[len(heard)-1] != "disconnected" {
					t.Errorf("got %q, want the end last", heard)
				}
				want := []string{"after"}
				if publishes {
					want = []string{"first", "second", "after"}
				}
				must(t, s.rest().SendToGroup(within(t), "room", text("after")))
				for _, says := range want {
					wantMessage(t, member, says)
				}
			})
		})
	}
}

// TestDrainWhileAsking stops the node while the handler is asked: the client is told what has become of its message.
func TestDrainWhileAsking(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	j := &judge{answer: func(w http.ResponseWriter, _ cloudevents.Event) {
		<-release
		w.WriteHeader(http.StatusNoContent)
	}}
	net := membus.NewNetwork()
	set := judged(t, j)
	set.bus = net.Bus()
	s := start(t, set)
	other := start(t, setup{bus: net.Bus()})
	member := other.join(protocol.NameJSON, "ana", "room")
	c := s.join(protocol.NameJSON, "ben")
	must(t, c.SendToGroup(within(t), "room", text("last words"), wsclient.SendOptions{NoAck: true}))
	eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
	s.stop()
	wantClose(t, c, 1001)
	close(release)
	<-s.done
	wantMessage(t, member, "last words")
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

// TestAskingIsOverRedis has two nodes on one Redis, of which each sends to members of the other, and Redis away for a while: then
// nobody is asked about what could not be published.
func TestAskingIsOverRedis(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	j := &judge{}
	set := judged(t, j)
	on := func() *server {
		set := set
		set.bus = redisBus(t, redis.URL)
		return start(t, set)
	}
	a, b := on(), on()
	ana, ben := a.join(protocol.NameJSON, "ana", "room"), b.join(protocol.NameProtobuf, "ben", "room")
	for i := range 20 {
		from := []*wsclient.Client{ana, ben}[i%2]
		must(t, from.SendToGroup(within(t), "room", text(fmt.Sprint(i)), wsclient.SendOptions{}))
	}
	for i := range 20 {
		wantMessage(t, ana, fmt.Sprint(i))
		wantMessage(t, ben, fmt.Sprint(i))
	}
	asked := len(j.questions())
	redis.Stop()
	eventually(t, "the node says why it is not ready", func() bool { return a.Ready(within(t)) != nil })
	wantFailure(t, ana.SendToGroup(within(t), "room", text("lost"), wsclient.SendOptions{}), protocol.InternalServerError)
	if got := len(j.questions()); got != asked {
		t.Errorf("got %d questions about what could not be published", got-asked)
	}
	redis.Start()
	eventually(t, "the node is ready", func() bool { return a.Ready(within(t)) == nil })
	must(t, ana.SendToGroup(within(t), "room", text("back"), wsclient.SendOptions{}))
}
