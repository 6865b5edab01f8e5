package gateway

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// TestDrainWithNowhereToGo has two nodes drain: connections of the second are not asked to come back to the first, which
// would not let them in, but closed, one by one.
//
// checklist:O06
func TestDrainWithNowhereToGo(t *testing.T) {
	t.Parallel()
	net := membus.NewNetwork()
	withdrawn := make(chan struct{})
	first := start(t, setup{bus: &witness{net.Bus(), withdrawn}, config: Config{DrainTime: 4 * time.Second}})
	second := start(t, setup{bus: net.Bus(), config: Config{DrainTime: time.Second}})
	first.join(protocol.NameReliableJSON, "ana") // for whom the first waits
	var clients []*wsclient.Client
	for range 3 {
		clients = append(clients, second.join(protocol.NameReliableJSON, "ben"))
	}
	if others, err := second.node.Others(within(t)); !others || err != nil {
		t.Errorf("got %v, %v; want another node", others, err)
	}
	first.stop()
	wantSoon(t, withdrawn, "the first node says that it is not open any more")
	if others, err := second.node.Others(within(t)); others || err != nil {
		t.Errorf("got %v, %v; want no other node", others, err)
	}
	second.stop()
	for _, c := range clients {
		if e := wantClose(t, c, 1001); e.System == "" {
			t.Error("a client is asked to come back where nobody is, want to be told that its connection has ended")
		}
	}
	<-second.done
}

// TestOtherNodesComeAndGo is about when they are looked for.
func TestOtherNodesComeAndGo(t *testing.T) {
	there, err, asked := false, errors.New("the bus is away"), 0
	others := otherNodes{find: func(context.Context) (bool, error) { asked++; return there, err }}
	now := time.Now()
	want := func(want bool) {
		t.Helper()
		before := asked
		if got := others.exist(t.Context(), now); got != want || asked != before+1 {
			t.Errorf("got %v with %d questions, want %v with one", got, asked-before, want)
		}
		if got := others.exist(t.Context(), now.Add(askOthersEvery-1)); got != want || asked != before+1 {
			t.Errorf("got %v with %d questions a little later, want %v with no more", got, asked-before, want)
		}
		now = now.Add(askOthersEvery)
	}
	want(false)
	there, err = true, nil
	want(true)
	there, err = false, errors.New("the bus is away")
	want(true)
	err = nil
	want(false)
}

// witness is a bus that says when its node withdraws.
type witness struct {
	cluster.Bus
	withdrawn chan struct{}
}

func (b *witness) Unsubscribe(ctx context.Context, topics ...string) error {
	err := b.Bus.Unsubscribe(ctx, topics...)
	if slices.Contains(topics, cluster.OpenNodesTopic) {
		close(b.withdrawn)
	}
	return err
}
