package events

import (
	"context"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// Whoever joins while a role is changed may do what the store says afterwards, in whichever order the two are committed.
func TestRoleChangedWhileSomebodyJoins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		role string // that is changed
		join func(w *world)
	}{
		"by the page":         {"room.member", func(w *world) { w.conns["b"].must("joinChat", room1) }},
		"by the page, direct": {"room.operator", func(w *world) { w.conns["b"].must("createPrivateChat", object{"targetUserId": "guest_eve"}) }},
		"created":             {"room.operator", func(w *world) { w.conns["b"].must("createChat", object{"id": room2, "name": "New"}) }},
		"put by REST": {"room.member", func(w *world) {
			w.mustRequest(http.StatusCreated, "PUT", "rooms/"+room1+"/members/guest_bob", object{"roleName": "room.member"})
		}},
		"given by REST": {"room.member", func(w *world) {
			w.mustRequest(http.StatusOK, "PUT", "rooms/"+room1+"/members/guest_ada", object{"roleName": "room.member"})
		}},
		"added by the chat protocol": {"room.member", func(w *world) {
			w.conns["a"].mustInvoke("chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "guest_bob"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testkit.Postgres(t, nil)
			store, err := sqlstore.OpenPostgres(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorldOn(t, Config{}, store)
			for id, user := range map[string]string{"a": "guest_ada", "b": "guest_bob", "e": "guest_eve"} {
				w.open(id, user)
			}
			w.conns["a"].must("createChat", object{"id": room1, "name": "Tea"})
			w.payAll()
			gates := newGates(t, url)

			joined, changed := make(chan struct{}), make(chan struct{})
			go func() { defer close(joined); test.join(w) }()
			gates.await(1) // it has made a member
			go func() {
				defer close(changed)
				w.request("PUT", "roles/"+test.role, object{"permissions": []string{"room.history"}})
			}()
			gates.await(2) // it has looked who has the role, or waits to
			gates.open(joinGate)
			<-joined
			gates.open(changeGate)
			<-changed
			w.payAll()
			rooms, err := store.Memberships(t.Context(), "default", "guest_bob")
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range append(rooms, room1) {
				for conn, c := range w.conns {
					m, err := store.Membership(t.Context(), "default", id, c.user)
					if err != nil {
						t.Fatal(err)
					}
					if hear, speak := c.may(id); hear != m.In || speak != m.MaySpeak {
						t.Errorf("%s in %s hears %v and speaks %v; by the store %v and %v", conn, id, hear, speak, m.In, m.MaySpeak)
					}
				}
			}
		})
	}
}

// gates stop transactions at certain places until they are opened.
type gates struct {
	t      *testing.T
	keeper *pgx.Conn // holds what the transactions wait for
}

// The gates there are.
const (
	joinGate   = 1 // when somebody has become a member, or got another role
	changeGate = 2 // before a change of roles is committed
)

func newGates(t *testing.T, url string) gates {
	t.Helper()
	keeper, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keeper.Close(context.Background()) })
	g := gates{t, keeper}
	g.do(`
		CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint);
			RETURN NULL;
		END $$;
		CREATE TRIGGER gate AFTER INSERT ON effects FOR EACH ROW WHEN (NEW.kind = 'member') EXECUTE FUNCTION gate(1);
		CREATE CONSTRAINT TRIGGER gate AFTER INSERT OR UPDATE ON roles DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate(2);
		SELECT pg_advisory_lock(1), pg_advisory_lock(2)`)
	return g
}

func (g gates) do(script string) {
	g.t.Helper()
	if _, err := g.keeper.PgConn().Exec(g.t.Context(), script).ReadAll(); err != nil {
		g.t.Fatal(err)
	}
}

// await returns when so many transactions wait, at a gate or for each other.
func (g gates) await(want int) {
	g.t.Helper()
	testkit.Eventually(g.t, 0, func() bool {
		var waiting int
		err := g.keeper.QueryRow(g.t.Context(), `SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
			WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted`).Scan(&waiting)
		if err != nil {
			g.t.Fatal(err)
		}
		return waiting == want
	}, "transactions wait")
}

func (g gates) open(gate int) {
	g.t.Helper()
	if _, err := g.keeper.Exec(g.t.Context(), `SELECT pg_advisory_unlock($1)`, gate); err != nil {
		g.t.Fatal(err)
	}
}
