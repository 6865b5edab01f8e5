package orphans

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is a clock that goes on while the process is stopped and while the machine sleeps, and that nobody sets.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}
