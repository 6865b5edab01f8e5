package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ServiceUser owns the rooms that applications make by REST. Nobody connects as that.
const ServiceUser = "chatr.service"

// Condition says how something has to be to be changed, by entity tags as HTTP has them. The zero Condition is always met.
type Condition struct {
	IfMatch     string // a tag, a list of them, or * for that it exists
	IfNoneMatch string
}

// Check returns ErrCondition unless the condition is met by what has the tag now; "" is for what does not exist.
func (c Condition) Check(tag string) error {
	if c.IfMatch != "" && !matches(c.IfMatch, tag) {
		return fmt.Errorf("%w: If-Match names another state than the one now", ErrCondition)
	}
	if c.IfNoneMatch != "" && matches(c.IfNoneMatch, tag) {
		return fmt.Errorf("%w: If-None-Match names the state now", ErrCondition)
	}
	return nil
}

func matches(list, tag string) bool {
	if tag == "" {
		return false
	}
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry == "*" || strings.TrimPrefix(entry, "W/") == tag {
			return true
		}
	}
	return false
}

// tagOf returns an entity tag: other content, other tag.
func tagOf(content ...any) string {
	text, _ := json.Marshal(content) // strings, numbers, lists of them
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// Tag returns the role's entity tag.
func (r Role) Tag() string { return tagOf(r.Name, r.Permissions) }

// Tag returns the entity tag of a room's own facts.
func (r Room) Tag() string { return tagOf(r.ID, r.Title, r.CreatedAt.UnixMicro()) }

// Tag returns the entity tag of a membership.
func (m Member) Tag() string { return tagOf(m.UserID, m.Role) }

// Tag returns the profile's entity tag.
func (p Profile) Tag() string { return tagOf(p.User.ID, p.User.Name, p.Role) }

// Tag returns the message's entity tag.
func (m Message) Tag() string { return tagOf(m.RoomID, m.Seq, m.AuthorID, m.Text, m.Binary) }

// Profile is a user with the role that holds everywhere.
type Profile struct {
	User User
	Role string
}

// CheckRole returns ErrInvalid, with the reason, unless r can be stored.
func CheckRole(r Role) error {
	if err := CheckRoleName(r.Name); err != nil {
		return err
	}
	kind, _, _ := strings.Cut(r.Name, ".")
	for _, p := range r.Permissions {
		if !slices.Contains(permissions, p) {
			return fmt.Errorf("%w: there is no permission %.50q", ErrInvalid, p)
		}
		if !strings.HasPrefix(string(p), kind+".") {
			return fmt.Errorf("%w: the role %s may only have permissions of its kind, %s…", ErrInvalid, r.Name, kind+".")
		}
	}
	return nil
}

var permissions = []Permission{UserCreateRoom, UserFetchAllRooms, RoomPublishMessage, RoomHistory, RoomInvite, RoomRemoveUser}

// CheckRoleName returns ErrInvalid unless name can be that of a role.
func CheckRoleName(name string) error {
	if err := CheckIDs(name); err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(name, "user.")
	if !ok {
		rest, ok = strings.CutPrefix(name, "room.")
	}
	if !ok || rest == "" {
		return fmt.Errorf("%w: the name of a role begins with user. or room., not %.50q", ErrInvalid, name)
	}
	return nil
}

// BuiltInRole returns the role of that name that is there without being stored.
func BuiltInRole(name string) (Role, bool) {
	r, ok := builtInRoles[name]
	return r, ok
}

// WithBuiltIn returns the stored roles and those built in that none of them replaces, by name.
func WithBuiltIn(stored []Role) []Role {
	all := slices.Clone(stored)
	for name, role := range builtInRoles {
		if !slices.ContainsFunc(stored, func(r Role) bool { return r.Name == name }) {
			all = append(all, role)
		}
	}
	slices.SortFunc(all, func(a, b Role) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Stored is how a store keeps a role's permissions.
func (r Role) Stored() string {
	var list []string
	for _, p := range r.Permissions {
		list = append(list, string(p))
	}
	return strings.Join(list, " ")
}

// errNoRole says that a role cannot be given since it is not there.
func errNoRole(name string) error { return fmt.Errorf("%w: there is no role %.50q", ErrInvalid, name) }

// CheckGiven returns ErrInvalid unless a role of that name and kind, user or room, is there: stored, or built in.
func CheckGiven(name, kind string, stored bool) error {
	if err := CheckRoleName(name); err != nil {
		return err
	}
	if !strings.HasPrefix(name, kind+".") {
		return fmt.Errorf("%w: a role of a %s begins with %s., not %.50q", ErrInvalid, kind, kind, name)
	}
	if _, builtIn := builtInRoles[name]; !builtIn && !stored {
		return errNoRole(name)
	}
	return nil
}
