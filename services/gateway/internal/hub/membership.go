package hub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Joining and leaving happen twice: here at once, so that a caller knows the outcome and the limit of groups holds, and later
// in the connection's writer, between the messages that were delivered before and after. A list exists from the first that
// joins until the writer has removed the last, so that the jobs in a queue always find theirs.

// Why a connection cannot join.
var (
	ErrConnEnded     = errors.New("the connection has ended")
	ErrTooManyGroups = fmt.Errorf("the connection is in %d groups; more are not allowed", MaxGroups)
)

// AddToTopic puts c on the list of its hub's or user's topic, where it stays. The caller does so once for a topic.
func (r *Registry) AddToTopic(c *Conn, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addMember(c, topic, "", false)
}

// Join puts c on the list of a group's topic: messages delivered to it afterwards reach c. joined is false when c
// was in the group already, or cannot join for the reason err.
func (r *Registry) Join(c *Conn, topic, group string) (joined bool, err error) {
	return r.join(c, topic, group, true)
}

// JoinInitial is Join for a group that c is in from its beginning: it is not reported as a membership change.
func (r *Registry) JoinInitial(c *Conn, topic, group string) (joined bool, err error) {
	return r.join(c, topic, group, false)
}

// join is Join; report says whether the owner of the connection is told of the change.
func (r *Registry) join(c *Conn, topic, group string, report bool) (joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, in := c.groups[group]; {
	case c.ended:
		return false, ErrConnEnded
	case in:
		return false, nil
	case c.Frozen():
		return false, ErrHandoff
	case len(c.groups) >= MaxGroups:
		return false, ErrTooManyGroups
	}
	if c.groups == nil {
		c.groups = make(map[string]struct{}, 1)
	}
	c.groups[group] = struct{}{}
	r.addMember(c, topic, group, report)
	return true, nil
}

// addMember puts c on a list, which is made if this is its first member. The caller has mu.
func (r *Registry) addMember(c *Conn, topic, group string, report bool) {
	l := r.lists[topic]
	if l == nil {
		l = &list{topic: topic, group: group, parts: make([]*part, len(r.writers))}
		r.lists[topic] = l
	}
	l.size++
	p := l.parts[c.w.index]
	if p == nil { // its writer sees it with the job
		p = new(part)
		l.parts[c.w.index] = p
	}
	p.size++
	c.w.push(job{op: opJoin, reportJoin: report, list: l, conn: c})
}

// Leave takes c off the list of a group's topic and reports whether it was there. A connection
// that has ended leaves no more; one that is being handed over cannot leave, for the reason err.
func (r *Registry) Leave(c *Conn, topic, group string) (left bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, in := c.groups[group]; !in || c.ended {
		return false, nil
	}
	if c.Frozen() {
		return false, ErrHandoff
	}
	delete(c.groups, group)
	c.w.push(job{op: opLeave, list: r.lists[topic], conn: c})
	return true, nil
}

// Groups returns the groups that c is in, or was in when it ended, in no order.
func (r *Registry) Groups(c *Conn) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(c.groups))
}

// inGroup reports whether c is in the group, as Join and Leave have it: a filter need not wait for the writer.
func (c *Conn) inGroup(group string) bool {
	r := c.w.r
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, in := c.groups[group]
	return in
}

// removeMember lowers the count of members, once its writer has removed one, and drops an empty list.
func (r *Registry) removeMember(l *list, c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.size--
	l.parts[c.w.index].size--
	if l.size == 0 && r.lists[l.topic] == l {
		delete(r.lists, l.topic)
	}
}
