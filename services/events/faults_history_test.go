package events

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// said1 is a log entry as a gateway would make it.
func said1(id, room, user, data string) messagelog.Entry {
	return messagelog.Entry{
		ID: id, Hub: webpubsub.HubKey{Tenant: "default", Hub: "chat"}, Group: room, ConnectionID: "c", FromUserID: user,
		Time: time.Now(), Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(data)},
	}
}

func TestFault16And38HistoryNamesTheRealSender(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	eve.must("joinChat", room1)
	other := said1("9", room1, "guest_ada", `{"message":"other tenant"}`)
	other.Hub.Tenant = "other"
	binary := said1("10", room1, "guest_ada", "x")
	binary.Data.Type = webpubsub.DataBinary
	plain := said1("11", room1, "guest_ada", "plain text")
	plain.Data.Type = webpubsub.DataText
	batch := []messagelog.Entry{
		said1("1", room1, "guest_eve", `{"message":"I am Ada","fromUserId":"guest_ada","fromUserName":"Ada","key":"k1"}`),
		said1("2", room1, "guest_eve", `{"message":"I am Ada","key":"k1"}`),
		said1("3", room1, "guest_bob", `{"message":"not a member"}`),
		said1("4", room1, "", `{"message":"nobody"}`),
		said1("5", room2, "guest_ada", `{"message":"no room"}`),
		said1("6", room1, "guest_ada", `{"message":" "}`),
		said1("7", room1, "guest_ada", `{"message":"`+strings.Repeat("x", 8001)+`"}`),
		said1("8", room1, "guest_ada", `{"message":"zero \u0000"}`),
		other, binary, plain,
		said1("12", room1, "guest_ada", `[1,2]`),
		said1("13", room1, "guest_ada", `{"message":"two","key":7}`),
		said1("14", room1, "guest_ada", `{"message":"three","key":"`+strings.Repeat("k", 200)+`"}`),
	}
	for range 2 { // at least once: the log may hand a batch over again
		if err := w.s.heard.Keep(t.Context(), batch); err != nil {
			t.Fatalf("remember: %v", err)
		}
	}
	stored, err := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	if err != nil {
		t.Fatal(err)
	}
	got := [][]any{}
	for _, m := range stored {
		got = append(got, []any{m.Seq, m.AuthorID, m.AuthorName, m.Text, m.Key})
	}
	equal(t, "history", got, [][]any{
		{1, "guest_eve", "Eve", "I am Ada", "k1"},
		{2, "guest_ada", "Ada", "zero \uFFFD", "8"}, // it was heard, and NUL cannot be kept
		{3, "guest_ada", "Ada", "plain text", "11"},
		{4, "guest_ada", "Ada", "two", "13"},
		{5, "guest_ada", "Ada", "three", "14"},
	})
}

// TestFault38HistoryIsTakenByItsOwnServiceOnly has two chats behind the same gateways, of two tenants or of two hubs.
func TestFault38HistoryIsTakenByItsOwnServiceOnly(t *testing.T) {
	for name, other := range map[string]webpubsub.HubKey{
		"tenants": {Tenant: "two", Hub: "chat"},
		"hubs":    {Tenant: "default", Hub: "team"},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := sqlitelog.Open(filepath.Join(t.TempDir(), "log.db"), sqlitelog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { log.Close() })
			said := func(h webpubsub.HubKey, text string) {
				e := said1("", room1, "guest_ada", text)
				e.Hub, e.Data.Type = h, webpubsub.DataText
				log.Append(messagelog.Name(h.Tenant, "history"), e, func(err error) {
					if err != nil {
						t.Errorf("append %s: got %v", text, err)
					}
				})
			}
			// start runs the service of a chat until a text is in its history.
			start := func(h webpubsub.HubKey, text string) {
				w := newWorld(t, Config{Tenant: h.Tenant, Hub: h.Hub})
				w.s.deps.Log = log
				ada := chat.User{ID: "guest_ada", Name: "Ada", Provider: "guest"}
				if err := w.store.SaveUser(t.Context(), h.Tenant, ada); err != nil {
					t.Fatal(err)
				}
				if _, err := w.store.CreateRoom(t.Context(), h.Tenant, chat.Room{ID: room1, Title: "Tea", OwnerID: ada.ID}); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				var work sync.WaitGroup
				work.Go(func() { _ = w.s.keepHistory(ctx) })
				t.Cleanup(func() {
					stop()
					work.Wait()
				})
				testkit.Eventually(t, 10*time.Second, func() bool {
					lines, _ := w.store.History(t.Context(), h.Tenant, room1, ada.ID, 0, 50)
					return len(lines) > 0 && lines[len(lines)-1].Text == text
				}, text+" is in the history")
			}
			said(other, "theirs")
			said(webpubsub.HubKey{Tenant: "default", Hub: "chat"}, "ours")
			start(webpubsub.HubKey{Tenant: "default", Hub: "chat"}, "ours")
			start(other, "theirs")
		})
	}
}

func TestFault38NothingIsLostWhileTheStoreIsAway(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the store refuses
	batch := []messagelog.Entry{said1("1", room1, "guest_ada", `{"message":"one"}`)}
	if err := w.s.heard.Keep(ctx, batch); err == nil {
		t.Fatal("a batch that was not stored is confirmed")
	}
	if err := w.s.heard.Keep(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	stored, _ := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	equal(t, "stored", len(stored), 1)
}

// TestFault38HubInCapitals is configured with another spelling of the hub than gateways use.
func TestFault38HubInCapitals(t *testing.T) {
	w := newWorld(t, Config{Hub: "Chat"})
	ada := w.open("a", "guest_ada")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{said1("1", room1, "guest_ada", `{"message":"kept"}`)}); err != nil {
		t.Fatal(err)
	}
	stored, err := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	if err != nil || len(stored) != 1 {
		t.Errorf("got %d messages, %v; want the one that was sent", len(stored), err)
	}
}
