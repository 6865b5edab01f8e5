package events

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// BenchmarkTyping has 200 people type in 20 rooms. Each says so every three seconds: 67 times a second in all, of which three
// in each room are told to those who look.
func BenchmarkTyping(b *testing.B) {
	w := newWorld(b, Config{EventsPerSecond: 1 << 20})
	var people []*conn
	for i := range 200 {
		c := w.open(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i))
		room := fmt.Sprintf("room%d", i/10)
		if i%10 == 0 {
			c.mustInvoke("chat.createRoom", object{"title": "T", "roomId": room})
		} else {
			w.mustRequest(http.StatusCreated, "PUT", "rooms/"+room+"/members/"+c.user, object{"roleName": "room.member"})
		}
		c.must("lookAt", object{"chatId": room, "looking": true})
		people = append(people, c)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		c := people[i%len(people)]
		group := telling.TypingGroup(fmt.Sprintf("room%d", i%len(people)/10))
		if got := c.publish(group, cloudevents.TypeJSON, `{"typing":true}`, "").Code; got != http.StatusAccepted {
			b.Fatalf("got %d, want it taken", got)
		}
	}
}
