package chat

import (
	"encoding/json"
	"testing"
	"time"
)

// TestWire holds the form that clients rely on: what a kind does not have is left out, times have milliseconds.
func TestWire(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		event Event
		want  string
	}{
		{Event{RoomID: "r", Number: 7, Kind: EventMessage, UserID: "u", UserName: "U", Seq: 3, At: at, Connection: "c", Message: &Message{Text: "hi", Key: "k", Ref: 1}},
			`{"roomId":"r","number":7,"kind":"message","userId":"u","userName":"U","seq":3,"text":"hi","key":"k","ref":1,"at":"2026-01-02T02:04:05.000Z"}`},
		{Event{RoomID: "r", Number: 8, Kind: EventTitle, UserID: "u", Title: "T", At: at}, `{"roomId":"r","number":8,"kind":"title","userId":"u","title":"T","at":"2026-01-02T02:04:05.000Z"}`},
		{Event{RoomID: "r", Number: 9, Kind: EventMessage, UserID: "u", Seq: 4, At: at}, `{"roomId":"r","number":9,"kind":"message","userId":"u","seq":4,"at":"2026-01-02T02:04:05.000Z"}`},
	} {
		got, err := json.Marshal(tt.event.Wire())
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v; want %s", got, err, tt.want)
		}
	}
}
