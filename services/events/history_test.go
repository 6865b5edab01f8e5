package events

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
)

// flaky is a store that fails instead of storing the given batch.
type flaky struct {
	chat.Store
	fails, batches int
}

func (f *flaky) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	f.batches++
	if f.batches == f.fails {
		return nil, errors.New("gone")
	}
	return f.Store.AddMessages(ctx, tenant, batch)
}

// TestHistoryOfManyMessages has a batch of the log be more than the store takes at once, with what can never be stored
// among it, and the store go away in between: all that can be is stored once, in order, and counted.
func TestHistoryOfManyMessages(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	store := &flaky{Store: w.store, fails: 2}
	w.swap.Store = store
	const good = chat.MaxBatch + 10
	batch := []messagelog.Entry{
		said1("a", room2, "guest_ada", `{"message":"no room"}`),
		said1("b", room1, "guest_eve", `{"message":"not a member"}`),
		said1("c", room1, "guest_ada", `{"message":"\u0000"}`),
		said1("d", room1, "guest_ada", `[]`),
	}
	for i := range good {
		id := fmt.Sprint(i)
		batch = append(batch, said1(id, room1, "guest_ada", `{"message":"line `+id+`"}`))
	}
	if err := w.s.heard.Keep(t.Context(), batch); err == nil {
		t.Fatal("a batch of which only a part was stored is confirmed")
	}
	if err := w.s.heard.Keep(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	const before = chat.MaxBatch - 4 // stored with the first part
	for result, want := range map[string]int{
		"stored": good + 1, "known": before + 1, "foreign": 2, "not_member": 2, "not_text": 2,
	} {
		equal(t, result, w.counted("events_history_messages_total", result), want)
	}
	page, err := w.store.History(t.Context(), "default", room1, "guest_ada", 0, chat.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range page {
		n := good - len(page) + i
		equal(t, "message", []any{m.Seq, m.Text}, []any{n + 2, fmt.Sprint("line ", n)})
	}
	equal(t, "messages of the page", len(page), chat.MaxPage)

	store.batches = 0
	other := said1("x", room1, "guest_ada", `{"message":"elsewhere"}`)
	other.Hub.Hub = "other"
	if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{other}); err != nil {
		t.Fatal(err)
	}
	equal(t, "batches with nothing of this hub", store.batches, 0)
}
