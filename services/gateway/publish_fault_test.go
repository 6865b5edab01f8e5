package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

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
				if got := j.questions(); !publishes && len(got) != 1 {
					t.Errorf("got questions %q, want none that was put after the end", got)
				}
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

// TestMessagesThatWaitTooLongForTheirTurn are sent while the handler is asked about others, which takes longer than they may wait. They
// are refused in time; where they pass, they do so in their turn. What comes after them does not overtake what came before.
func TestMessagesThatWaitTooLongForTheirTurn(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	for _, policy := range []string{tenant.RefuseWhenFailing, tenant.PassWhenFailing} {
		t.Run(policy, func(t *testing.T) {
			eachPubSub(t, func(t *testing.T, codec string) {
				t.Parallel() // each waits for the time to pass
				for !waitTooLong(t, codec, policy, timeout) {
				}
			})
		})
	}
}

// waitTooLong reports false when a busy machine has let time pass for those in front before the last message had begun to wait.
func waitTooLong(t *testing.T, codec, policy string, timeout time.Duration) bool {
	release := make(chan struct{})
	defer close(release)
	j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
		if says := string(e.Body); says == "first" || says == "second" {
			<-release // longer than anybody waits
		}
		w.WriteHeader(http.StatusNoContent)
	}}
	s := start(t, judged(t, j, waitFor(timeout), func(b *tenant.BeforePublish) { b.WhenFailing = policy }))
	c, member := s.join(codec, "ben"), s.join(codec, "ana", "room")
	request := func(id uint64, says string) *protocol.Request {
		r := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: id}
		r.SetData(text(says))
		return r
	}
	began := time.Now()
	for i, says := range []string{"first", "second", "late"} {
		codec, _ := protocol.ByName(codec)
		must(t, c.SendFrame(within(t), codec.Binary(), codec.AppendRequest(nil, request(uint64(1001+i), says))))
		if i == 0 { // the second begins to wait after the time has begun to run for the first
			eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
		}
	}
	must(t, c.Ping(within(t)))
	if time.Since(began) > timeout {
		return false
	}
	must(t, member.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{}))
	wantMessage(t, member, "meanwhile")
	err := c.Do(within(t), request(1003, "late")) // the same message, so that this is its ack
	if policy == tenant.RefuseWhenFailing {
		wantFailure(t, err, protocol.InternalServerError)
	} else {
		must(t, err)
		for _, want := range []string{"first", "second", "late"} {
			wantMessage(t, member, want)
		}
	}
	eventually(t, "the handler works for what comes next", func() bool {
		return c.SendToGroup(within(t), "room", text("next"), wsclient.SendOptions{}) == nil
	})
	wantMessage(t, member, "next")
	if slices.Contains(j.questions(), "late") {
		t.Error("the handler was asked about a message that had waited too long")
	}
	return true
}

// TestNothingFollowsARefusalOfASimpleClient, which is told by the end of its connection.
func TestNothingFollowsARefusalOfASimpleClient(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	j := &judge{answer: func(w http.ResponseWriter, e cloudevents.Event) {
		if string(e.Body) == "refuse" {
			<-release
		}
		verdicts(w, e)
	}}
	s := start(t, judged(t, j))
	member := s.join(protocol.NameJSON, "ana", "room")
	c, send := sender(s, "", "")
	for _, says := range []string{"refuse", "second", "third"} {
		must(t, send(t, text(says)))
	}
	eventually(t, "the handler is asked", func() bool { return len(j.questions()) == 1 })
	close(release)
	wantClose(t, c, 1008)
	eventually(t, "the handler hears of the end", func() bool { return slices.Contains(j.heard(), "disconnected") })
	must(t, s.rest().SendToGroup(within(t), "room", text("after")))
	wantMessage(t, member, "after")
	if got := j.questions(); len(got) != 1 {
		t.Errorf("got questions %q, want none after the refusal", got)
	}
}

// TestManyMessagesAreAskedAbout: as many as may wait, three times over, sent without waiting for acks.
func TestManyMessagesAreAskedAbout(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, judged(t, &judge{}))
		member := s.join(protocol.NameJSON, "ana", "room")
		c, _ := sender(s, codec, "")
		const n = 200
		for i := range n {
			if codec == "" {
				must(t, c.Send(within(t), text(fmt.Sprint(i))))
			} else {
				must(t, c.SendToGroup(within(t), "room", text(fmt.Sprint(i)), wsclient.SendOptions{NoAck: true}))
			}
		}
		for i := range n {
			wantMessage(t, member, fmt.Sprint(i))
		}
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
