package chat

import (
	"slices"
	"strings"
)

// Permission is something that a role allows (chat-preview.md section 5).
type Permission string

// The permissions there are. Those of users hold everywhere, those of rooms in the room where one has the role.
const (
	UserCreateRoom    Permission = "user.create_room"
	UserFetchAllRooms Permission = "user.fetch_all_rooms"

	RoomPublishMessage Permission = "room.publish_message"
	RoomHistory        Permission = "room.history"
	RoomInvite         Permission = "room.invite"
	RoomRemoveUser     Permission = "room.remove_user"
)

// Names of the roles that are there without anybody having made them. A stored role of the same name replaces one.
const (
	RoleUser     = "user.normal"
	RoleMember   = "room.member"
	RoleOperator = "room.operator" // of a room's owner, unless another was given
)

// Role is a named set of permissions, all of users or all of rooms, as its name says.
type Role struct {
	Name        string
	Permissions []Permission
}

// Allows reports whether the role has a permission.
func (r Role) Allows(p Permission) bool { return slices.Contains(r.Permissions, p) }

var builtInRoles = map[string]Role{
	RoleUser:     {RoleUser, []Permission{UserCreateRoom, UserFetchAllRooms}},
	RoleMember:   {RoleMember, []Permission{RoomPublishMessage, RoomHistory, RoomInvite}},
	RoleOperator: {RoleOperator, []Permission{RoomPublishMessage, RoomHistory, RoomInvite, RoomRemoveUser}},
}

// StoredRole returns the role of a name whose permissions a store has, or nil; then it is a built-in one, or allows
// nothing.
func StoredRole(name string, permissions *string) Role {
	if permissions == nil {
		role := builtInRoles[name]
		return Role{name, role.Permissions}
	}
	role := Role{Name: name, Permissions: []Permission{}}
	for _, p := range strings.Fields(*permissions) {
		role.Permissions = append(role.Permissions, Permission(p))
	}
	return role
}

// MaySpeak says whether a member who has a role may say something in a room; blocked says of a direct room that one of
// the two has blocked the other.
func MaySpeak(role Role, blocked bool) bool { return role.Allows(RoomPublishMessage) && !blocked }
