package chat

// MayRead says whether a user may read what is said in a room.
func (m Membership) MayRead() bool { return m.In && m.Role.Allows(RoomHistory) }
