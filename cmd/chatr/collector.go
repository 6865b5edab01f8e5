package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/chatr-dev/chatr/pkg/memlimit"
)

// The collector runs when there is as much garbage as there is memory in use, which on a small heap is every few
// milliseconds: up to a fifth of what a delivery costs. So the garbage may grow to garbageRoom at least, but not
// beyond mostPercent of what is in use (docs/performance.md).
const (
	garbageRoom  = 64 << 20 // bytes
	leastPercent = 100      // Go's own default
	mostPercent  = 400
)

// paceCollector adapts the collector to the size of the heap until ctx ends. If GOGC is set, it does not. Unless GOMEMLIMIT is set the
// collector also has a limit, below the marks at which a gateway refuses newcomers and ends connections: so what a gateway sees in use is
// not garbage. limit may be nil.
func paceCollector(ctx context.Context, limit *memlimit.Limit) error {
	if limit != nil && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit.Bytes() - 2*limit.Reserve())
	}
	if os.Getenv("GOGC") != "" {
		return nil
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	now := leastPercent
	for {
		metrics.Read(samples)
		var used uint64
		for _, s := range samples {
			used += s.Value.Uint64()
		}
		if p := garbagePercent(used); p < now*4/5 || p > now*5/4 { // setting it stops the world for a moment
			debug.SetGCPercent(p)
			now = p
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// garbagePercent returns GOGC for so many bytes in use.
func garbagePercent(used uint64) int {
	return int(min(max(garbageRoom*100/max(used, 1), leastPercent), mostPercent))
}
