package webpubsub

import (
	"errors"
	"maps"
	"strings"
)

// Permission is what a connection may do with a group.
type Permission uint8

// The permissions of the protocol (auth.md section 4).
const (
	SendToGroup Permission = iota
	JoinLeaveGroup
	permissionCount
)

// String returns the permission as the REST API spells it.
func (p Permission) String() string {
	if p == SendToGroup {
		return "sendToGroup"
	}
	return "joinLeaveGroup"
}

// ParsePermission accepts any letter case.
func ParsePermission(s string) (Permission, bool) {
	for p := range permissionCount {
		if strings.EqualFold(s, p.String()) {
			return p, true
		}
	}
	return 0, false
}

// MaxRules is how many literal groups a connection's permission may name.
const MaxRules = 1000

// Bounds of pattern rules (auth.md section 4).
const (
	maxPatterns     = 9
	maxPatternRunes = 1024
	maxWildcards    = 5
)

// ErrRuleLimit says that a connection already has MaxRules literal rules for a permission.
var ErrRuleLimit = errors.New("the connection already has 1000 groups for this permission; revoke some first")

// Permissions decides what one connection may do: literal grants and denials win over patterns, which win
// over the default. The zero value denies everything. It is not safe for concurrent use.
type Permissions struct {
	all      [permissionCount]bool
	patterns [permissionCount][]pattern
	literal  [permissionCount]map[string]bool
}

// ParseRoles builds the permissions that roles give. Unknown and invalid roles are ignored; ignored counts
// the invalid ones, for the log.
func ParseRoles(roles []string) (p Permissions, ignored int) {
	for _, role := range roles {
		if !p.addRole(role) {
			ignored++
		}
	}
	return p, ignored
}

func (p *Permissions) addRole(role string) bool {
	rest, ok := strings.CutPrefix(role, "webpubsub.")
	if !ok {
		return true
	}
	verb, group, named := strings.Cut(rest, ".")
	for perm := range permissionCount {
		switch {
		case verb == perm.String() && !named:
			p.all[perm] = true
		case verb == perm.String():
			return p.Grant(perm, group) == nil
		case verb == perm.String()+"s" && named:
			return p.addPattern(perm, group)
		}
	}
	return true
}

func (p *Permissions) addPattern(perm Permission, text string) bool {
	pat, err := compilePattern(text)
	if err != nil {
		return false
	}
	if lit, ok := pat.literal(); ok {
		return p.Grant(perm, lit) == nil
	}
	if len(p.patterns[perm]) >= maxPatterns {
		return false
	}
	p.patterns[perm] = append(p.patterns[perm], pat)
	return true
}

// Grant allows perm for the literal group. It returns ErrRuleLimit when there are too many.
func (p *Permissions) Grant(perm Permission, group string) error { return p.set(perm, group, true) }

// Revoke denies perm for the literal group, whatever roles say, until it is granted again.
func (p *Permissions) Revoke(perm Permission, group string) error { return p.set(perm, group, false) }

func (p *Permissions) set(perm Permission, group string, allow bool) error {
	rules := p.literal[perm]
	if rules == nil {
		rules = map[string]bool{}
		p.literal[perm] = rules
	}
	if _, known := rules[group]; !known && len(rules) >= MaxRules {
		return ErrRuleLimit
	}
	rules[group] = allow
	return nil
}

// Allows reports whether perm is held for group.
func (p *Permissions) Allows(perm Permission, group string) bool {
	if allow, ok := p.literal[perm][group]; ok {
		return allow
	}
	if p.all[perm] {
		return true
	}
	for _, pat := range p.patterns[perm] {
		if pat.match(group) {
			return true
		}
	}
	return false
}

// Rules are what Permissions consist of, so that they can be taken to another process.
type Rules struct {
	All      [permissionCount]bool
	Patterns [permissionCount][]string
	Literal  [permissionCount]map[string]bool // groups granted and denied
}

// Rules returns what p consists of.
func (p *Permissions) Rules() Rules {
	r := Rules{All: p.all}
	for perm := range permissionCount {
		for _, pat := range p.patterns[perm] {
			r.Patterns[perm] = append(r.Patterns[perm], pat.String())
		}
		r.Literal[perm] = maps.Clone(p.literal[perm])
	}
	return r
}

// Permissions returns what consists of r; invalid patterns and what exceeds a limit are left out.
func (r Rules) Permissions() Permissions {
	p := Permissions{all: r.All}
	for perm := range permissionCount {
		for _, text := range r.Patterns[perm] {
			p.addPattern(perm, text)
		}
		for group, allow := range r.Literal[perm] {
			_ = p.set(perm, group, allow)
		}
	}
	return p
}
