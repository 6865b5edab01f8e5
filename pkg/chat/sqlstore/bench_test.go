package sqlstore

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// BenchmarkPostgresAdd says what storing messages costs, one by one and in batches, in one room and in many.
func BenchmarkPostgresAdd(b *testing.B) {
	url := testkit.Postgres(b, MigratePostgres)
	benchmarkAdd(b, func() chat.Store {
		s, err := OpenPostgres(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}, func(s chat.Store) {
		if _, err := s.(*Store).driver.exec(b.Context(), "ANALYZE"); err != nil {
			b.Fatal(err)
		}
	})
}
func BenchmarkSQLiteAdd(b *testing.B) {
	path := filepath.Join(b.TempDir(), "chat.db")
	benchmarkAdd(b, func() chat.Store {
		s, err := OpenSQLite(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		if err := s.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		return s
	}, func(s chat.Store) {
		if _, err := s.(*Store).driver.exec(b.Context(), "ANALYZE"); err != nil {
			b.Fatal(err)
		}
	})
}

func benchmarkAdd(b *testing.B, open func() chat.Store, analyze func(chat.Store)) {
	ctx := context.Background()
	s := open()
	const rooms = 1000
	if err := s.SaveUser(ctx, "tenant", chat.User{ID: "ann", Name: "Ann"}); err != nil {
		b.Fatal(err)
	}
	for r := range rooms {
		owner := fmt.Sprint("owner", r/50)
		if err := s.SaveUser(ctx, "tenant", chat.User{ID: owner, Name: "Ann"}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.CreateRoom(ctx, "tenant", chat.Room{ID: fmt.Sprint("r", r), Title: "Room", OwnerID: owner}); err != nil {
			b.Fatal(err)
		}
	}
	key := 0
	for range 40 { // so that the planner knows what the tables are like
		var batch []chat.Message
		for i := range 250 {
			key++
			r := (i + key) % 100
			batch = append(batch, chat.Message{RoomID: fmt.Sprint("r", r), AuthorID: fmt.Sprint("owner", r/50), Text: "hello", Key: fmt.Sprint(key)})
		}
		if _, err := s.AddMessages(ctx, "tenant", batch); err != nil {
			b.Fatal(err)
		}
	}
	analyze(s)
	for _, size := range []int{1, 16, 256} {
		for _, spread := range []int{1, 100} {
			b.Run(fmt.Sprintf("batch=%d/rooms=%d", size, spread), func(b *testing.B) {
				for b.Loop() {
					var batch []chat.Message
					for i := range size {
						key++
						r := i % spread
						batch = append(batch, chat.Message{RoomID: fmt.Sprint("r", r), AuthorID: fmt.Sprint("owner", r/50), Text: "hello, how are you today? fine, and you?", Key: fmt.Sprint(key)})
					}
					outcomes, err := s.AddMessages(ctx, "tenant", batch)
					if err != nil {
						b.Fatal(err)
					}
					for _, o := range outcomes {
						if !o.Created {
							b.Fatal(o)
						}
					}
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
