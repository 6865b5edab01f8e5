// Package memlimit says how much memory a process may use before the kernel kills it, and how much it uses.
package memlimit

import (
	"errors"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// Limit is a bound of a process's memory. It is safe for concurrent use.
type Limit struct {
	bytes int64
	used  func() (int64, error)
}

// Find returns the limit of this process: bytes unless that is zero, else that of its control group, of version 2 or 1, else
// GOMEMLIMIT. It is nil when there is none, as outside of Linux.
func Find(bytes int64) *Limit { return find("/", bytes, debug.SetMemoryLimit(-1)) }

func find(root string, bytes, runtime int64) *Limit {
	if bytes > 0 {
		return &Limit{bytes, resident}
	}
	if group := ofGroup(root); group != nil {
		return group
	}
	if runtime < math.MaxInt64 {
		return &Limit{runtime, resident}
	}
	return nil
}

// Bytes is the limit.
func (l *Limit) Bytes() int64 { return l.bytes }

// Used is how much of it is used, in bytes, without what the kernel could take back: the files that it has cached. Of a control group it is
// what all of its processes use, and what the kernel uses for them, as for their sockets; but only what this process has if others use
// most of it.
func (l *Limit) Used() (int64, error) { return l.used() }

// Reserve is the part of the limit for what comes faster than it is seen: a tenth, but 16 MiB at least, unless that were more than a
// quarter.
func (l *Limit) Reserve() int64 { return min(max(l.bytes/10, 16<<20), l.bytes/4) }

// version is how a version of control groups names things.
type version struct {
	mount, limit, current string
	cache, shared         string // of memory.stat: cached files, with what is shared, which cannot be taken back
}

var (
	version2 = version{"sys/fs/cgroup", "memory.max", "memory.current", "file", "shmem"}
	version1 = version{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"}
)

// ofGroup returns the least limit of the process's control group and those around it; nil when there is none.
func ofGroup(root string) *Limit {
	list, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	var least *Limit
	for line := range strings.Lines(string(list)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		v := version2
		switch {
		case parts[0] == "0" && parts[1] == "":
		case contains(parts[1], "memory"):
			v = version1
		default:
			continue
		}
		// In a container the path may be that of the host, which is not there: its own group is then at the mount.
		for group := path.Clean("/" + parts[2]); ; group = path.Dir(group) {
			folder := filepath.Join(root, v.mount, group)
			if n, err := readNumber(filepath.Join(folder, v.limit)); err == nil && n < 1<<60 && (least == nil || n < least.bytes) {
				least = &Limit{n, func() (int64, error) { return ownPart(v.usedIn(folder)) }}
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

func contains(list, name string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part == name {
			return true
		}
	}
	return false
}

// ownPart is what a group uses, unless that is mostly others' doing, as on a developer's machine or in a build: to refuse clients would not
// help then. The kernel's part, of which a server of many connections has much, is not counted among what a process has itself.
func ownPart(used int64, err error) (int64, error) {
	own, ownErr := resident()
	if err == nil && ownErr == nil && own < used/4 {
		return own, nil
	}
	return used, err
}

// usedIn is what a group uses.
func (v version) usedIn(folder string) (int64, error) {
	used, err := readNumber(filepath.Join(folder, v.current))
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(folder, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(stat)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != v.cache && name != v.shared {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, err
		}
		if name == v.cache {
			used -= n
		} else {
			used += n
		}
	}
	return max(used, 0), nil
}

// readNumber reads a file with a number; "max" is none.
func readNumber(file string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// resident is what this process has in memory that is not in a file.
func resident() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0, errors.New("/proc/self/statm has less than three numbers")
	}
	all, err := strconv.ParseInt(fields[1], 10, 64)
	file, err2 := strconv.ParseInt(fields[2], 10, 64)
	return (all - file) * int64(os.Getpagesize()), errors.Join(err, err2)
}

// New returns a limit of which used says how much is used.
func New(bytes int64, used func() (int64, error)) *Limit { return &Limit{bytes, used} }
