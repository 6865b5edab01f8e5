package topology

import "testing"

// Binary is the path of the chatr that processes run, for tests of its other commands.
func Binary(t testing.TB) string {
	t.Helper()
	return binary(t)
}

// PID is the number of the running process; 0 while stopped.
func (p *Process) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}
