package tenant

import (
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/chatr-dev/chatr/pkg/config"
)

// Static is a Source whose tenants are given, and given anew on reload. It is safe for concurrent use.
type Static struct {
	now atomic.Pointer[index]
}

// index finds tenants. It is not changed once made.
type index struct {
	names    map[string]*Tenant
	hosts    map[string]*Tenant
	suffixes map[string]*Tenant // by what follows the * of "*.suffix"
	fallback *Tenant            // of "*"
}

// NewStatic returns a Source of tenants, or an error that lists everything wrong with them (see Check).
func NewStatic(tenants ...Tenant) (*Static, error) {
	s := new(Static)
	if err := s.Set(tenants...); err != nil {
		return nil, err
	}
	return s, nil
}

// Set replaces all tenants at once. When they are not valid it returns an error and changes nothing.
func (s *Static) Set(tenants ...Tenant) error {
	if err := Check(tenants...); err != nil {
		return err
	}
	x := newIndex()
	for _, t := range tenants {
		x.add(t.clone())
	}
	s.now.Store(x)
	return nil
}

// ByHost returns the tenant of a list that a Host header means, as Source.ByHost does, or nil. The list need not be right.
func ByHost(tenants []Tenant, host string) *Tenant {
	x := newIndex()
	for i := range tenants {
		x.add(&tenants[i])
	}
	var s Static
	s.now.Store(x)
	return s.ByHost(host)
}

func newIndex() *index {
	return &index{names: map[string]*Tenant{}, hosts: map[string]*Tenant{}, suffixes: map[string]*Tenant{}}
}

func (x *index) add(t *Tenant) {
	x.names[t.Name] = t
	for _, host := range t.Hosts {
		host = strings.ToLower(host)
		suffix, wild := strings.CutPrefix(host, "*")
		switch {
		case wild && suffix == "":
			x.fallback = t
		case wild:
			x.suffixes[suffix] = t
		default:
			x.hosts[bareHost(host)] = t
		}
	}
}

// clone returns a copy that shares nothing with t, and has the defaults of what is not set.
func (t Tenant) clone() *Tenant {
	t.Hosts = slices.Clone(t.Hosts)
	t.AcceptedHosts = slices.Clone(t.AcceptedHosts)
	t.Auth.OIDC = slices.Clone(t.Auth.OIDC)
	t.NetworkACLs.PrivateEndpoints = slices.Clone(t.NetworkACLs.PrivateEndpoints)
	t.NetworkACLs.IPRules = slices.Clone(t.NetworkACLs.IPRules)
	t.Upstream = slices.Clone(t.Upstream)
	t.Hubs = slices.Clone(t.Hubs)
	for i := range t.Hubs {
		h := &t.Hubs[i]
		h.Listeners = slices.Clone(h.Listeners)
		h.EventListeners = slices.Clone(h.EventListeners)
		for j := range h.EventListeners {
			h.EventListeners[j].SystemEvents = slices.Clone(h.EventListeners[j].SystemEvents)
		}
		h.Handlers = slices.Clone(h.Handlers)
		for j := range h.Handlers {
			handler := &h.Handlers[j]
			handler.SystemEvents = slices.Clone(handler.SystemEvents)
			handler.PresenceEvents = slices.Clone(handler.PresenceEvents)
			handler.PresenceGroups = slices.Clone(handler.PresenceGroups)
		}
	}
	for i := range t.Hubs {
		t.Hubs[i].askEventsService()
	}
	t.eachHandler(func(h *Handler) {
		if h.BeforePublish.Enabled {
			config.Defaults(&h.BeforePublish)
		}
	})
	return &t
}

// eachHandler calls f with each handler of the tenant's hubs.
func (t *Tenant) eachHandler(f func(*Handler)) {
	for i := range t.Hubs {
		for j := range t.Hubs[i].Handlers {
			f(&t.Hubs[i].Handlers[j])
		}
	}
}

// ByName implements Source.
func (s *Static) ByName(name string) *Tenant {
	if x := s.now.Load(); x != nil {
		return x.names[name]
	}
	return nil
}

// All implements Source.
func (s *Static) All() []*Tenant {
	x := s.now.Load()
	if x == nil {
		return nil
	}
	return slices.Collect(maps.Values(x.names))
}

// ByHost implements Source.
func (s *Static) ByHost(host string) *Tenant {
	x := s.now.Load()
	if x == nil {
		return nil
	}
	host = bareHost(strings.ToLower(host))
	if t := x.hosts[host]; t != nil {
		return t
	}
	for dot := strings.IndexByte(host, '.'); dot >= 0; {
		if t := x.suffixes[host[dot:]]; t != nil && dot > 0 {
			return t
		}
		next := strings.IndexByte(host[dot+1:], '.')
		if next < 0 {
			break
		}
		dot += 1 + next
	}
	return x.fallback
}

// bareHost removes port, brackets and the full stop that may end a name.
func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}
