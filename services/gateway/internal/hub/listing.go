package hub

import (
	"slices"
	"strings"
)

// PendingList is a list that was asked for: called, it waits for the writers to answer and returns the connections that were on
// the list when it was asked for, in no order. It is called once.
type PendingList func() []*Conn

// List asks which connections are on the list of a topic at this moment, after all messages that have been delivered to it and
// before those that will be.
func (r *Registry) List(topic string) PendingList {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l := r.lists[topic]
	answers := make([]chan []*Conn, len(r.writers))
	if l != nil {
		for i, w := range r.writers {
			if p := l.parts[i]; p != nil && p.size > 0 {
				answers[i] = make(chan []*Conn, 1)
				w.push(job{op: opList, list: l, extra: answers[i]})
			}
		}
	}
	return func() (conns []*Conn) {
		for i, answer := range answers {
			if answer != nil {
				select {
				case part := <-answer:
					conns = append(conns, part...)
				case <-r.writers[i].done:
				}
			}
		}
		return conns
	}
}

// Members returns up to limit of the listed connections with ids greater than after, by id.
func (r *Registry) Members(listed PendingList, after string, limit int) []*Conn {
	members := slices.DeleteFunc(listed(), func(c *Conn) bool { return c.ID <= after })
	slices.SortFunc(members, func(a, b *Conn) int { return strings.Compare(a.ID, b.ID) })
	return members[:min(limit, len(members))]
}

// Select returns those of the listed connections that selected is for, in no order.
func (r *Registry) Select(listed PendingList, selected *Message) []*Conn {
	return slices.DeleteFunc(listed(), func(c *Conn) bool { return selected.excludes(c) })
}
