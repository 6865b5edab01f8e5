//go:build !linux

package orphans

import "time"

// sinceBoot is a clock that goes on while the process is stopped, and that nobody sets.
func sinceBoot() time.Duration { return time.Since(started) }
