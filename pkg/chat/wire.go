package chat

import "time"

// WireEvent is an event as clients get it, live, by REST and when they catch up: the same in each. Members that say nothing
// of an event's kind are left out.
type WireEvent struct {
	RoomID   string    `json:"roomId"`
	Number   int64     `json:"number"`
	Kind     EventKind `json:"kind"`
	UserID   string    `json:"userId,omitempty"`
	UserName string    `json:"userName,omitempty"`
	Seq      int64     `json:"seq,omitempty"`
	Text     string    `json:"text,omitempty"`
	Binary   string    `json:"binary,omitempty"` // base64
	Key      string    `json:"key,omitempty"`
	Ref      int64     `json:"ref,omitempty"` // Seq of the message that this one is about
	Title    string    `json:"title,omitempty"`
	Role     string    `json:"role,omitempty"`
	At       string    `json:"at"` // WireTime
}

// Wire returns the event as clients get it.
func (e Event) Wire() WireEvent {
	w := WireEvent{
		RoomID: e.RoomID, Number: e.Number, Kind: e.Kind, UserID: e.UserID, UserName: e.UserName, Seq: e.Seq,
		Title: e.Title, Role: e.Role, At: WireTime(e.At),
	}
	if m := e.Message; m != nil {
		w.Text, w.Binary, w.Key, w.Ref = m.Text, m.Binary, m.Key, m.Ref
	}
	return w
}

// WireTime writes a time as clients get it: RFC 3339 in UTC, with milliseconds always, which the official clients'
// languages all read.
func WireTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
