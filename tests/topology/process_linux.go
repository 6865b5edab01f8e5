package topology

import "syscall"

// diesWithUs makes a child end with the test process, however that ends.
func diesWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
