package system_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestStandaloneKilled kills standalone at random moments while people make chats, join them and talk. Whatever was
// acknowledged is there after the restart, and nothing is there twice, although texts without an answer are sent
// again.
func TestStandaloneKilled(t *testing.T) {
	t.Parallel()
	const rounds = 4
	top := topology.Standalone(t, topology.Options{Env: []string{"CHATR_LOG_LEVEL=warn"}})
	process := top.Gateways[0]
	var talkers []*talker
	for i := range 4 {
		talkers = append(talkers, &talker{Person: people.SignIn(t, top.A, fmt.Sprintf("Talker %d", i)), base: 1000 * (i + 1)})
	}
	common := people.UUID(1)
	for i, k := range talkers {
		k.Open(people.Reliable)
		if i == 0 {
			k.Do("createChat", people.Object{"id": common, "name": "Common"})
		} else {
			k.Do("joinChat", common)
		}
	}
	for round := range rounds {
		before := countAll(talkers)
		var talk sync.WaitGroup
		for i, k := range talkers {
			talk.Go(func() { k.talk(common, talkers[(i+1)%len(talkers)].owned) })
		}
		moment := before + 100 + rand.IntN(300)
		testkit.Eventually(t, people.Patience, func() bool { return countAll(talkers) >= moment }, fmt.Sprintf("%d things acknowledged", moment))
		process.Kill()
		talk.Wait()
		process.Start()
		t.Logf("round %d: killed after %d acknowledgements, ready again in %v", round+1, countAll(talkers), process.StartTime)
		for _, k := range talkers {
			k.Open(people.Reliable)
		}
	}
	var said []string
	for _, k := range talkers {
		said = append(said, k.said()...)
	}
	started := time.Now()
	talkers[0].Keeps(common, said)
	t.Logf("%d acknowledged messages found %v after the last start", len(said), time.Since(started))
	for _, k := range talkers {
		k.check()
	}
}

// talker makes chats, joins those of a neighbour and talks, until its connection breaks.
type talker struct {
	*people.Person
	base int

	mu     sync.Mutex // guards the following
	texts  []string   // acknowledged
	own    []string   // chats made, acknowledged
	joined []string   // chats joined, acknowledged
	next   int
	again  string // the text that had no answer when the connection broke
}

func (k *talker) talk(common string, neighbour func() []string) {
	for turn := 0; ; turn++ {
		k.mu.Lock()
		k.next++
		n, text := k.next, k.again
		k.mu.Unlock()
		if text == "" {
			text = fmt.Sprintf("%s says %d", k.Name, n)
		}
		if k.Say(common, text) != nil {
			k.note(func() { k.again = text })
			return
		}
		k.note(func() { k.texts, k.again = append(k.texts, text), "" })
		if turn%8 != 0 { // events are limited to ten a second
			continue
		}
		if err := k.change(people.UUID(k.base+n), neighbour()); err != nil && !people.IsNack(err) {
			return
		}
	}
}

// change makes a chat and joins the neighbour's newest.
func (k *talker) change(id string, neighbours []string) error {
	if err := k.Send("createChat", people.Object{"id": id, "name": "Chat of " + k.Name}); err != nil {
		return err
	}
	k.note(func() { k.own = append(k.own, id) })
	if len(neighbours) == 0 {
		return nil
	}
	other := neighbours[len(neighbours)-1]
	if err := k.Send("joinChat", other); err != nil {
		return err
	}
	k.note(func() { k.joined = append(k.joined, other) })
	return nil
}

func (k *talker) note(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *talker) said() (texts []string) {
	k.note(func() { texts = append(texts, k.texts...) })
	return texts
}

func (k *talker) owned() (chats []string) {
	k.note(func() { chats = append(chats, k.own...) })
	return chats
}

func countAll(talkers []*talker) (n int) {
	for _, k := range talkers {
		k.note(func() { n += len(k.texts) + len(k.own) + len(k.joined) })
	}
	return n
}

// check looks for the chats that k made and joined.
func (k *talker) check() {
	k.T.Helper()
	if len(k.own) == 0 || len(k.joined) == 0 {
		k.T.Errorf("%s made %d chats and joined %d, want some of both", k.Name, len(k.own), len(k.joined))
	}
	status, body := k.Call("GET", "/api/chats", nil)
	if status != http.StatusOK {
		k.T.Fatalf("chats: got status %d, want 200", status)
	}
	chats := body["chats"].(people.Object)
	for _, id := range append(k.own, k.joined...) {
		chat, ok := chats[id].(people.Object)
		if !ok {
			k.T.Errorf("chat %s of %s is lost", id, k.Name)
			continue
		}
		if _, in := chat["members"].(people.Object)[k.ID]; !in {
			k.T.Errorf("%s is no longer a member of chat %s", k.Name, id)
		}
	}
}
