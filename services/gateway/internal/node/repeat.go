package node

import (
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// A message that may come twice has a mark as the last of those who are not meant: no connection has such an id, so nodes of the
// version before, which do not know it, take it for one that they do not have.
const (
	firstMark = "\x00first:"
	againMark = "\x00again:"
)

// A node remembers which of them it has heard for repeatTime at least, unless there are more than maxRepeats: the oldest are then
// forgotten.
const (
	repeatTime = 6 * time.Minute
	maxRepeats = 1 << 16
)

// repeatMark returns the mark of a message.
func repeatMark(id string, again bool) string {
	if again {
		return againMark + id
	}
	return firstMark + id
}

// isRepeatable reports whether o has a mark.
func isRepeatable(o *wire.Order) bool {
	return len(o.Except) > 0 && strings.HasPrefix(o.Except[len(o.Except)-1], firstMark[:1])
}

// repeats are messages that have been heard and may come twice. The zero value is none. It is safe for concurrent use.
type repeats struct {
	mu      sync.Mutex         // guards the following
	recent  map[string]heardAs // by their ids
	before  map[string]heardAs // of the time before recent
	changed time.Time          // when recent was begun
}

// heardAs says as what a message has been heard.
type heardAs struct{ first, again bool }

// heard notes a message of that mark, and reports whether it has been heard before. One that is no mark has not. The first of a
// message is refused only after one that was sent again, which it may come later than: whoever reads up what was published gets it as
// often as it reads it.
func (r *repeats) heard(mark string, now time.Time) bool {
	id, first := strings.CutPrefix(mark, firstMark)
	if !first {
		var again bool
		if id, again = strings.CutPrefix(mark, againMark); !again {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recent == nil || len(r.recent) >= maxRepeats || now.Sub(r.changed) >= repeatTime {
		r.recent, r.before, r.changed = map[string]heardAs{}, r.recent, now
	}
	known, ok := r.recent[id]
	if !ok {
		known = r.before[id]
	}
	r.recent[id] = heardAs{known.first || first, known.again || !first}
	return known.again || known.first && !first
}
