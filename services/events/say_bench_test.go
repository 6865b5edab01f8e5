package events

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// BenchmarkSay has people say 2,000 messages a second to one process, in one room or in 1,000, at their own pace whether they
// are answered or not, and reports how long it took until a message was answered and until a gateway had it.
//
//	go test ./services/events -run - -bench Say -benchtime 20000x
func BenchmarkSay(b *testing.B) {
	stores := map[string]func(b *testing.B) (store *sqlstore.Store, filled func()){
		"postgres": func(b *testing.B) (*sqlstore.Store, func()) {
			url := testkit.Postgres(b, sqlstore.MigratePostgres)
			store, err := sqlstore.OpenPostgres(b.Context(), url)
			if err != nil {
				b.Fatal(err)
			}
			return store, func() { analyze(b, url) }
		},
		"sqlite": func(b *testing.B) (*sqlstore.Store, func()) {
			store, err := sqlstore.OpenSQLite(filepath.Join(b.TempDir(), "chat.db"))
			if err == nil {
				err = store.Migrate(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
			return store, func() {}
		},
	}
	for _, name := range []string{"postgres", "sqlite"} {
		for _, rooms := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/rooms=%d", name, rooms), func(b *testing.B) {
				store, filled := stores[name](b)
				defer store.Close()
				benchmarkSay(b, store, filled, rooms, 2000)
			})
		}
	}
}

func benchmarkSay(b *testing.B, store *sqlstore.Store, filled func(), rooms, perSecond int) {
	var mu sync.Mutex
	sentAt, toldIn := map[string]time.Time{}, []time.Duration{}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		if _, key, ok := strings.Cut(string(body), `"key":"`); ok {
			key, _, _ = strings.Cut(key, `"`)
			mu.Lock()
			if at, ok := sentAt[key]; ok {
				toldIn = append(toldIn, time.Since(at))
			}
			mu.Unlock()
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer gateway.Close()
	s, err := New(Config{Tenant: "default", Hub: "chat", Origins: []string{"gateway"}, EventsPerSecond: 1 << 20}, Deps{
		Store: store, Log: noLog{}, Gateway: dataplane.New(gateway.URL, testKey, "chat", dataplane.Options{}),
		Keys: func() []string { return []string{testKey} }, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	handler := s.Handler()
	const people = 100
	for i := range people {
		user := fmt.Sprintf("u%d", i)
		if err := store.SaveUser(b.Context(), "default", chat.User{ID: user, Name: user, Provider: "token"}); err != nil {
			b.Fatal(err)
		}
		if _, err := store.Connect(b.Context(), "default", chat.Connection{ID: "c" + user, UserID: user}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range rooms { // of ten people each, or of all
		room := chat.Room{ID: fmt.Sprintf("r%d", i), Title: "T", Kind: chat.KindPrivate, OwnerID: fmt.Sprintf("u%d", i%people)}
		for j := range min(people, 10*people/rooms+10) {
			room.Members = append(room.Members, chat.Member{UserID: fmt.Sprintf("u%d", (i+j)%people)})
		}
		if _, err := store.CreateRoom(chat.CausedBy(b.Context(), "setup", "setup"), "default", room); err != nil {
			b.Fatal(err)
		}
		<-s.tell.Changed(room.ID)
		if _, _, err := store.AddMessage(b.Context(), "default", chat.Message{RoomID: room.ID, AuthorID: room.OwnerID, Text: "first", Key: "first"}); err != nil {
			b.Fatal(err)
		}
	}
	for owed := 1; owed > 0; { // that the members hear the rooms, and what was said first
		errPay, errTell := s.effects.Work(b.Context()), s.tell.Work(b.Context())
		s.tell.Wait()
		n, _, err := store.EffectsOwed(b.Context(), "default")
		untold, errUntold := store.Untold(b.Context(), "default", 1)
		if err := errors.Join(errPay, errTell, err, errUntold); err != nil {
			b.Fatal(err)
		}
		owed = n + len(untold)
	}
	filled()

	answered := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		wg.Go(func() {
			user, key := fmt.Sprintf("u%d", i%people), fmt.Sprintf("k%d", i)
			room := i % rooms
			if rooms > 1 { // somebody who is in it
				user = fmt.Sprintf("u%d", room%people)
			}
			mu.Lock()
			sentAt[key] = at
			mu.Unlock()
			r, err := cloudevents.NewRequest(b.Context(), "http://events/eventhandler/sendMessage", cloudevents.Event{
				Type: cloudevents.UserPrefix + "sendMessage", Name: "sendMessage", Hub: "chat", ConnectionID: "c" + user, UserID: user, ID: uint64(i),
				Time: at, Origin: "gateway", ContentType: cloudevents.TypeJSON,
				Body: fmt.Appendf(nil, `{"chatId":"r%d","text":"the quick brown fox jumps over the lazy dog","key":"%s"}`, room, key),
			}, testKey)
			if err != nil {
				b.Error(err)
				return
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			answered[i] = time.Since(at)
			if w.Code != http.StatusOK {
				b.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	s.tell.Wait()
	b.StopTimer()
	report := func(what string, list []time.Duration) {
		slices.Sort(list)
		for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
			if len(list) > 0 {
				b.ReportMetric(float64(list[int(q*float64(len(list)-1))].Microseconds())/1000, "ms-"+what+"-"+name)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	report("answered", answered)
	report("told", toldIn)
	b.ReportMetric(float64(len(toldIn))/float64(b.N), "told/said")
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "said/s")
}

// analyze gives Postgres the statistics that it has by itself after a minute.
func analyze(b *testing.B, url string) {
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if _, err := conn.Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
}
