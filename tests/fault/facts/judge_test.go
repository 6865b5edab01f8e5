package facts

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// clients of the tests: two plain ones and two reliable ones on two nodes, all in one group.
var clients = []struct {
	name, node string
	reliable   bool
}{{"ana", "n1", false}, {"ben", "n1", true}, {"cem", "n2", false}, {"dora", "n2", true}}

const (
	sends  = 200
	each   = 100 * ms // between two sends
	begins = 500 * ms // the first send
)

// peace is a run in which nothing fails: everybody sends in turn, everybody hears everything, and nodes are ready.
func peace() []Fact {
	var list []Fact
	for i, c := range clients {
		at := time.Duration(i) * ms
		list = append(list,
			Fact{At: at, Kind: Opened, Client: c.name, Conn: c.name + "-1", Node: c.node, Reliable: c.reliable},
			Fact{At: at, Kind: Joined, Client: c.name, Conn: c.name + "-1", Group: "g"},
			Fact{At: at, Kind: Back, Client: c.name})
	}
	for n := range sends {
		at := begins + time.Duration(n)*each
		from := clients[n%len(clients)]
		list = append(list, Fact{At: at, Kind: Sent, Client: from.name, Conn: from.name + "-1", Node: from.node, Group: "g", Number: n})
		for _, c := range clients {
			list = append(list, Fact{At: at + ms, Kind: Heard, Client: c.name, Conn: c.name + "-1", Group: "g", From: from.name, Number: n})
		}
		list = append(list, Fact{At: at + 2*ms, Kind: Acked, Client: from.name, Conn: from.name + "-1", Group: "g", Number: n},
			Fact{At: at + 3*ms, Kind: Ready, Node: "n1", Yes: true}, Fact{At: at + 3*ms, Kind: Ready, Node: "n2", Yes: true},
			Fact{At: at + 5*ms, Kind: Asked, Client: clients[(n+1)%len(clients)].name, Node: "n1", Since: at + 4*ms, Yes: true},
			Fact{At: at + 6*ms, Kind: Sent, Client: from.name, Conn: from.name + "-1", Node: from.node, Number: n},
			Fact{At: at + 7*ms, Kind: Handled, Client: from.name, Number: n},
			Fact{At: at + 8*ms, Kind: Acked, Client: from.name, Conn: from.name + "-1", Number: n})
	}
	return list
}

// at is the index of the first fact that holds.
func at(t *testing.T, list []Fact, holds func(Fact) bool) int {
	t.Helper()
	i := slices.IndexFunc(list, holds)
	if i < 0 {
		t.Fatal("no such fact")
	}
	return i
}

func heard(by string, n int) func(Fact) bool {
	return func(f Fact) bool { return f.Kind == Heard && f.Client == by && f.Number == n }
}

func drop(t *testing.T, list []Fact, holds func(Fact) bool) []Fact {
	t.Helper()
	at(t, list, holds)
	return slices.DeleteFunc(list, holds)
}

// in puts facts where their time is.
func in(list []Fact, more ...Fact) []Fact {
	list = append(list, more...)
	slices.SortStableFunc(list, func(a, b Fact) int { return int(a.At - b.At) })
	return list
}

// later is a time between two sends, after that many.
func later(n int) time.Duration { return begins + time.Duration(n)*each - 10*ms }

// Each row spoils the peace in one way, and says all that must be found.
func TestJudge(t *testing.T) {
	quiet := Verdict{Sent: sends, Acked: sends, Delivered: 4 * sends, Events: sends, EventsAcked: sends, EventTime: 2 * ms}
	with := func(change func(*Verdict)) Verdict {
		v := quiet
		change(&v)
		return v
	}
	// gone ends cem's connection after 100 sends and gives him another one after 120.
	gone := func(t *testing.T, list []Fact, code int, reason string, told ...time.Duration) []Fact {
		list = drop(t, list, func(f Fact) bool {
			return (f.Client == "cem" || f.Kind == Heard && f.From == "cem") && f.At > later(100) || f.Kind == Asked && f.Client == "cem"
		})
		more := []Fact{
			{At: later(100), Kind: Cut, Client: "cem", Conn: "cem-1", Code: code, Reason: reason},
			{At: later(100), Kind: Ended, Client: "cem", Conn: "cem-1", Code: code, Reason: reason},
			{At: later(120), Kind: Opened, Client: "cem", Conn: "cem-2", Node: "n1"},
			{At: later(120), Kind: Joined, Client: "cem", Conn: "cem-2", Group: "g"},
			{At: later(120), Kind: Back, Client: "cem"},
		}
		for _, at := range told {
			more = append(more, Fact{At: at, Kind: Told, Conn: "cem-1"})
		}
		for n := 120; n < sends; n++ {
			if clients[n%4].name != "cem" {
				more = append(more, Fact{At: begins + time.Duration(n)*each + ms, Kind: Heard, Client: "cem", Conn: "cem-2", Group: "g", From: clients[n%4].name, Number: n})
			}
		}
		return in(list, more...)
	}
	// cem has sent every fourth message and event, and heard 180 of 200; 25 of those that he would have sent are not there.
	ended := func(change func(*Verdict)) Verdict {
		v := Verdict{Sent: 175, Acked: 175, Delivered: 4*175 - 15, Gap: 15, Events: 175, EventsAcked: 175, EventTime: 2 * ms, EndedPlain: 1, Recovery: []time.Duration{20 * each}}
		if change != nil {
			change(&v)
		}
		return v
	}
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, list []Fact) []Fact
		want  Verdict
		says  string
	}{
		{"peace", func(_ *testing.T, l []Fact) []Fact { return l }, quiet, ""},
		{"a plain client misses one", func(t *testing.T, l []Fact) []Fact { return drop(t, l, heard("cem", 50)) },
			with(func(v *Verdict) { v.Delivered--; v.Lost, v.LostPlain = 1, 1 }), "lost: cem (plain, n2, cem-1) never heard 1; the first is number 50 of cem to g"},
		{"a reliable one misses three", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool { return heard("ben", f.Number)(f) && f.Number < 3 })
		}, with(func(v *Verdict) { v.Delivered -= 3; v.Lost = 3 }), "lost: ben"},
		{"nobody hears one", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool { return f.Kind == Heard && f.Number == 7 })
		}, with(func(v *Verdict) { v.Delivered -= 4; v.Lost, v.LostPlain = 4, 2 }), "lost: ana"},
		{"the last is missing", func(t *testing.T, l []Fact) []Fact { return drop(t, l, heard("dora", sends-1)) },
			with(func(v *Verdict) { v.Delivered--; v.Lost = 1 }), "lost: dora"},
		{"one that nobody heard was nacked", func(t *testing.T, l []Fact) []Fact {
			l = drop(t, l, func(f Fact) bool { return f.Kind == Heard && f.Number == 7 })
			l[at(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })].Kind = Nacked
			return l
		}, with(func(v *Verdict) { v.Delivered -= 4; v.Acked, v.Nacked = sends-1, 1 }), ""},
		{"one that was nacked was heard", func(t *testing.T, l []Fact) []Fact {
			l[at(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })].Kind = Nacked
			return l
		}, with(func(v *Verdict) { v.Acked, v.Nacked, v.NackedHeard = sends-1, 1, 4 }), ""},
		{"one has no answer", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })
		}, with(func(v *Verdict) { v.Acked, v.Unanswered = sends-1, 1 }), "unanswered: number 7 of dora to g"},
		{"an answer comes after twelve seconds", func(t *testing.T, l []Fact) []Fact {
			l[at(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })].At += 12 * time.Second
			return in(l)
		}, with(func(v *Verdict) { v.Unanswered = 1 }), "unanswered: number 7"},
		{"one has no answer of a node that has stopped", func(t *testing.T, l []Fact) []Fact {
			l = drop(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })
			return in(l, Fact{At: later(6), Kind: Stopped, Node: "n2"}, Fact{At: later(9), Kind: Mended, Node: "n2"})
		}, with(func(v *Verdict) { v.Acked = sends - 1 }), ""},
		{"one has no answer of a node that had stopped before", func(t *testing.T, l []Fact) []Fact {
			l = drop(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "g" && f.Number == 7 })
			return in(l, Fact{At: later(3), Kind: Stopped, Node: "n2"}, Fact{At: later(5), Kind: Mended, Node: "n2"})
		}, with(func(v *Verdict) { v.Acked, v.Unanswered = sends-1, 1 }), "unanswered: number 7"},
		{"an event has no answer", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool { return f.Kind == Acked && f.Group == "" && f.Number == 7 })
		}, with(func(v *Verdict) { v.EventsAcked, v.EventsUnanswered = sends-1, 1 }), ""},
		{"three events are slow", func(_ *testing.T, l []Fact) []Fact {
			for i, f := range l {
				if f.Kind == Acked && f.Group == "" && f.Number < 3 {
					l[i].At += 9 * time.Second
				}
			}
			return in(l)
		}, with(func(v *Verdict) { v.EventTime = 9*time.Second + 2*ms }), ""},
		{"an event is handled twice", func(_ *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Handled, Client: "ana", Number: 4})
		}, with(func(v *Verdict) { v.EventsAgain = 1 }), "event handled again: ana's number 4"},
		{"one is heard twice", func(t *testing.T, l []Fact) []Fact {
			i := at(t, l, heard("ben", 50))
			return slices.Insert(l, i+1, l[i])
		}, with(func(v *Verdict) { v.Doubled = 1 }), "doubled: ben"},
		{"one is heard again, much later and on the next connection", func(t *testing.T, l []Fact) []Fact {
			again := l[at(t, l, heard("cem", 50))]
			again.At, again.Conn = later(150), "cem-2"
			return in(gone(t, l, 1006, "", later(101)), again)
		}, ended(func(v *Verdict) { v.Doubled = 1 }), "doubled: cem"},
		{"two of one sender change places", func(t *testing.T, l []Fact) []Fact {
			i, k := at(t, l, heard("ben", 50)), at(t, l, heard("ben", 54))
			l[i].Number, l[k].Number = 54, 50
			return l
		}, with(func(v *Verdict) { v.Reordered = 1 }), "reordered: ben"},
		{"two of different senders change places", func(t *testing.T, l []Fact) []Fact {
			i, k := at(t, l, heard("ben", 50)), at(t, l, heard("ben", 51))
			l[i], l[k] = l[k], l[i]
			l[i].At, l[k].At = l[k].At, l[i].At
			return l
		}, quiet, ""},
		{"two by REST change places, the first of which was answered before the second was sent", func(t *testing.T, l []Fact) []Fact {
			for i := range l {
				if l[i].Kind == Sent && l[i].Client == "cem" {
					l[i].Conn = ""
				}
			}
			i, k := at(t, l, heard("ben", 50)), at(t, l, heard("ben", 54))
			l[i].Number, l[k].Number = 54, 50
			return l
		}, with(func(v *Verdict) { v.Reordered = 1 }), "reordered: ben"},
		{"two by REST change places that were under way together", func(t *testing.T, l []Fact) []Fact {
			for i := range l {
				if l[i].Kind == Sent && l[i].Client == "cem" {
					l[i].Conn = ""
				}
				if l[i].Kind == Acked && l[i].Client == "cem" && l[i].Number == 50 {
					l[i].At += 5 * each
				}
			}
			i, k := at(t, l, heard("ben", 50)), at(t, l, heard("ben", 54))
			l[i].Number, l[k].Number = 54, 50
			return in(l)
		}, quiet, ""},
		{"one was never sent", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Heard, Client: "ana", Conn: "ana-1", Group: "g", From: "cem", Number: 5000})
		}, with(func(v *Verdict) { v.Stray = 1 }), "stray: ana"},
		{"one is heard in a group that was not asked for", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Sent, Client: "cem", Conn: "cem-1", Node: "n2", Group: "h", Number: 1},
				Fact{At: later(100), Kind: Heard, Client: "ana", Conn: "ana-1", Group: "h", From: "cem", Number: 1},
				Fact{At: later(100), Kind: Acked, Client: "cem", Conn: "cem-1", Group: "h", Number: 1})
		}, with(func(v *Verdict) { v.Stray = 1; v.Sent++; v.Acked++ }), "stray: ana"},
		{"a connection ends and the next takes its place", func(t *testing.T, l []Fact) []Fact { return gone(t, l, 1006, "", later(101)) },
			ended(nil), "ended: cem"},
		{"it is told that something is missing", func(t *testing.T, l []Fact) []Fact { return gone(t, l, 1008, "missed", later(101)) },
			ended(func(v *Verdict) { v.ToldMissed = 1 }), "ended: cem"},
		{"it misses one after the next has joined", func(t *testing.T, l []Fact) []Fact {
			return drop(t, gone(t, l, 1006, "", later(101)), heard("cem", 151))
		}, ended(func(v *Verdict) { v.Delivered--; v.Lost, v.LostPlain = 1, 1 }), "lost: cem (plain, n1, cem-2)"},
		{"it misses one long before the end", func(t *testing.T, l []Fact) []Fact {
			return drop(t, gone(t, l, 1006, "", later(101)), heard("cem", 51))
		}, ended(func(v *Verdict) { v.Delivered--; v.Gap++ }), ""},
		{"it does not come back", func(t *testing.T, l []Fact) []Fact {
			return drop(t, gone(t, l, 1006, "", later(101)), func(f Fact) bool { return f.Conn == "cem-2" || f.Kind == Back && f.Client == "cem" && f.At > 0 })
		}, ended(func(v *Verdict) { v.Recovery, v.NotBack = nil, []string{"cem"}; v.Gap += 60; v.Delivered -= 60 }), "not back: cem"},
		{"disconnected is not told", func(t *testing.T, l []Fact) []Fact { return gone(t, l, 1006, "") },
			ended(func(v *Verdict) { v.Untold = 1 }), "disconnected never told: cem"},
		{"disconnected is told twice", func(t *testing.T, l []Fact) []Fact { return gone(t, l, 1006, "", later(101), later(150)) },
			ended(func(v *Verdict) { v.ToldAgain = 1 }), "disconnected again: cem"},
		{"disconnected is told late", func(t *testing.T, l []Fact) []Fact {
			l = gone(t, l, 1006, "")
			return in(l, Fact{At: later(100) + 16*time.Second, Kind: Told, Conn: "cem-1"})
		}, ended(func(v *Verdict) { v.ToldLate = 1 }), "disconnected late: cem"},
		{"disconnected is told of somebody who goes on", func(_ *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Told, Conn: "cem-1"})
		}, with(func(v *Verdict) { v.FalseOff = 1 }), "false offline: cem"},
		{"somebody who is there is called offline, twice", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Asked, Client: "cem", Since: later(100) - ms, Node: "n1"},
				Fact{At: later(110), Kind: Asked, Client: "cem", Since: later(110) - ms, Node: "n1"})
		}, with(func(v *Verdict) { v.FalseOff = 1 }), "false offline: cem"},
		{"somebody whose socket is just ending is called offline", func(t *testing.T, l []Fact) []Fact {
			return in(gone(t, l, 1006, "", later(101)), Fact{At: later(99), Kind: Asked, Client: "cem", Since: later(99) - ms, Node: "n1"})
		}, ended(nil), ""},
		{"somebody who is not there is called offline", func(t *testing.T, l []Fact) []Fact {
			return in(gone(t, l, 1006, "", later(101)), Fact{At: later(110), Kind: Asked, Client: "cem", Since: later(110) - ms, Node: "n1"})
		}, ended(nil), ""},
		{"a connection is recovered", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Cut, Client: "dora", Conn: "dora-1", Code: 1006},
				Fact{At: later(100) + 3*ms, Kind: Asked, Client: "dora", Since: later(100) + 2*ms, Node: "n1"},
				Fact{At: later(100) + 5*ms, Kind: Recovered, Client: "dora", Conn: "dora-1", Node: "n1"},
				Fact{At: later(100) + 5*ms, Kind: Back, Client: "dora"})
		}, with(func(v *Verdict) { v.RecoveredConns, v.Recovery = 1, []time.Duration{5 * ms} }), ""},
		{"a recovered connection misses one", func(t *testing.T, l []Fact) []Fact {
			return in(drop(t, l, heard("dora", 100)), Fact{At: later(100), Kind: Cut, Client: "dora", Conn: "dora-1", Code: 1006},
				Fact{At: later(101), Kind: Recovered, Client: "dora", Conn: "dora-1", Node: "n1"},
				Fact{At: later(101), Kind: Back, Client: "dora"})
		}, with(func(v *Verdict) { v.Delivered--; v.Lost, v.RecoveredConns, v.Recovery = 1, 1, []time.Duration{each} }), "lost: dora"},
		{"a node is ready and acks nothing", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool {
				return f.Kind == Acked && f.Group == "g" && (f.Client == "cem" || f.Client == "dora") && f.At > later(100) && f.At < later(180)
			})
		}, with(func(v *Verdict) { v.Acked -= 40; v.Unanswered = 0; v.ReadyLies = 23 }), "ready: n2"},
		{"a node is ready and its connections hear nothing", func(t *testing.T, l []Fact) []Fact {
			return drop(t, l, func(f Fact) bool {
				return f.Kind == Heard && (f.Client == "cem" || f.Client == "dora") && f.At > later(100) && f.At < later(180)
			})
		}, with(func(v *Verdict) { v.Delivered -= 160; v.Lost, v.LostPlain = 160, 80; v.ReadyLies = 21 }), "its connections hear nothing"},
		{"a node is ready although it is broken", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(100), Kind: Broken, Node: "n2"}, Fact{At: later(170), Kind: Mended, Node: "n2"})
		}, with(func(v *Verdict) { v.ReadyLies = 20 }), "it cannot do its work"},
		{"a broken node says so after a while", func(t *testing.T, l []Fact) []Fact {
			for i, f := range l {
				if f.Kind == Ready && f.Node == "n2" && f.At > later(140) && f.At < later(180) {
					l[i].Yes = false
				}
			}
			return in(l, Fact{At: later(100), Kind: Broken, Node: "n2"}, Fact{At: later(170), Kind: Mended, Node: "n2"})
		}, quiet, ""},
		{"a node is ready again and has not done much yet", func(t *testing.T, l []Fact) []Fact {
			l = drop(t, l, func(f Fact) bool {
				return f.Kind == Heard && (f.Client == "cem" || f.Client == "dora") && f.At > later(100) && f.At < later(180)
			})
			for i, f := range l {
				if f.Kind == Ready && f.Node == "n2" && f.At > later(140) && f.At < later(170) {
					l[i].Yes = false
				}
			}
			return l
		}, with(func(v *Verdict) { v.Delivered -= 160; v.Lost, v.LostPlain = 160, 80 }), "lost"},
		{"a list waits for a node that has stopped", func(_ *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(20), Kind: Stopped, Node: "n2"}, Fact{At: later(190), Kind: Mended, Node: "n2"},
				Fact{At: later(30), Kind: Listed, Node: "n1", Since: later(29), Reason: "it has just stopped"},
				Fact{At: later(180), Kind: Listed, Node: "n1", Since: later(179), Reason: "no answer"},
				Fact{At: later(180), Kind: Listed, Node: "n2", Since: later(179), Reason: "it has stopped itself"},
				Fact{At: later(180), Kind: Listed, Node: "n1", Since: later(179), Yes: true},
				Fact{At: later(198), Kind: Listed, Node: "n1", Since: later(197), Reason: "for some other reason"})
		}, with(func(v *Verdict) { v.ListsRefused = 1 }), "list: n1 asked at 18.39s, while n2 had stopped: no answer"},
		{"a node does not get ready again", func(t *testing.T, l []Fact) []Fact {
			return in(l, Fact{At: later(sends), Kind: Ready, Node: "n2", Reason: "bus"})
		}, with(func(v *Verdict) { v.Unready = []string{"n2"} }), "not ready in the end: n2: bus"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.spoil(t, peace()), Limits{})
			examples := strings.Join(got.Examples, "\n")
			got.Examples = nil
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v\n%s", got, tt.want, examples)
			}
			if !strings.Contains(examples, tt.says) || tt.says == "" && reflect.DeepEqual(tt.want, quiet) && examples != "" {
				t.Errorf("examples: got %q, want %q", examples, tt.says)
			}
		})
	}
}

// A connection that was unanswered when its socket ended may be so for ever.
func TestAnswersEndWithTheirSocket(t *testing.T) {
	list := []Fact{
		{Kind: Opened, Client: "ana", Conn: "a"}, {Kind: Joined, Client: "ana", Conn: "a", Group: "g"},
		{At: time.Second, Kind: Sent, Client: "ana", Conn: "a", Group: "g", Number: 1},
		{At: 5 * time.Second, Kind: Cut, Client: "ana", Conn: "a"},
		{At: time.Minute, Kind: Ready, Node: "n", Yes: true},
	}
	if v := Judge(list, Limits{}); v.Unanswered != 0 {
		t.Errorf("got %d unanswered, want 0", v.Unanswered)
	}
	list[3].At = 12 * time.Second
	if v := Judge(list, Limits{}); v.Unanswered != 1 {
		t.Errorf("with a socket that lasts: got %d unanswered, want 1", v.Unanswered)
	}
}

func TestRecoveryTimes(t *testing.T) {
	v := Verdict{}
	if v.P50() != 0 || v.Max() != 0 {
		t.Errorf("without any: got %v and %v, want 0", v.P50(), v.Max())
	}
	for i := range 11 {
		v.Recovery = append(v.Recovery, time.Duration(i)*time.Second)
	}
	if got := fmt.Sprint(v.P50(), v.Max()); got != "5s 10s" {
		t.Errorf("got %s, want 5s 10s", got)
	}
}
