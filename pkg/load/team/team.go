// Package team lets several processes, on one machine or many, carry out one load scenario together.
//
// A coordinator waits until as many workers as it wants have come and gives each its share of the one plan; members of a
// group may be in different workers. All count time from the same moment, on clocks whose difference from the
// coordinator's is measured, begin the load at the same moment, and wait for each other at its end. Then each learns
// through the coordinator what the others have sent, judges what its own connections got, and reports; the coordinator
// adds up. A worker that breaks off before the load has begun ends the run. One that breaks off, falls silent or hangs
// later is missing in the result, by name and reason.
//
// Workers need nothing but the same build of Chatr, the coordinator's address, and the key that signs tokens, unless the
// clients are people who sign in; the key never travels. The coordinator trusts whoever reaches it, so it belongs on a
// private network.
package team

import (
	"time"

	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

const (
	comeTime    = 5 * time.Minute // that workers may take to come
	finishTime  = 2 * time.Minute // beyond the scenario's own times that they may take to finish
	retryPeriod = time.Second     // of a worker whose coordinator is not there yet
	alivePeriod = time.Second     // between a worker's signs of life
	silence     = 20 * time.Second
	startDelay  = 250 * time.Millisecond // from when all are ready to the load, in which all hear of it
	maxBody     = 256 << 20              // bytes, 10 for each of scenario.MaxSent messages
	closeTime   = 5 * time.Second
)

// job is what a worker is to do.
type job struct {
	Share    scenario.Share    `json:"share"`
	Run      truth.Run         `json:"run"`
	Rooms    []string          `json:"rooms,omitempty"`
	Scenario scenario.Scenario `json:"scenario"`
	Watch    []string          `json:"watch"` // measure.Target
}

// moment is a time on the coordinator's clock, in nanoseconds since 1970.
type moment struct {
	At int64 `json:"at"`
}

// reading is the coordinator's clock.
type reading struct {
	Now  int64  `json:"now"`  // nanoseconds since 1970
	Boot string `json:"boot"` // of the machine, see bootID
}
