package measure

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Usage is what a process has used: processor time since it started, and memory now.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes
}

// clockTick is the unit of processor time in /proc: USER_HZ, which is 100 everywhere that Go runs.
const clockTick = time.Second / 100

// ProcessUsage reads the usage of a process from /proc, so on Linux only.
func ProcessUsage(pid int) (Usage, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything, so fields count from its end (proc(5)).
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const utime, stime, rss = 11, 12, 21
	if len(fields) <= rss {
		return Usage{}, fmt.Errorf("read the usage of process %d: unexpected form of its stat file", pid)
	}
	var n [3]int64
	for i, at := range []int{utime, stime, rss} {
		if n[i], err = strconv.ParseInt(string(fields[at]), 10, 64); err != nil {
			return Usage{}, fmt.Errorf("read the usage of process %d: %w", pid, err)
		}
	}
	return Usage{CPU: time.Duration(n[0]+n[1]) * clockTick, RSS: n[2] * int64(os.Getpagesize())}, nil
}
