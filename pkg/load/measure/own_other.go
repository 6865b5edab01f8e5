//go:build !unix

package measure

import (
	"runtime/metrics"
	"time"
)

// OwnCPU is the processor time that this process has used, as of the last garbage collection and without the
// system's part.
func OwnCPU() time.Duration {
	s := []metrics.Sample{{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(s)
	return time.Duration((s[0].Value.Float64() - s[1].Value.Float64()) * float64(time.Second))
}
