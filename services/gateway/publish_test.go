package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
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
		sendNow(t, c, &protocol.Request{Kind: protocol.SendEvent, Event: "named"}, "third")
		must(t, other.SendEvent(within(t), "elsewhere", text("x"))) // which would come after the third, if that did not wait
		if got := j.questions(); !slices.Equal(got, []string{"first", "meanwhile"}) {
			t.Errorf("got questions %q, want none about the second before the answer about the first", got)
		}
		close(release)
		must(t, <-sent)
		wantMessage(t, member, "first")
		wantMessage(t, member, "second")
		must(t, c.SendEvent(within(t), "last", text("x")))
		heard := slices.DeleteFunc(j.heard(), func(name string) bool { return name != "named" && name != "ask second" })
		if !slices.Equal(heard, []string{"ask second", "named"}) {
			t.Errorf("got %q, want the event after the question about the message before it", heard)
		}
	})
}

// TestQuestionsDoNotWaitForEvents: what goes to groups is published while the application is at work on an event of the connection, and on
// an invocation.
func TestQuestionsDoNotWaitForEvents(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release, begun := make(chan struct{}), make(chan struct{})
		j := &judge{}
		h := handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(begun)
				<-release
			}
			j.ServeHTTP(w, r)
		})
		h.BeforePublish = tenant.BeforePublish{Enabled: true, Timeout: patience}
		s := start(t, withHandler(h))
		c, member := s.join(codec, "ben"), s.join(codec, "ana", "room")
		results := make(chan error, 2)
		go func() { results <- c.SendEvent(within(t), "slow", text("x")) }()
		wantSoon(t, begun, "the event is with the application")
		go func() {
			_, err := c.Invoke(within(t), "rpc", text("x"))
			results <- err
		}()
		must(t, c.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{}))
		wantMessage(t, member, "meanwhile")
		if got := j.heard(); slices.Contains(got, "slow") || slices.Contains(got, "rpc") {
			t.Errorf("got %q, want the events not answered yet", got)
		}
		close(release)
		must(t, <-results)
		must(t, <-results)
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

// TestRepeatedAckIDWithoutPermission: who may not send any more is told of what was acked before that it is a duplicate.
func TestRepeatedAckIDWithoutPermission(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, judged(t, &judge{answer: verdicts}))
		c := s.join(codec, "ben")
		take := func(id uint64) error {
			r := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: id}
			r.SetData(text("take"))
			return c.Do(within(t), r)
		}
		must(t, take(5))
		must(t, s.rest().Revoke(within(t), c.Info().ConnectionID, webpubsub.SendToGroup, "room"))
		wantFailure(t, take(5), protocol.Duplicate)
		wantFailure(t, take(6), protocol.Forbidden)
		must(t, s.rest().Grant(within(t), c.Info().ConnectionID, webpubsub.SendToGroup, "room"))
		must(t, take(6))
	})
}

// TestAskingKeepsOrderAcrossSockets has a client come back by another socket while the handler is asked about what it has sent on the
// one before. What it sends on the new one does not overtake.
func TestAskingKeepsOrderAcrossSockets(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
			if string(e.Body) == "first" {
				<-release
			}
			w.WriteHeader(http.StatusNoContent)
		}}
		s := start(t, judged(t, j))
		member, c := s.join(codec, "ana", "room"), s.join(codec, "ben")
		sendNow(t, c, &protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "first")
		sendNow(t, c, &protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "second")
		eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
		c.Drop()
		must(t, c.Recover(within(t)))
		sendNow(t, c, &protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "third")
		close(release)
		for _, want := range []string{"first", "second", "third"} {
			wantMessage(t, member, want)
		}
		if got := j.questions(); !slices.Equal(got, []string{"first", "second", "third"}) {
			t.Errorf("got questions %q, want them in the order of sending", got)
		}
	})
}

// isDuplicate reports whether err is what a client that has sent a request several times may be told.
func isDuplicate(err error) bool {
	return err == nil || strings.Contains(err.Error(), protocol.Duplicate)
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

// TestAskedMessagesKeepWhatGoesWithThem: metadata, which the handler sees and may replace, and how long a message is worth delivering.
func TestAskedMessagesKeepWhatGoesWithThem(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		t.Parallel() // each waits for the seconds
		h := handler(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.URL.Path != "/beforePublish" || string(body) == "pass" || string(body) == "short-lived" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			if seen := r.Header.Get("X-WebPubSub-Metadata-Trace"); string(body) == "replace all" {
				w.Header().Set("X-WebPubSub-Metadata-Seen", seen+"!")
			}
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("replaced"))
		})
		h.BeforePublish.Enabled = true
		s := start(t, withHandler(h))
		c, sender := s.join(codec, "ana", "room"), s.join(codec, "ben")
		sent := withMetadata("", "trace", "1").Metadata
		for says, want := range map[string]webpubsub.Metadata{"pass": sent, "replace": sent, "replace all": withMetadata("", "seen", "1!").Metadata} {
			must(t, sender.SendToGroup(within(t), "room", withMetadata(says, "trace", "1"), wsclient.SendOptions{}))
			m, err := c.Receive(within(t))
			must(t, err)
			if !slices.Equal(m.Data.Metadata, want) {
				t.Errorf("%s: got metadata %v, want %v", says, m.Data.Metadata, want)
			}
		}
		c.Drop()
		must(t, sender.SendToGroup(within(t), "room", text("short-lived"), wsclient.SendOptions{TTL: time.Second}))
		must(t, sender.SendToGroup(within(t), "room", text("pass"), wsclient.SendOptions{TTL: webpubsub.MaxTTL}))
		last := time.Now() // when all are sent, which may take long on a busy machine
		eventually(t, "the short life is over", func() bool { return time.Since(last) > 1100*time.Millisecond })
		must(t, c.Recover(within(t)))
		wantMessage(t, c, "pass")
	})
}
