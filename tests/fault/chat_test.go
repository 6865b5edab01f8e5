package fault

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/tests/fault/facts"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// The load of the chat.
const (
	persons = 6
	sayEach = 100 * time.Millisecond
)

// room is the chat that everybody is in.
var room = people.UUID(1)

// newChat starts the chat's services beside two gateways on a real Postgres, with people who talk. Of readiness, that of the services of
// the chat counts: gateways do not need Postgres.
func newChat(t *testing.T, long bool) *world {
	w := &world{t: t, long: long, log: facts.NewLog(), folder: keptFolder(t)}
	w.top = topology.Services(t, topology.Options{Logs: w.folder, Env: []string{"CHATR_LOG_LEVEL=info"}})
	w.nodes = []*node{{name: "events", process: w.top.Events}, {name: "api", process: w.top.API}}
	living, end := context.WithCancel(t.Context())
	w.sending, w.quiet = context.WithCancel(living)
	t.Cleanup(func() {
		end()
		w.parts.Wait()
	})
	for i := range persons {
		front, form := w.top.A, people.Plain
		if i%2 == 1 {
			front = w.top.B
		}
		if i%3 == 2 {
			form = people.Reliable
		}
		p := people.Come(t, front, fmt.Sprint("p", i), form)
		if i == 0 {
			p.Do("createChat", people.Object{"id": room, "name": "Room"})
		} else {
			p.Do("joinChat", room)
		}
		w.people = append(w.people, p)
		f := facts.Fact{Kind: facts.Opened, Client: p.Name, Conn: p.Conn.Info().ConnectionID, Node: "gateway", Reliable: form == people.Reliable}
		w.log.Add(f)
		f.Kind, f.Group = facts.Joined, room
		w.log.Add(f)
	}
	for _, p := range w.people {
		w.parts.Go(func() { w.talk(p) })
	}
	for _, n := range w.nodes {
		w.parts.Go(func() { n.watch(living, w) })
	}
	w.wait(2 * time.Second)
	return w
}

// talk has somebody say one thing after the other.
func (w *world) talk(p *people.Person) {
	for n := 1; ; n++ {
		sleep(w.sending, sayEach)
		if w.sending.Err() != nil {
			return
		}
		f := facts.Fact{Kind: facts.Sent, Client: p.Name, Conn: p.Conn.Info().ConnectionID, Node: "gateway", Group: room, Number: n}
		w.log.Add(f)
		switch err := p.Say(room, said(p.Name, n)); {
		case err == nil:
			f.Kind = facts.Acked
		case people.IsNack(err):
			f.Kind, f.Reason = facts.Nacked, err.Error()
		default:
			return // with the socket
		}
		w.log.Add(f)
	}
}

func said(name string, n int) string { return fmt.Sprintf("%s#%d", name, n) }

// lineOf is what somebody has said, in what others are told.
var lineOf = regexp.MustCompile(`"(p\d+)#(\d+)"`)

// agree returns all facts when everything that was acked has been heard and is in the history.
func (w *world) agree() []facts.Fact {
	w.mark("it is over")
	w.try(time.Minute, w.allReady)
	w.wait(2 * time.Second)
	w.quiet()
	w.wait(2 * time.Second)
	var acked []string
	for _, f := range w.log.Facts() {
		if f.Kind == facts.Acked {
			acked = append(acked, said(f.Client, f.Number))
		}
	}
	var missing, again int
	if !w.try(time.Minute, func() bool {
		stored, err := w.people[0].History(room)
		count := map[string]int{}
		for _, m := range stored {
			count[m.Text]++
		}
		missing, again = 0, 0
		for _, text := range acked {
			switch n := count[text]; {
			case n == 0:
				missing++
			case n > 1:
				again++
			}
		}
		return err == nil && missing+again == 0
	}) {
		w.wrong("of %d acked messages %d are missing in the history, %d are there twice", len(acked), missing, again)
	}
	list := w.log.End()
	now := time.Now()
	for _, p := range w.people {
		f := facts.Fact{Client: p.Name, Conn: p.Conn.Info().ConnectionID}
		heard := map[string]bool{} // pages drop what comes again with a number that they know
		for _, e := range p.All(func(e people.Event) bool { return e.Name == "" && e.Group == room }) {
			if m := lineOf.FindStringSubmatch(e.Data); m != nil && !heard[e.Data] {
				heard[e.Data] = true
				f.Kind, f.Group, f.From = facts.Heard, room, m[1]
				f.Number, _ = strconv.Atoi(m[2]) // digits
				f.At = w.log.Now() - now.Sub(e.At)
				list = append(list, f)
			}
		}
		if p.Closed() {
			f = facts.Fact{At: w.log.Now(), Kind: facts.Ended, Client: p.Name, Conn: f.Conn}
			if end, err := p.Conn.Wait(w.t.Context()); err == nil {
				f.Code, f.Reason = end.Code, end.Reason
			}
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b facts.Fact) int { return int(a.At - b.At) })
	return list
}

// postgres has the database do something, also when it takes no writes.
func (w *world) postgres(statements ...string) {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.top.Postgres.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	config.RuntimeParams["default_transaction_read_only"] = "off"
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(ctx)
	for _, s := range statements {
		if _, err := c.Exec(ctx, s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

// chatRows are incidents of what the chat needs.
var chatRows = []row{
	{name: "postgres-readonly", holds: true, what: "Postgres takes no writes, as after a switch-over",
		chat: func(w *world) {
			w.breaks(w.nodes...)
			w.postgres("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
			w.unready()
			w.mends(w.nodes...)
			w.postgres("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
		}},
	{name: "postgres-killed", what: "Postgres is killed, and started again",
		chat: func(w *world) {
			w.breaks(w.nodes...)
			w.top.Postgres.Stop()
			w.unready()
			w.mends(w.nodes...)
			w.top.Postgres.Start()
		}},
	{name: "postgres-ends", what: "Postgres ends all connections",
		chat: func(w *world) {
			w.postgres("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
			w.wait(3 * time.Second)
		}},
}
