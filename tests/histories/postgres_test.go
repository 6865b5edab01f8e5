package histories

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// fakeClock is a clock in the database that comes before Postgres' own: it shows what the test last set.
const fakeClock = `
	CREATE SCHEMA clock;
	CREATE TABLE clock.now (at timestamptz NOT NULL);
	INSERT INTO clock.now VALUES ('2000-01-01T00:00:00Z');
	CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM clock.now'`

// clocked is a store on Postgres whose time is that of the test, as of the last tick.
type clocked struct {
	chat.Store
	mu   sync.Mutex // guards the following
	conn *pgx.Conn
}

func (c *clocked) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Exec(context.Background(), `UPDATE clock.now SET at = $1`, time.Now()); err != nil {
		panic(err)
	}
}

// TestHistoriesOnPostgres lets fewer histories happen there, after one in which leases have to end.
func TestHistoriesOnPostgres(t *testing.T) {
	count, seed := number(t, "HISTORIES", 150)/50, number(t, "SEED", 1)
	migrate := func(ctx context.Context, address string) error {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, fakeClock); err != nil {
			return err
		}
		return sqlstore.MigratePostgres(ctx, address)
	}
	histories := []History{found["something is said after a person was invited and before that person hears the room"]}
	for n := range count {
		histories = append(histories, draw(uint64(seed+n)))
	}
	for _, h := range histories {
		database := func() string { return withClock(testkit.Postgres(t, migrate)) }
		address := database()
		open := func() (chat.Store, func()) {
			ctx := context.Background()
			conn, err := pgx.Connect(ctx, address)
			if err != nil {
				panic(err)
			}
			store, err := sqlstore.OpenPostgres(ctx, address)
			if err != nil {
				panic(err)
			}
			populate(t, store, 0)
			told(t, store)
			return &clocked{Store: store, conn: conn}, func() { _, _ = store.Close(), conn.Close(ctx) }
		}
		if r := run(t, h, open, unchanged); len(r.problems) > 0 {
			t.Logf("SEED=%d: %s", h.Seed, r.problems[0])
			report(t, h, func() (chat.Store, func()) { address = database(); return open() }, unchanged)
			return
		}
	}
}

// withClock returns the address with the test's clock in front of Postgres' own.
func withClock(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // made by testkit
	}
	q := u.Query()
	q.Set("search_path", "clock,pg_catalog,public")
	u.RawQuery = q.Encode()
	return u.String()
}
