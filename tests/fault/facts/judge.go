package facts

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

// Limits are the times that decide. The zero value has those of the design.
type Limits struct {
	Answer time.Duration // an ack or a nack comes within it; 10 s
	Told   time.Duration // disconnected is told within it after the last sign of life; 15 s
	Notice time.Duration // a node may be ready for so long although it cannot do its work; 5 s
	Linger time.Duration // what a client reads so long after it was called offline may have been under way; 2 s
}

func (l *Limits) fill() {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&l.Answer, 10 * time.Second}, {&l.Told, 15 * time.Second}, {&l.Notice, 5 * time.Second}, {&l.Linger, 2 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
}

// Verdict is what a list of facts adds up to.
type Verdict struct {
	Sent, Acked, Nacked int // messages to groups
	Unanswered          int // neither acked nor nacked in time, although the connection that sent them went on
	Delivered           int // what members of groups heard
	NackedHeard         int // of it, what its sender was told to have failed

	Lost      int // acked, and never heard by a member who had joined before and was not told of a gap
	LostPlain int // of those, by connections whose subprotocol has no sequence ids
	Gap       int // acked, and never heard by a client because of the end of a connection, of which it knows
	Doubled   int // heard again by a client that had heard it
	Reordered int // heard after what the same publisher sent to the same group later
	Stray     int // heard, and never sent, or by a connection that never asked for it

	EndedPlain, EndedReliable int             // connections that clients gave up
	ToldMissed                int             // of those, closed by the server for the reason that something is missing
	RecoveredConns            int             // times that a reliable connection went on on another socket
	Recovery                  []time.Duration // from the end of a socket until the client was back, in order
	NotBack                   []string        // clients that were not

	Untold       int // connections that ended without disconnected
	ToldLate     int
	ToldAgain    int      // disconnected, beyond the first
	FalseOff     int      // connections that were called offline, by an answer or by disconnected, and went on
	ReadyLies    int      // times that a node was ready although it could not do its work
	ListsRefused int      // by nodes that had been without another one, which had stopped, for so long that they need not wait for it any more
	Unready      []string // nodes that are not ready in the end

	Events, EventsAcked, EventsNacked, EventsUnanswered, EventsAgain int // for the application; the last: handled beyond the first time

	EventTime time.Duration // until the ack, of the slowest but a hundredth of the events that got one

	Examples []string // of everything that should not be, in words
}

// P50 and Max are those of Recovery; zero without any.
func (v *Verdict) P50() time.Duration { return v.part(0.5) }

// Max is the longest of Recovery; zero without any.
func (v *Verdict) Max() time.Duration { return v.part(1) }

func (v *Verdict) part(p float64) time.Duration { return part(v.Recovery, p) }

// part is what a part of the times, which rise, does not exceed.
func part(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[int(p*float64(len(times)-1))]
}

const maxExamples = 8 // of each kind

// conn is a connection.
type conn struct {
	id, client, node string
	reliable         bool
	opened           time.Duration
	ended            time.Duration   // never while the client has it
	alive            []time.Duration // signs of life from the server, rising
	sockets          []span
	told             []time.Duration
}

type span struct{ from, until time.Duration }

const never = time.Duration(1<<63 - 1)

// message is something that was sent.
type message struct {
	client, conn, node, group string
	number                    int
	sent, answered            time.Duration
	acked, nacked             bool
}

func (m *message) key() messageKey { return messageKey{m.client, m.group, m.number} }

type messageKey struct {
	client, group string
	number        int
}

// membership is a client's time in a group, on one connection.
type membership struct {
	conn   *conn
	joined time.Duration
}

type judge struct {
	limits   Limits
	end      time.Duration
	conns    map[string]*conn
	messages map[messageKey]*message
	ordered  []*message                         // the same, as they were sent
	members  map[string]map[string][]membership // by group and client
	heard    map[messageKey]map[string]int      // how often, by client
	said     map[string]int                     // examples, by kind
	dueAt    map[string][]time.Duration         // by node: when something was sent that its connections should hear
	heardAt  map[string][]time.Duration         // by node
	stopped  map[string][]span                  // by node
	v        Verdict
}

// Judge says what was promised and not kept. Facts are in the order in which they were seen.
func Judge(list []Fact, limits Limits) Verdict {
	limits.fill()
	j := &judge{limits: limits, conns: map[string]*conn{}, messages: map[messageKey]*message{}, members: map[string]map[string][]membership{},
		heard: map[messageKey]map[string]int{}, said: map[string]int{}, dueAt: map[string][]time.Duration{}, heardAt: map[string][]time.Duration{}, stopped: map[string][]span{}}
	if len(list) > 0 {
		j.end = list[len(list)-1].At
	}
	j.connections(list)
	j.sends(list)
	j.hearings(list)
	j.deliveries()
	j.answers()
	j.disconnected()
	j.presence(list)
	j.readiness(list)
	j.lists(list)
	return j.v
}

// example tells of a fault in words, as long as there are few of its kind.
func (j *judge) example(kind, format string, args ...any) {
	if j.said[kind]++; j.said[kind] <= maxExamples {
		j.v.Examples = append(j.v.Examples, kind+": "+fmt.Sprintf(format, args...))
	}
}

func (j *judge) conn(f Fact) *conn {
	c := j.conns[f.Conn]
	if c == nil {
		c = &conn{id: f.Conn, client: f.Client, ended: never, opened: f.At}
		j.conns[f.Conn] = c
	}
	return c
}

// connections follows each connection from socket to socket, and each client from connection to connection.
func (j *judge) connections(list []Fact) {
	away := map[string]time.Duration{} // clients without a working connection, since when
	for _, f := range list {
		switch f.Kind {
		case Opened:
			c := j.conn(f)
			c.node, c.reliable = f.Node, f.Reliable
			c.sockets = append(c.sockets, span{f.At, never})
		case Joined:
			c := j.conn(f)
			if j.members[f.Group] == nil {
				j.members[f.Group] = map[string][]membership{}
			}
			j.members[f.Group][f.Client] = append(j.members[f.Group][f.Client], membership{c, f.At})
		case Cut:
			c := j.conn(f)
			if n := len(c.sockets); n > 0 {
				c.sockets[n-1].until = f.At
			}
			if _, already := away[f.Client]; !already {
				away[f.Client] = f.At
			}
		case Recovered:
			c := j.conn(f)
			c.node = f.Node
			c.sockets = append(c.sockets, span{f.At, never})
			j.v.RecoveredConns++
		case Ended:
			c := j.conn(f)
			c.ended = f.At
			if c.reliable {
				j.v.EndedReliable++
			} else {
				j.v.EndedPlain++
			}
			if f.Code == 1008 || strings.Contains(f.Reason, "missed") {
				j.v.ToldMissed++
			}
			j.example("ended", "%s at %v: %d %q", c, round(f.At), f.Code, f.Reason)
		case Back:
			if since, was := away[f.Client]; was {
				j.v.Recovery = append(j.v.Recovery, f.At-since)
				delete(away, f.Client)
			}
		case Told:
			j.conn(f).told = append(j.conn(f).told, f.At)
		case Stopped:
			j.stopped[f.Node] = append(j.stopped[f.Node], span{f.At, never})
		case Mended:
			if n := len(j.stopped[f.Node]); n > 0 {
				j.stopped[f.Node][n-1].until = f.At
			}
		}
		if f.Conn != "" {
			switch f.Kind {
			case Opened, Joined, Recovered, Alive, Acked, Nacked, Heard:
				c := j.conn(f)
				c.alive = append(c.alive, f.At)
			}
		}
	}
	slices.Sort(j.v.Recovery)
	j.v.NotBack = slices.Sorted(maps.Keys(away))
	for _, client := range j.v.NotBack {
		j.example("not back", "%s since %v", client, round(away[client]))
	}
}

func (c *conn) String() string {
	form := "plain"
	if c.reliable {
		form = "reliable"
	}
	return fmt.Sprintf("%s (%s, %s, %s)", c.client, form, c.node, c.id)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// sends collects what was sent and how it was answered.
func (j *judge) sends(list []Fact) {
	for _, f := range list {
		key := messageKey{f.Client, f.Group, f.Number}
		switch f.Kind {
		case Sent:
			m := &message{client: f.Client, conn: f.Conn, node: f.Node, group: f.Group, number: f.Number, sent: f.At, answered: never}
			j.messages[key], j.ordered = m, append(j.ordered, m)
		case Acked, Nacked, Failed:
			m := j.messages[key]
			if m == nil || m.acked || m.nacked {
				continue
			}
			m.answered, m.acked, m.nacked = f.At, f.Kind == Acked, f.Kind == Nacked
		}
	}
}

// place is where order counts: one publisher's messages to one group, as one connection hears them; those of one of its
// connections, or of all.
type place struct{ hearer, publisher, from, group string }

// hearings counts what was heard, and compares its order with that of sending. Order is promised for what one connection
// sends, and for what is sent after the message before it was answered.
func (j *judge) hearings(list []Fact) {
	latest := map[place]*message{}
	handled := map[messageKey]int{}
	for _, f := range list {
		if f.Kind == Handled {
			key := messageKey{f.Client, "", f.Number}
			if handled[key]++; handled[key] > 1 {
				j.v.EventsAgain++
				j.example("event handled again", "%s's number %d at %v", f.Client, f.Number, round(f.At))
			}
		}
		if f.Kind != Heard {
			continue
		}
		c := j.conn(f)
		j.heardAt[c.node] = append(j.heardAt[c.node], f.At)
		key := messageKey{f.From, f.Group, f.Number}
		m := j.messages[key]
		if m == nil || j.members[f.Group][f.Client] == nil {
			j.v.Stray++
			j.example("stray", "%s at %v: number %d of %s to %s", c, round(f.At), f.Number, f.From, f.Group)
			continue
		}
		by := j.heard[key]
		if by == nil {
			by = map[string]int{}
			j.heard[key] = by
		}
		by[f.Client]++
		if by[f.Client] > 1 {
			j.v.Doubled++
			j.example("doubled", "%s at %v: number %d of %s to %s", c, round(f.At), f.Number, f.From, f.Group)
			continue
		}
		j.v.Delivered++
		if m.nacked {
			j.v.NackedHeard++
			continue // late or not, nobody counts on it
		}
		of := func(at place) *message { // the latest that was heard before
			before := latest[at]
			if before == nil || before.number < m.number {
				latest[at] = m
				return nil
			}
			return before
		}
		any := of(place{f.Conn, m.client, "", f.Group})
		swapped := any != nil && m.acked && m.answered <= any.sent
		if m.conn != "" && of(place{f.Conn, m.client, m.conn, f.Group}) != nil {
			swapped = true
		}
		if swapped {
			j.v.Reordered++
			j.example("reordered", "%s at %v: number %d of %s to %s", c, round(f.At), f.Number, f.From, f.Group)
		}
	}
}

// deliveries looks for every member's messages.
func (j *judge) deliveries() {
	lost := map[string][]*message{} // by connection
	for _, m := range j.ordered {
		if m.group == "" {
			continue
		}
		j.v.Sent++
		switch {
		case m.acked:
			j.v.Acked++
		case m.nacked:
			j.v.Nacked++
		}
		if !m.acked {
			continue
		}
		for client, memberships := range j.members[m.group] {
			if memberships[0].joined > m.sent {
				continue // nothing was due yet
			}
			c := present(memberships, m.sent)
			if c != nil {
				j.dueAt[c.node] = append(j.dueAt[c.node], m.sent)
			}
			switch {
			case j.heard[m.key()][client] > 0:
			case c == nil || c.ended != never:
				j.v.Gap++
			default:
				j.v.Lost++
				if !c.reliable {
					j.v.LostPlain++
				}
				lost[c.id] = append(lost[c.id], m)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		missed := lost[id]
		first, last := missed[0], missed[len(missed)-1]
		j.example("lost", "%s never heard %d; the first is number %d of %s to %s, sent at %v and acked at %v, the last was sent at %v",
			j.conns[id], len(missed), first.number, first.client, first.group, round(first.sent), round(first.answered), round(last.sent))
	}
}

// present returns the connection with which a client was in a group at a time; nil if it had lost the one and had not joined with
// the next.
func present(memberships []membership, at time.Duration) *conn {
	var c *conn
	for _, m := range memberships {
		if m.joined <= at && m.conn.ended > at {
			c = m.conn
		}
	}
	return c
}

// answers looks for what was neither acked nor nacked. A connection whose socket ends may take an answer along.
func (j *judge) answers() {
	var events []time.Duration
	defer func() {
		slices.Sort(events)
		j.v.EventTime = part(events, 0.99)
	}()
	for _, m := range j.ordered {
		if m.group == "" {
			j.v.Events++
			switch {
			case m.acked:
				j.v.EventsAcked++
				events = append(events, m.answered-m.sent)
			case m.nacked:
				j.v.EventsNacked++
			}
		}
		if (m.acked || m.nacked) && m.answered-m.sent <= j.limits.Answer {
			continue
		}
		waited := min(m.answered, j.end) - m.sent
		if waited <= j.limits.Answer {
			continue // it has not waited for long, or was refused at once
		}
		if c := j.conns[m.conn]; c != nil && !c.kept(m.sent, m.sent+j.limits.Answer) {
			continue
		}
		if slices.ContainsFunc(j.stopped[m.node], func(s span) bool { return s.from <= m.sent+j.limits.Answer && s.until >= m.sent }) {
			continue
		}
		if m.group == "" {
			j.v.EventsUnanswered++
			continue
		}
		j.v.Unanswered++
		j.example("unanswered", "number %d of %s to %s (%s), sent at %v, waited %v", m.number, m.client, m.group, m.node, round(m.sent), round(waited))
	}
}

// kept reports whether one socket carried c for a whole time.
func (c *conn) kept(from, until time.Duration) bool {
	return slices.ContainsFunc(c.sockets, func(s span) bool { return s.from <= from && s.until >= until })
}

// lastAlive is the last sign of life that is not later than at.
func (c *conn) lastAlive(at time.Duration) time.Duration {
	n := sort.Search(len(c.alive), func(i int) bool { return c.alive[i] > at })
	if n == 0 {
		return c.opened
	}
	return c.alive[n-1]
}

// disconnected compares what the application was told with which connections ended.
func (j *judge) disconnected() {
	for _, id := range slices.Sorted(maps.Keys(j.conns)) {
		c := j.conns[id]
		if len(c.sockets) == 0 {
			continue // somebody else's
		}
		if n := len(c.told); n > 1 {
			j.v.ToldAgain += n - 1
			j.example("disconnected again", "%s, told at %v", c, c.told)
		}
		switch {
		case c.ended != never && len(c.told) == 0:
			j.v.Untold++
			j.example("disconnected never told", "%s, ended at %v", c, round(c.ended))
		case c.ended != never && c.told[0]-c.lastAlive(c.ended) > j.limits.Told:
			j.v.ToldLate++
			j.example("disconnected late", "%s, last alive at %v, told at %v", c, round(c.lastAlive(c.ended)), round(c.told[0]))
		}
	}
}
