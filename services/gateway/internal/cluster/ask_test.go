package cluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// peer starts a node that answers each question with its answer, or not at all if that is empty.
func peer(t *testing.T, net *membus.Network, answer string, topics ...string) *cluster.Peer {
	t.Helper()
	return peerThatKnows(t, net, nil, answer, topics...)
}

// peerThatKnows is peer of a node that knows who is dead.
func peerThatKnows(t *testing.T, net *membus.Network, dead func() []string, answer string, topics ...string) *cluster.Peer {
	t.Helper()
	p := cluster.NewPeer(net.Bus(), dead)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		_ = p.Run(ctx, func(_ string, payload []byte) {
			if r, ok := p.Parse(payload); ok && r.Kind == cluster.Ask && answer != "" {
				p.Answer(r, append([]byte(answer+" to "), r.Body...), func() {})
			}
		}, func() {})
	})
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return p.Ready() == nil }, "the bus is ready")
	if err := p.Subscribe(ctx, append(topics, cluster.Inbox(p.ID()))...); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAskGathersAsManyAnswersAsNodesHear(t *testing.T) {
	net := membus.NewNetwork()
	asker := peer(t, net, "a", "all")
	peer(t, net, "b", "all", "mute")
	peer(t, net, "", "mute")
	for topic, want := range map[string][]string{"all": {"a to q", "b to q"}, "none": nil} {
		answers, err := asker.Ask(context.Background(), topic, []byte("q"))
		var got []string
		for _, b := range answers {
			got = append(got, string(b))
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("topic %s: got %q, %v; want %q", topic, got, err, want)
		}
	}
	for patience := 50 * time.Millisecond; ; patience *= 4 { // a busy machine may need more for the one answer that comes
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		answers, err := asker.Ask(ctx, "mute", []byte("q"))
		cancel()
		if len(answers) == 0 && patience < time.Minute {
			continue
		}
		if len(answers) != 1 || !errors.Is(err, cluster.ErrPartial) {
			t.Errorf("got %q, %v; want one answer and ErrPartial when one of two nodes is mute", answers, err)
		}
		break
	}
}

func TestAskWithoutBus(t *testing.T) {
	p := cluster.NewPeer(membus.New(), nil) // does not run
	if _, err := p.Ask(context.Background(), "all", nil); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestOpenSurvivesAnything(t *testing.T) {
	p := cluster.NewPeer(membus.New(), nil)
	for _, payload := range [][]byte{nil, {0}, {2}, {2, 1}, {2, 0xff}, {3}, {3, 1, 2}, {4}, {4, 1}, {4, 1, 2}, {9, 9, 9}} {
		if _, ok := p.Parse(payload); ok {
			t.Errorf("payload %v: got that it means something", payload)
		}
	}
}

func TestTopicsAreUnambiguous(t *testing.T) {
	seen := map[string]string{}
	for _, tenant := range []string{"a", "a/b", "1/a", ""} {
		for _, hub := range []string{"h", "b"} {
			for _, name := range []string{"", "x", "h/x", "/x"} {
				for _, scope := range []webpubsub.Scope{webpubsub.ScopeHub, webpubsub.ScopeGroup, webpubsub.ScopeUser} {
					what := tenant + " | " + hub + " | " + scope.String() + " | " + name
					topic := cluster.Topic(webpubsub.HubKey{Tenant: tenant, Hub: hub}, scope, name)
					if other, ok := seen[topic]; ok {
						t.Errorf("%s and %s share the topic %q", what, other, topic)
					}
					seen[topic] = what
				}
			}
		}
	}
	if got := cluster.Topic(webpubsub.HubKey{}, webpubsub.ScopeConnection, "short"); got != "" {
		t.Errorf("got topic %q for an id that no node has made, want none", got)
	}
}

func TestUnresponsiveNodesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := membus.NewNetwork()
		asker := peer(t, net, "a", "some")
		mute := peer(t, net, "", "some").ID()
		for _, test := range []struct {
			unresponsive []string
			err, want    error
			silent       []string
		}{
			{nil, nil, cluster.ErrPartial, nil},
			{[]string{mute}, nil, nil, []string{mute}},
			{[]string{"1", "2", mute}, nil, nil, []string{"1", "2", mute}}, // of whom nobody knows who hears the topic
			{[]string{asker.ID()}, nil, cluster.ErrPartial, nil},           // who has answered: the mute one is waited for
			{[]string{asker.ID(), mute}, nil, nil, []string{mute}},
			{[]string{mute}, errors.New("nobody knows"), cluster.ErrPartial, nil},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			began := time.Now()
			answers, silent, err := asker.AskResponsive(ctx, "some", []byte("q"), func(context.Context) ([]string, error) { return test.unresponsive, test.err })
			cancel()
			if len(answers) != 1 || !errors.Is(err, test.want) || !slices.Equal(silent, test.silent) {
				t.Errorf("%+v: got %q, silent %q, %v", test, answers, silent, err)
			}
			if took := time.Since(began); test.want == nil && took > 2*time.Second {
				t.Errorf("%+v: took %v", test, took)
			}
		}
	})
}

// TestDeadNodesAreNotWaitedFor asks for what must be in effect on every node that lives: one that is dead is left out, though the
// server still has its subscription.
func TestDeadNodesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := membus.NewNetwork()
		var dead []string
		asker := peerThatKnows(t, net, func() []string { return dead }, "a", "some")
		mute := peer(t, net, "", "some").ID()
		for _, test := range []struct {
			dead []string
			want error
		}{{nil, cluster.ErrPartial}, {[]string{asker.ID()}, cluster.ErrPartial}, {[]string{mute}, nil}} {
			dead = test.dead
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			answers, err := asker.Ask(ctx, "some", []byte("q"))
			cancel()
			if len(answers) != 1 || !errors.Is(err, test.want) {
				t.Errorf("dead %q: got %q, %v; want one answer and %v", test.dead, answers, err, test.want)
			}
		}
	})
}

// TestNodesOfTheVersionBeforeAnswerWithoutTheirName repeats the number of a question as they do, and asks as they do.
func TestNodesOfTheVersionBeforeAnswerWithoutTheirName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := membus.NewNetwork()
		asker := peer(t, net, "a", "some")
		old := net.Bus()
		answered := make(chan []byte, 1) // what a new node answers to the old one
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			_ = old.Run(ctx, func(topic string, payload []byte) {
				if topic == cluster.Inbox("oldnode1") {
					answered <- slices.Clone(payload)
					return
				}
				id, n := binary.Uvarint(payload[1:])
				from := string(payload[1+n : 1+n+cluster.NodeIDSize])
				old.Post(cluster.Inbox(from), append(binary.AppendUvarint([]byte{3}, id), "old"...), func(int, error) {})
			}, func() {})
		}()
		synctest.Wait()
		if err := old.Subscribe(t.Context(), "some", cluster.Inbox("oldnode1")); err != nil {
			t.Fatal(err)
		}
		answers, _, err := asker.AskResponsive(t.Context(), "some", []byte("q"), nil)
		slices.SortFunc(answers, bytes.Compare)
		if err != nil || len(answers) != 2 || string(answers[1]) != "old" {
			t.Errorf("got %q, %v; want the old node's answer as well", answers, err)
		}
		if err := old.Unsubscribe(t.Context(), "some"); err != nil {
			t.Fatal(err)
		}
		old.Post("some", append(append(binary.AppendUvarint([]byte{2}, 7), "oldnode1"...), 'q'), func(int, error) {})
		if got, want := <-answered, append([]byte{3, 7}, "a"...); !bytes.HasPrefix(got, want[:2]) || bytes.Contains(got, []byte(asker.ID())) {
			t.Errorf("got %q, want an answer that old nodes read", got)
		}
	})
}

func TestNodesThatHaveEndedAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := membus.NewNetwork()
		asker := peer(t, net, "a", "some")
		mute := peer(t, net, "", "some")
		time.AfterFunc(2*time.Second, func() {
			if err := mute.Unsubscribe(t.Context(), "some"); err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		all := func(context.Context) ([]string, error) { return nil, nil }
		if answers, _, err := asker.AskResponsive(ctx, "some", []byte("q"), all); len(answers) != 1 || err != nil {
			t.Errorf("got %q, %v; want one answer", answers, err)
		}
	})
}
