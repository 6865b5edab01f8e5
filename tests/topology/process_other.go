//go:build !linux

package topology

import "syscall"

// diesWithUs has no counterpart here: after a test process that was killed, its children are to be ended by hand.
func diesWithUs() *syscall.SysProcAttr { return nil }
