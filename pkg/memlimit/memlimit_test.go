package memlimit

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		files       map[string]string
		bytes, goes int64
		want, used  int64 // 0: there is none; used 0: not looked at
	}{
		"nothing": {goes: math.MaxInt64},
		"version 2": {files: map[string]string{"proc/self/cgroup": "0::/pod/container\n",
			"sys/fs/cgroup/pod/container/memory.max": "max\n",
			"sys/fs/cgroup/pod/memory.max":           "1000\n", "sys/fs/cgroup/pod/memory.current": "900\n",
			"sys/fs/cgroup/pod/memory.stat": "anon 500\nfile 300\nshmem 50\nfile_mapped 7\n"}, goes: math.MaxInt64, want: 1000, used: 650},
		"version 2 in a container": {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2000\n",
			"sys/fs/cgroup/memory.current": "100\n", "sys/fs/cgroup/memory.stat": "file 200\n"}, goes: 500, want: 2000},
		"version 1, of whose path nothing is here": {files: map[string]string{"proc/self/cgroup": "5:cpu:/x\n4:hugetlb,memory:/docker/abc\n0::/docker/abc\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "700\n",
			"sys/fs/cgroup/memory/memory.stat": "cache 1\ntotal_cache 200\ntotal_shmem 10\n"}, goes: math.MaxInt64, want: 3000, used: 510},
		"version 1 without a limit": {files: map[string]string{"proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, goes: math.MaxInt64},
		"GOMEMLIMIT": {goes: 5 << 30, want: 5 << 30},
		"a setting":  {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2000\n"}, bytes: 7 << 30, goes: math.MaxInt64, want: 7 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				file = filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := find(root, c.bytes, c.goes)
			if got == nil {
				got = &Limit{}
			}
			if got.bytes != c.want {
				t.Errorf("got a limit of %d, want %d", got.bytes, c.want)
			}
			if c.used > 0 {
				if used, err := got.Used(); used != c.used || err != nil {
					t.Errorf("got %d, %v used; want %d", used, err, c.used)
				}
			}
		})
	}
}

func TestReserve(t *testing.T) {
	for limit, want := range map[int64]int64{48 << 20: 12 << 20, 128 << 20: 16 << 20, 1 << 30: 1 << 30 / 10} {
		if got := (&Limit{bytes: limit}).Reserve(); got != want {
			t.Errorf("of %d: got %d, want %d", limit, got, want)
		}
	}
}
