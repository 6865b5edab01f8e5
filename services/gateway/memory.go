package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// freeAfter is how many handshakes leave enough behind to be worth a collection.
const freeAfter = 1000

// freeMemory gives the memory back that a storm of handshakes has used, once none has come for a second. A node whose
// connections idle allocates next to nothing: left alone, the collector would keep what the handshakes left for minutes.
func (g *Gateway) freeMemory(ctx context.Context) error {
	var storm storm
	return every(ctx, time.Second, func() {
		if storm.over(g.admission.Begun()) {
			debug.FreeOSMemory()
		}
	})
}

// storm watches a count of handshakes.
type storm struct {
	last  int64 // the count when it was looked at last
	freed int64 // the count when the last storm was over
}

// over reports whether many handshakes have come and none since it was asked last.
func (s *storm) over(count int64) bool {
	quiet := count == s.last
	s.last = count
	if !quiet || count-s.freed < freeAfter {
		return false
	}
	s.freed = count
	return true
}
