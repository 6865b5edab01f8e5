package upstream

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestEventsPreparedBeforeTheEnd are put although the connection has ended meanwhile, in their order, and the handler hears of the end
// after them. What comes after the end is not put.
func TestEventsPreparedBeforeTheEnd(t *testing.T) {
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) { time.Sleep(time.Second); return 204, nil }, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		session.setAccepted(nil)
		first, second, third := session.Event("first", webpubsub.Text("x")), session.Event("second", webpubsub.Text("x")), session.Event("third", webpubsub.Text("x"))
		if _, err := session.HandOver(); err == nil {
			t.Error("a session was handed over with events prepared")
		}
		session.Closed("gone")
		synctest.Wait()
		late := session.Event("late", webpubsub.Text("x"))
		for _, e := range []*UserEvent{first, second} {
			if _, err := e.Put(t.Context()); err != nil {
				t.Error(err)
			}
		}
		third.Withdraw()
		if _, err := late.Put(t.Context()); err == nil {
			t.Error("an event came after the end of its connection")
		}
		if err := u.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		wantSeen(t, s, "0 first/1", "1 second/2", "2 disconnected/4")
	})
}

// TestAnEventThatHasWaitedTooLong for its turn is given up: whoever has sent it is told in time.
func TestAnEventThatHasWaitedTooLong(t *testing.T) {
	hang := func(_ int, r *http.Request) (int, error) {
		<-r.Context().Done()
		return 0, r.Context().Err()
	}
	scripted(t, Config{EventTimeout: 10 * time.Second}, false, hang, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		events := []*UserEvent{session.Event("a", webpubsub.Text("x")), session.Event("b", webpubsub.Text("x"))}
		time.Sleep(time.Second)
		events = append(events, session.Event("c", webpubsub.Text("x")))
		for i, want := range []Reason{ReasonTimeout, ReasonBusy, ReasonTimeout} {
			_, err := events[i].Put(context.Background())
			if f := new(Failure); !errors.As(err, &f) || f.Reason != want {
				t.Errorf("event %d: got %v, want reason %s", i, err, want)
			}
		}
		wantSeen(t, s, "1 a/1", "11 c/3")
	})
}
