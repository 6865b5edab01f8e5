package histories

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// History is what happens: steps by several people, in this order, each some time after the one before has begun, and what
// goes wrong meanwhile.
type History struct {
	Seed      uint64 // of how long calls take
	Processes int    // of the events service, on one store
	Steps     []Step
	Faults    []Fault
	Outages   []Outage // of real processes
}

// Step is what one device does, when it has done what it did before.
type Step struct {
	After time.Duration // since the step before it began
	By    string        // a device, or "bot"
	Do    Verb
	Room  string // one of the rooms, where the verb needs one
	User  string // whom it is about, where the verb needs somebody
	N     int    // chooses among messages, roles and titles
}

// Verb is what a device, or an application, can do.
type Verb string

// The verbs of devices.
const (
	Say       Verb = "say"
	SayAgain  Verb = "say again" // what the same person has said last, with the same key
	Join      Verb = "join"
	Leave     Verb = "leave"
	Create    Verb = "create"
	Delete    Verb = "delete"
	Open      Verb = "open" // a direct chat
	Accept    Verb = "accept"
	Block     Verb = "block"
	Unblock   Verb = "unblock"
	Read      Verb = "read"
	Idle      Verb = "idle"
	Active    Verb = "active"
	Drop      Verb = "drop"      // the connection
	Connect   Verb = "connect"   // anew
	Reconnect Verb = "reconnect" // both
)

// The verbs of applications; Create and Delete are theirs, too.
const (
	Add        Verb = "add"
	Remove     Verb = "remove"
	GiveRole   Verb = "role"
	ChangeRole Verb = "change role" // what all ordinary members may
	Title      Verb = "title"
	Edit       Verb = "edit"
	Erase      Verb = "erase" // a message
	RemoveUser Verb = "remove user"
	SignOut    Verb = "sign out"
	Kill       Verb = "kill" // process N
)

// Cut is what the network does to a connection, which its client then takes up again if it can. It is for real processes.
const Cut Verb = "cut"

// FaultKind is what goes wrong with a call.
type FaultKind string

// The kinds of fault.
const (
	DieBefore  FaultKind = "die before"  // the process that calls ends, and the call has not been made
	DieAfter   FaultKind = "die after"   // it ends before it has the answer
	FailBefore FaultKind = "fail before" // the call fails, and has done nothing
	FailAfter  FaultKind = "fail after"  // the call fails, and has done what it should
)

// Fault is what goes wrong with a call of a store or a gateway by any process.
type Fault struct {
	Call int  // counted from 1, over all that are ticks, or are not
	Tick bool // one that processes make from time to time by themselves
	Kind FaultKind
	For  int // how many calls after it, of any sort, fail as well
}

// Who there is: two people with two pages each, one with a page of the original, one with a client of the chat protocol.
var (
	devices = []string{"ada1", "ada2", "bob1", "bob2", "eve1", "sdk1"}
	userOf  = map[string]string{
		"ada1": "guest_ada", "ada2": "guest_ada", "bob1": "guest_bob", "bob2": "guest_bob", "eve1": "guest_eve", "sdk1": "sdk",
	}
	users = []string{"guest_ada", "guest_bob", "guest_eve", "sdk"}
)

// Where it can be: "den" is the private room of all, made by sdk, "tea" a public one of ada's and bob's, "club" and "lab" are
// not there in the beginning, and "direct" is that of ada and bob, once it is opened.
var rooms = []string{"den", "tea", "club", "lab", "direct"}

// ids of the rooms; that of a direct one is the server's.
var idOf = map[string]string{"den": "den", "tea": "3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77", "club": "11111111-7d5a-4e9b-9c21-0a4f6d8e1b77", "lab": "lab"}

// cast tells the people and rooms of histories on one store apart. Those of 0 are called as above.
type cast int

// user returns the id of the one who is called so in a history.
func (c cast) user(name string) string {
	if c == 0 || name == "" {
		return name
	}
	return fmt.Sprintf("%s_%d", name, c)
}

// person returns the one who is called so, as the store keeps people.
func (c cast) person(name string) chat.User {
	short := strings.TrimPrefix(name, "guest_")
	return chat.User{ID: c.user(name), Name: strings.ToUpper(short[:1]) + short[1:], Provider: "guest"}
}

func (c cast) room(id string) string {
	switch {
	case c == 0:
		return id
	case strings.Count(id, "-") == 4: // a UUID
		return fmt.Sprintf("%s%06d", id[:len(id)-6], c)
	}
	return fmt.Sprintf("%s_%d", id, c)
}

// has reports whether a user is of this cast.
func (c cast) has(id string) bool {
	return slices.ContainsFunc(users, func(name string) bool { return c.user(name) == id })
}

// draw draws a history.
func draw(seed uint64) History {
	r := rand.New(rand.NewPCG(seed, 10))
	h := History{Seed: seed, Processes: 1 + r.IntN(2)}
	n := 5 + r.IntN(36)
	hurry := []int{20, 200, 2000}[r.IntN(3)] // milliseconds between steps
	for range n {
		s := drawStep(r)
		s.After = time.Duration(r.IntN(hurry)) * time.Millisecond
		h.Steps = append(h.Steps, s)
	}
	faults := []int{0, 1, 1, 1, 2, 3}[r.IntN(6)]
	for range faults {
		f := Fault{Call: 1 + r.IntN(6*n), Tick: r.IntN(8) == 0, Kind: pick(r, DieBefore, DieAfter, DieBefore, DieAfter, FailBefore, FailAfter)}
		if f.Kind == FailBefore || f.Kind == FailAfter {
			f.For = []int{0, 0, 3, 30, 200}[r.IntN(5)]
		}
		h.Faults = append(h.Faults, f)
	}
	slices.SortFunc(h.Faults, func(a, b Fault) int { return a.Call - b.Call })
	return h
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// drawStep draws a step; saying something is the most frequent one.
func drawStep(r *rand.Rand) Step {
	s := Step{By: pick(r, append([]string{"bot", "bot"}, devices...)...), Room: pick(r, append([]string{"den", "tea", "den", "tea"}, rooms...)...), N: r.IntN(4)}
	s.User = pick(r, users...)
	link := []Verb{Drop, Connect, Reconnect}
	switch s.By {
	case "bot":
		s.Do = pick(r, Add, Remove, Add, Remove, GiveRole, GiveRole, ChangeRole, Title, Edit, Edit, Erase, Erase, Create, Delete, RemoveUser, SignOut, Kill)
	case "sdk1":
		s.Do = pick(r, append(link, Say, Say, Say, Say, Say, Add, Add, Remove, Remove, Join, Leave, Create)...)
	case "eve1":
		s.Do = pick(r, append(link, Say, Say, Say, Say, SayAgain, Join, Leave)...)
	default:
		s.Do = pick(r, append(link, Say, Say, Say, Say, Say, Say, SayAgain, SayAgain, Join, Leave, Join, Leave, Create, Delete, Open, Open,
			Accept, Accept, Block, Unblock, Read, Read, Read, Idle, Active)...)
	}
	return s.tidy()
}

// tidy leaves out what the verb does not look at, so that two steps that do the same are the same.
func (s Step) tidy() Step {
	switch s.Do {
	case Drop, Connect, Reconnect, Idle, Active, ChangeRole, Open, Block, Unblock, RemoveUser, SignOut, Kill:
		s.Room = ""
	}
	switch s.Do {
	case Add, Remove, GiveRole, Open, Block, Unblock, RemoveUser, SignOut:
	default:
		s.User = ""
	}
	switch s.Do {
	case GiveRole, ChangeRole, Title, Edit, Erase, Read, Kill:
	default:
		s.N = 0
	}
	return s
}

// GoString writes the history as it is written in Go.
func (h History) GoString() string {
	var b strings.Builder
	fmt.Fprintf(&b, "History{Seed: %d, Processes: %d, Steps: []Step{\n", h.Seed, h.Processes)
	for _, s := range h.Steps {
		fmt.Fprintf(&b, "\t{After: %d * time.Millisecond, By: %q, Do: %q", s.After.Milliseconds(), s.By, string(s.Do))
		if s.Room != "" {
			fmt.Fprintf(&b, ", Room: %q", s.Room)
		}
		if s.User != "" {
			fmt.Fprintf(&b, ", User: %q", s.User)
		}
		if s.N != 0 {
			fmt.Fprintf(&b, ", N: %d", s.N)
		}
		b.WriteString("},\n")
	}
	b.WriteString("}, Faults: []Fault{")
	for i, f := range h.Faults {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "{Call: %d, Kind: %q", f.Call, string(f.Kind))
		if f.Tick {
			b.WriteString(", Tick: true")
		}
		if f.For > 0 {
			fmt.Fprintf(&b, ", For: %d", f.For)
		}
		b.WriteString("}")
	}
	b.WriteString("}")
	if len(h.Outages) > 0 {
		b.WriteString(", Outages: []Outage{")
		for i, o := range h.Outages {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "{At: %d * time.Millisecond, Of: %q, Kind: %q, For: %d * time.Millisecond}", o.At.Milliseconds(), o.Of, string(o.Kind), o.For.Milliseconds())
		}
		b.WriteString("}")
	}
	b.WriteString("}")
	return b.String()
}
