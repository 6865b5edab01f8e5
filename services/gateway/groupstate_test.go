package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
)

// setState lets c say something of itself in group room, or with "" nothing any more.
func setState(t testing.TB, c *wsclient.Client, status string) {
	t.Helper()
	r := &protocol.Request{Kind: protocol.SetGroupState, Group: "room", HasAck: true}
	if status != "" {
		r.State = []byte(`{"status":"` + status + `"}`)
	}
	must(t, c.Do(within(t), r))
}

func subscribeState(t testing.TB, c *wsclient.Client) {
	t.Helper()
	must(t, c.Do(within(t), &protocol.Request{Kind: protocol.SubscribeGroupState, Group: "room", HasAck: true}))
}

type stateItem struct {
	ConnectionID string            `json:"connectionId"`
	UserID       string            `json:"userId"`
	State        map[string]string `json:"state"`
	UpdatedAt    int64             `json:"updatedAt"`
}

// nextStates waits for a snapshot or an update.
func nextStates(t testing.TB, c *wsclient.Client, kind protocol.ResponseKind) (items []stateItem) {
	t.Helper()
	select {
	case r := <-c.Notices():
		if r.Kind != kind || r.Group != "room" {
			t.Fatalf("got %+v, want kind %d for room", r, kind)
		}
		must(t, json.Unmarshal(r.Items, &items))
	case <-within(t).Done():
		t.Fatalf("the subscriber is told nothing, want kind %d", kind)
	}
	return items
}

// wantStates waits for a snapshot or an update that says these statuses, by user; "" for a state that is taken back.
func wantStates(t testing.TB, c *wsclient.Client, kind protocol.ResponseKind, want map[string]string) []stateItem {
	t.Helper()
	items := nextStates(t, c, kind)
	got := map[string]string{}
	for _, item := range items {
		got[item.UserID] = item.State["status"]
		if item.ConnectionID == "" || item.UpdatedAt == 0 || (item.State == nil) != (item.State["status"] == "") {
			t.Errorf("got item %+v", item)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got states %v, want %v", got, want)
	}
	return items
}

const (
	snapshot = protocol.GroupStateSnapshotResponse
	update   = protocol.GroupStateUpdateResponse
)

// TestGroupState has connections on two nodes say things of themselves, and hear of each other.
//
// checklist:C29 P05
func TestGroupState(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		eachPubSub(t, func(t *testing.T, codec string) {
			ana, ben, member := a.join(codec, "ana"), b.join(codec, "ben", "room"), a.join(protocol.NameJSON, "cara", "room")
			subscribeState(t, ana)
			wantStates(t, ana, snapshot, map[string]string{})
			setState(t, ben, "typing")
			first := wantStates(t, ana, update, map[string]string{"ben": "typing"})
			setState(t, ana, "away") // is told of itself as well
			wantStates(t, ana, update, map[string]string{"ana": "away"})
			subscribeState(t, ben)
			wantStates(t, ben, snapshot, map[string]string{"ana": "away", "ben": "typing"})
			setState(t, ben, "thinking")
			second := wantStates(t, ana, update, map[string]string{"ben": "thinking"})
			if second[0].UpdatedAt <= first[0].UpdatedAt || second[0].ConnectionID != ben.Info().ConnectionID {
				t.Errorf("got %+v after %+v, want a later item of the same connection", second[0], first[0])
			}
			wantStates(t, ben, update, map[string]string{"ben": "thinking"})
			setState(t, ana, "")
			wantStates(t, ana, update, map[string]string{"ana": ""})
			wantStates(t, ben, update, map[string]string{"ana": ""})
			subscribeState(t, ana) // once more
			wantStates(t, ana, snapshot, map[string]string{"ben": "thinking"})

			must(t, ana.Do(within(t), &protocol.Request{Kind: protocol.UnsubscribeGroupState, Group: "room", HasAck: true}))
			must(t, ana.Do(within(t), &protocol.Request{Kind: protocol.UnsubscribeGroupState, Group: "never", HasAck: true}))
			setState(t, ben, "silent")
			wantStates(t, ben, update, map[string]string{"ben": "silent"})
			must(t, ana.Ping(within(t)))
			if len(ana.Notices()) != 0 {
				t.Error("got something after unsubscribing")
			}
			must(t, ben.Leave(within(t), "room")) // takes its state back
			wantStates(t, ben, update, map[string]string{"ben": ""})
			must(t, member.Ping(within(t)))
			if len(member.Notices()) != 0 {
				t.Error("who has not subscribed is told of states")
			}
			must(t, ana.Close(1000, ""))
			must(t, ben.Close(1000, ""))
			eventually(t, "nobody holds the topic", func() bool {
				nodes, err := a.bus.SubscriberCount(within(t), "state/7/default/chat/room")
				return err == nil && nodes == 0
			})
		})
	})
}

// TestGroupStateEndsWithItsConnection tells subscribers on the other node.
//
// checklist:C29 P05
func TestGroupStateEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	pairsInEachPubSub(t, func(t *testing.T, a, b *server, codec string) {
		ana, ben := a.join(codec, "ana", "room"), b.join(codec, "ben", "room")
		subscribeState(t, ben)
		wantStates(t, ben, snapshot, map[string]string{})
		setState(t, ana, "typing")
		wantStates(t, ben, update, map[string]string{"ana": "typing"})
		if isReliable(codec) { // may come back after a cut
			must(t, ana.Close(1000, ""))
		} else {
			ana.Drop()
		}
		wantStates(t, ben, update, map[string]string{"ana": ""})
	})
}

// TestGroupStateEndsWithItsNode has connections of each subprotocol on a node that drains.
//
// checklist:C29 P05
func TestGroupStateEndsWithItsNode(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		ben := b.join(protocol.NameJSON, "ben")
		subscribeState(t, ben)
		wantStates(t, ben, snapshot, map[string]string{})
		left := map[string]bool{}
		for _, codec := range codecs[1:] {
			setState(t, a.join(codec, codec), "typing")
			wantStates(t, ben, update, map[string]string{codec: "typing"})
			left[codec] = true
		}
		a.stop()
		<-a.done
		for len(left) > 0 {
			items := nextStates(t, ben, update)
			if len(items) != 1 || items[0].State != nil || !left[items[0].UserID] {
				t.Fatalf("got %+v, want that one of %v says nothing any more", items, left)
			}
			delete(left, items[0].UserID)
		}
	})
}

// TestGroupStateAcrossRecovery has both sides lose their sockets and come back, on the same node and on the other.
//
// checklist:C29 P05
func TestGroupStateAcrossRecovery(t *testing.T) {
	t.Parallel()
	pairsInEachPubSub(t, func(t *testing.T, a, b *server, codec string) {
		if !isReliable(codec) {
			return
		}
		ana, ben := a.join(codec, "ana", "room"), a.join(protocol.NameJSON, "ben", "room")
		setState(t, ana, "typing")
		subscribeState(t, ana)
		wantStates(t, ana, snapshot, map[string]string{"ana": "typing"})
		ana.Drop()
		setState(t, ben, "reading") // which ana does not hear
		must(t, ana.Recover(within(t)))
		wantStates(t, ana, snapshot, map[string]string{"ana": "typing", "ben": "reading"})

		subscribeState(t, ben)
		wantStates(t, ben, snapshot, map[string]string{"ana": "typing", "ben": "reading"})
		ana.Drop()
		b.recoverAt(t, ana)
		wantStates(t, ben, update, map[string]string{"ana": "typing"}) // says it again, from there
		wantStates(t, ana, snapshot, map[string]string{"ana": "typing", "ben": "reading"})
		setState(t, ben, "writing")
		wantStates(t, ana, update, map[string]string{"ben": "writing"})
		wantStates(t, ben, update, map[string]string{"ben": "writing"})
		setState(t, ana, "gone")
		wantStates(t, ben, update, map[string]string{"ana": "gone"})
	})
}

// TestSnapshotComesFirst has a subscriber lose its socket again and again while another connection changes its state without
// a pause: what it is told first on each new socket is a snapshot.
//
// checklist:C29 P05
func TestSnapshotComesFirst(t *testing.T) {
	t.Parallel()
	pairsInEachPubSub(t, func(t *testing.T, a, b *server, codec string) {
		if !isReliable(codec) {
			return
		}
		ana, ben := a.join(codec, "ana", "room"), a.join(protocol.NameJSON, "ben", "room")
		subscribeState(t, ana)
		wantStates(t, ana, snapshot, map[string]string{})
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					setState(t, ben, fmt.Sprint(i))
				}
			}
		}()
		defer func() {
			close(stop)
			wantSoon(t, done, "the last state is set")
		}()
		for n := range 40 {
			ana.Drop()
			for len(ana.Notices()) > 0 { // of the old socket
				<-ana.Notices()
			}
			recoverIt := ana.Recover
			if n%8 == 7 { // now and then by the other node
				a, b = b, a
				recoverIt = func(ctx context.Context) error { return ana.RecoverAt(ctx, a.clientURL("nobody", nil)) }
			}
			eventually(t, "the connection is recovered", func() bool { // while it is on its way the answer is 503, to try again
				err := recoverIt(within(t))
				if later := (*wsclient.HandshakeError)(nil); errors.As(err, &later) && later.Status == http.StatusServiceUnavailable {
					return false
				}
				must(t, err)
				return true
			})
			nextStates(t, ana, snapshot)
		}
	})
}

// checklist:C29 P05
func TestGroupStateIsRefused(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.dial(s.clientURL("ana", nil), codec)
		do := func(kind protocol.Kind, group string, state []byte) error {
			return c.Do(within(t), &protocol.Request{Kind: kind, Group: group, HasAck: true, State: state})
		}
		wantFailure(t, do(protocol.SetGroupState, "room", []byte(`{}`)), protocol.Forbidden)
		wantFailure(t, do(protocol.SubscribeGroupState, "room", nil), protocol.Forbidden)
		c = s.join(codec, "ana")
		wantFailure(t, do(protocol.SetGroupState, "room", []byte(`{"a":"`+strings.Repeat("x", protocol.MaxGroupState)+`"}`)), protocol.BadRequest)
		for n := range groupstate.MaxGroups {
			must(t, do(protocol.SetGroupState, fmt.Sprint(n), []byte(`{}`)))
			must(t, do(protocol.SubscribeGroupState, fmt.Sprint(n), nil))
		}
		wantFailure(t, do(protocol.SetGroupState, "one more", []byte(`{}`)), protocol.BadRequest)
		wantFailure(t, do(protocol.SubscribeGroupState, "one more", nil), protocol.BadRequest)
		must(t, do(protocol.SetGroupState, "0", nil))
		must(t, do(protocol.SetGroupState, "one more", []byte(`{}`)))
	})
}

// checklist:C29 P05
func TestGroupStateWhileTheBusIsAway(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := start(t, setup{bus: redisBus(t, redis.URL)}), start(t, setup{bus: redisBus(t, redis.URL)})
	var talkers, subscribers []*wsclient.Client
	for _, codec := range codecs[1:] {
		talkers, subscribers = append(talkers, a.join(codec, codec)), append(subscribers, b.join(codec, "ben"))
	}
	redis.Stop()
	eventually(t, "the nodes say that the bus is away", func() bool { return a.Ready(within(t)) != nil && b.Ready(within(t)) != nil })
	for i := range talkers {
		wantFailure(t, talkers[i].Do(within(t), &protocol.Request{Kind: protocol.SetGroupState, Group: "room", HasAck: true, State: []byte(`{}`)}), protocol.InternalServerError)
		wantFailure(t, subscribers[i].Do(within(t), &protocol.Request{Kind: protocol.SubscribeGroupState, Group: "room", HasAck: true}), protocol.InternalServerError)
	}
	redis.Start()
	eventually(t, "both nodes are ready", func() bool { return errors.Join(a.Ready(within(t)), b.Ready(within(t))) == nil })
	back := map[string]string{}
	for i, codec := range codecs[1:] {
		setState(t, talkers[i], "back")
		back[codec] = "back"
	}
	for _, ben := range subscribers {
		subscribeState(t, ben)
		wantStates(t, ben, snapshot, back)
	}
}

// TestGroupStateUnderWay subscribes again and again while states change. Whoever goes by the newest item of each
// connection, and takes a snapshot for all there is, ends with the truth.
//
// checklist:C29 P05
func TestGroupStateUnderWay(t *testing.T) {
	t.Parallel()
	pairsInEachPubSub(t, func(t *testing.T, a, b *server, codec string) {
		speaker, listener := a.join(codec, "ana"), b.join(codec, "ben")
		const n = 200
		spoken := make(chan struct{})
		go func() {
			defer close(spoken)
			for i := range n {
				setState(t, speaker, fmt.Sprint(i))
			}
		}()
		known := map[string]stateItem{}
		take := func(r *protocol.Response) {
			var items []stateItem
			must(t, json.Unmarshal(r.Items, &items))
			before := known
			if r.Kind == snapshot {
				known = map[string]stateItem{}
			}
			for _, item := range items {
				if old, ok := before[item.ConnectionID]; r.Kind == snapshot && ok && item.UpdatedAt < old.UpdatedAt {
					t.Errorf("a snapshot goes back from %+v to %+v", old, item)
				}
				if item.UpdatedAt >= known[item.ConnectionID].UpdatedAt {
					known[item.ConnectionID] = item
				}
			}
		}
		for range 20 {
			subscribeState(t, listener)
			for len(listener.Notices()) > 0 {
				take(<-listener.Notices())
			}
		}
		wantSoon(t, spoken, "all is said")
		for known[speaker.Info().ConnectionID].State["status"] != fmt.Sprint(n-1) {
			select {
			case r := <-listener.Notices():
				take(r)
			case <-within(t).Done():
				t.Fatalf("the listener knows %v, want the last state", known)
			}
		}
	})
}
