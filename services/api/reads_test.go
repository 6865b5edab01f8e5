package api

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// The store of BenchmarkReads: what issue 10 calls a large one.
const (
	bigPeople   = 5_000
	bigOnline   = 500
	bigRooms    = 1_000
	bigMessages = 100_000
	bigMembers  = 20  // of a usual room
	readerRooms = 240 // that the reader is in, one with 900 people, besides the direct ones
	directRooms = 60
)

// bigStore is a store with many people, rooms and messages, one of whose people reads.
type bigStore struct {
	store  chat.Store
	reader string
	busy   string // the room with most members
	rooms  []string
	in     map[string][]string // members of rooms
	random *rand.Rand
}

// words is a text of so many words of some two thousand, the frequent ones more often.
func (b *bigStore) words(n int) string {
	var text strings.Builder
	for i := range n {
		if i > 0 {
			text.WriteByte(' ')
		}
		k := int(2000 * b.random.Float64() * b.random.Float64() * b.random.Float64())
		for k += 7; k > 0; k /= 11 {
			text.WriteString("ri no ta ke lo mi sa vu de pa gor"[k%11*3 : k%11*3+2])
		}
	}
	return text.String()
}

// person is the id of the i-th, as random as those of guests.
func person(i int) string {
	sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
	return "guest_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

// fillBig fills an empty store. It is the same each time.
func fillBig(ctx context.Context, store chat.Store) (*bigStore, error) {
	b := &bigStore{store: store, reader: person(0), in: map[string][]string{}, random: rand.New(rand.NewPCG(1, 2))}
	for i := 0; i < bigPeople; i += 500 {
		var people []chat.User
		for n := i; n < i+500; n++ {
			people = append(people, chat.User{ID: person(n), Name: strings.ToUpper(b.words(1)) + " " + b.words(1), Provider: "guest"})
		}
		if err := store.AddUsers(ctx, "default", people...); err != nil {
			return nil, err
		}
	}
	for i := range bigOnline {
		if _, err := store.Connect(ctx, "default", chat.Connection{ID: fmt.Sprint("c", i), UserID: person(i)}); err != nil {
			return nil, err
		}
	}
	for i := range bigRooms - directRooms {
		if err := b.room(ctx, i); err != nil {
			return nil, err
		}
	}
	for i := range directRooms {
		r, _, err := store.DirectRoom(ctx, "default", b.reader, person(100+i))
		if err != nil {
			return nil, err
		}
		b.rooms = append(b.rooms, r.ID)
		b.in[r.ID] = []string{b.reader, person(100 + i)}
	}
	at := time.Now().Add(-90 * 24 * time.Hour)
	for stored := 0; stored < bigMessages; stored += 250 {
		var batch []chat.Message
		for i := range 250 {
			batch = append(batch, b.message(at.Add(time.Duration(stored+i)*70*time.Second)))
		}
		if _, err := store.AddMessages(ctx, "default", batch); err != nil {
			return nil, err
		}
	}
	for i, room := range b.rooms { // the reader has read half of the rooms, and the others for a while
		if slices.Contains(b.in[room], b.reader) {
			m, err := store.Room(ctx, "default", room)
			if err == nil {
				err = store.MarkRead(ctx, "default", room, b.reader, max(0, m.LastSeq-int64(i%2*20)))
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// room makes the i-th room: every second one is public.
func (b *bigStore) room(ctx context.Context, i int) error {
	r := chat.Room{ID: fmt.Sprintf("%08x-room-%d", i*2654435761%(1<<32), i), Title: b.words(3), Kind: chat.KindPrivate}
	r.OwnerID = person(1 + i*4)
	b.in[r.ID] = []string{r.OwnerID}
	size := bigMembers
	if i == 0 {
		size, b.busy = 900, r.ID
	}
	if i < readerRooms {
		b.in[r.ID] = append(b.in[r.ID], b.reader)
	}
	for len(b.in[r.ID]) < size {
		if p := person(1 + b.random.IntN(bigPeople-1)); !slices.Contains(b.in[r.ID], p) {
			b.in[r.ID] = append(b.in[r.ID], p)
		}
	}
	if i%2 == 0 && i > 0 {
		r.Kind = chat.KindPublic
		b.in[r.ID] = b.in[r.ID][:min(len(b.in[r.ID]), 6)]
	} else {
		for _, id := range b.in[r.ID][1:] {
			r.Members = append(r.Members, chat.Member{UserID: id})
		}
	}
	b.rooms = append(b.rooms, r.ID)
	if _, err := b.store.CreateRoom(ctx, "default", r); err != nil || r.Kind == chat.KindPrivate {
		return err
	}
	for _, id := range b.in[r.ID][1:] {
		if _, err := b.store.Join(ctx, "default", r.ID, id); err != nil {
			return err
		}
	}
	return nil
}

// message is one that somebody could say: in a few rooms more than in others.
func (b *bigStore) message(at time.Time) chat.Message {
	room := b.rooms[int(float64(len(b.rooms))*b.random.Float64()*b.random.Float64())]
	in := b.in[room]
	return chat.Message{RoomID: room, AuthorID: in[b.random.IntN(len(in))], Text: b.words(3 + b.random.IntN(20)), Key: fmt.Sprintf("%016x", b.random.Uint64()), SentAt: at}
}

// BenchmarkReads measures each read of the API, p95 in milliseconds and bytes as they are sent, on a large store in which 200
// messages a second are said meanwhile, and all that the page reads when it is opened.
//
//	go test ./services/api -run '^$' -bench Reads -benchtime 1x
func BenchmarkReads(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		server := testkit.NewPostgresServer(b)
		store, err := sqlstore.OpenPostgres(b.Context(), server.URL)
		if err != nil {
			b.Fatal(err)
		}
		measureReads(b, store, func() { vacuum(b, server.URL) })
	})
	b.Run("sqlite", func(b *testing.B) {
		store, err := sqlstore.OpenSQLite(filepath.Join(b.TempDir(), "chat.db"))
		if err != nil {
			b.Fatal(err)
		}
		measureReads(b, store, func() {})
	})
}

// vacuum does what the server does by itself some time after so many rows have come.
func vacuum(b *testing.B, url string) {
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(b.Context(), `VACUUM ANALYZE`); err != nil {
		b.Fatal(err)
	}
}

const (
	readsOfEach      = 200
	messagesASecond  = 200
	mostOpeningBytes = 60_000 // the time has no bound here: it is the machine's too
)

func measureReads(b *testing.B, store chat.Store, filled func()) {
	defer store.Close()
	if err := store.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	big, err := fillBig(b.Context(), store)
	if err != nil {
		b.Fatal(err)
	}
	filled()
	w := &world{store: store}
	w.s, err = New(Config{SessionKey: sessionKey, Tenant: "default", Hub: "chat", SessionTime: time.Hour, IdleAfter: time.Minute, RequestsPerSecond: 1 << 20}, Deps{
		Store: store, Gateway: dataplane.New("http://127.0.0.1:1", accessKey, "chat", dataplane.Options{Retries: -1}),
		Keys: func() tenant.Keys { return tenant.Keys{Primary: accessKey} }, Web: fstest.MapFS{},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(w.s.Handler())
	defer server.Close()
	cookie := "chatr_session=" + w.s.seal(session{Tenant: "default", UserID: big.reader, Issued: time.Now().Unix(), Expires: time.Now().Add(time.Hour).Unix()})
	get := func(path string) (sent int, took time.Duration) {
		start := time.Now()
		r, _ := http.NewRequestWithContext(b.Context(), "GET", server.URL+path, nil)
		r.Header.Set("Cookie", cookie)
		r.Header.Set("Accept-Encoding", "gzip")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			b.Fatalf("%s: got %s, %v", path, res.Status, err)
		}
		return len(body), time.Since(start)
	}
	own, err := store.OwnRooms(b.Context(), "default", big.reader, chat.Place{}, 0)
	if err != nil {
		b.Fatal(err)
	}
	newest := own.Rooms[0].Room
	opening := []string{"/.auth/me", "/api/config", "/api/rooms?limit=500", "/api/directory?limit=100", "/api/users", "/api/blocked", "/api/rooms/" + big.busy + "/messages"}
	bytes := 0
	for _, path := range opening {
		n, _ := get(path)
		bytes += n
		b.Logf("opening reads %6d bytes: %s", n, path)
	}
	b.ReportMetric(float64(bytes), "opening-bytes")
	if bytes > mostOpeningBytes {
		b.Errorf("opening the page reads %d bytes, want at most %d", bytes, mostOpeningBytes)
	}

	said, stop := big.talk(b)
	defer stop()
	var worst time.Duration
	for _, path := range []string{
		"/.auth/me", "/api/rooms", "/api/rooms?limit=500", "/api/rooms?limit=100", fmt.Sprint("/api/rooms?since=", own.Revision-50), "/api/rooms?since=0&limit=500",
		"/api/directory", "/api/directory?q=nothing", "/api/rooms/" + newest.ID, "/api/rooms/" + big.busy, "/api/rooms/" + big.busy + "/members?limit=200",
		"/api/rooms/" + big.busy + "/messages", "/api/rooms/" + big.busy + "/messages?limit=200", fmt.Sprint("/api/rooms/", big.busy, "/messages?around=50"),
		"/api/rooms/" + big.busy + "/events?after=50", "/api/rooms/" + big.busy + "/events?limit=256", "/api/users", "/api/blocked", "/api/chats", "/api/chats/" + big.busy + "/messages",
	} {
		var all []time.Duration
		sent := 0
		for range readsOfEach {
			n, took := get(path)
			sent, all = n, append(all, took)
		}
		slices.Sort(all)
		p95 := all[len(all)*95/100]
		b.Logf("p50 %6.1f ms, p95 %6.1f ms, %7d bytes: %s", ms(all[len(all)/2]), ms(p95), sent, path)
		worst = max(worst, p95)
	}
	stop()
	b.Logf("%d messages said meanwhile", said.Load())
	b.ReportMetric(ms(worst), "worst-p95-ms")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// talk has messages said at a steady rate, each by itself, until stop.
func (b *bigStore) talk(t *testing.B) (said *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	said = &atomic.Int64{}
	next := make(chan chat.Message)
	var working sync.WaitGroup
	for range 8 {
		working.Go(func() {
			for m := range next {
				_, created, err := b.store.AddMessage(context.WithoutCancel(ctx), "default", m)
				if err != nil || !created {
					t.Errorf("a message was not stored: %v", err)
				}
				said.Add(1)
			}
		})
	}
	working.Go(func() {
		defer close(next)
		tick := time.NewTicker(time.Second / messagesASecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				next <- b.message(time.Time{})
			case <-ctx.Done():
				return
			}
		}
	})
	return said, sync.OnceFunc(func() { cancel(); working.Wait() })
}
