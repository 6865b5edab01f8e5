// Package facts judges what clients, an application and operators have seen of a platform while something in it failed.
//
// Whoever takes part writes down what it knows at the moment when it knows it: that it has joined, sent, heard, lost its
// socket. Judge is a function of that list alone; it asks nobody and knows no clock. So it is tested by itself, with
// losses, swaps and doubles that are put in by hand.
//
// Package truth (pkg/load) judges load, by the hundred thousand connections and in little memory; it says how much went
// wrong. Here every loss must have a cause: was its client told, did its connection end, what had the application heard
// of it. That takes the whole list.
package facts

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind is what a Fact is about.
type Kind string

// The kinds of facts, with the fields that they have beside At and Kind.
const (
	// Of a connection: Client, Conn.
	Opened    Kind = "opened"    // it is there: Node, Reliable
	Joined    Kind = "joined"    // the server has confirmed it: Group
	Back      Kind = "back"      // the client is in all its groups, on a new connection or on one that it has recovered
	Cut       Kind = "cut"       // its socket has ended: Code, Reason of the close frame; 1006 without one
	Recovered Kind = "recovered" // it goes on on another socket: Node
	Ended     Kind = "ended"     // the client gives it up, and knows that it has missed something: Code, Reason
	Alive     Kind = "alive"     // the server has answered a ping

	// Of a message to a group, sent by a connection or, without Conn, by REST: Client, Conn, Node, Group, Number.
	// Without a Group it is an event for the application. Numbers of a Client and Group rise with the order of sending.
	Sent    Kind = "sent"
	Acked   Kind = "acked"
	Nacked  Kind = "nacked"  // Reason
	Failed  Kind = "failed"  // a request by REST ended without an answer: Reason
	Heard   Kind = "heard"   // by Client on Conn: Group, and From and Number of the message. After the check for repetitions that SDKs make
	Handled Kind = "handled" // the application got the event: Client, Number

	Told  Kind = "told"  // the application got disconnected: Conn
	Asked Kind = "asked" // whether the user of Client is connected, and the answer, Yes or not: Client, Node that was asked, Since when

	Listed Kind = "listed" // who is in a group, which takes an answer of every node, and whether it was said, Yes or not: Node that was asked, Since when, Reason

	// Of a node.
	Ready   Kind = "ready"   // what its readiness says, Yes or not: Node, Reason
	Broken  Kind = "broken"  // from now on it cannot do its work: Node
	Stopped Kind = "stopped" // from now on it does nothing at all, without a word, so that nobody can expect an answer of it: Node
	Mended  Kind = "mended"  // it can again: Node

	Mark Kind = "mark" // what the test does, for people: Reason
)

// Fact is something that somebody has seen.
type Fact struct {
	At       time.Duration `json:"at"` // since the Log began, or any other moment
	Kind     Kind          `json:"kind"`
	Client   string        `json:"client,omitempty"`
	Conn     string        `json:"conn,omitempty"`
	Node     string        `json:"node,omitempty"`
	Group    string        `json:"group,omitempty"`
	From     string        `json:"from,omitempty"`
	Number   int           `json:"number,omitempty"`
	Since    time.Duration `json:"since,omitempty"`
	Code     int           `json:"code,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Reliable bool          `json:"reliable,omitempty"`
	Yes      bool          `json:"yes,omitempty"`
}

// Log is a list of facts in the order in which they were seen. It is safe for concurrent use.
type Log struct {
	began time.Time

	mu    sync.Mutex // guards the following
	facts []Fact
	ended bool
}

// NewLog returns a log that begins now.
func NewLog() *Log { return &Log{began: time.Now()} }

// Add notes a fact that is seen now, and returns the time that it got.
func (l *Log) Add(f Fact) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.At = time.Since(l.began)
	if !l.ended {
		l.facts = append(l.facts, f)
	}
	return f.At
}

// Now is the time that a fact would get.
func (l *Log) Now() time.Duration { return time.Since(l.began) }

// Facts returns what has been seen so far. It must not be changed.
func (l *Log) Facts() []Fact {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.facts[:len(l.facts):len(l.facts)]
}

// End closes the list: what comes later, while everything is taken down, is nobody's fault.
func (l *Log) End() []Fact {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	return l.facts
}

// Write writes facts as JSON, one a line.
func Write(w io.Writer, facts []Fact) error {
	enc := json.NewEncoder(w)
	for _, f := range facts {
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("write the facts: %w", err)
		}
	}
	return nil
}
