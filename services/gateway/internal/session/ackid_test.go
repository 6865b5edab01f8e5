package session

import "testing"

// TestOneRequestOfAnAckIDAtATime: several readers of a connection may have the same request, each from its socket.
func TestOneRequestOfAnAckIDAtATime(t *testing.T) {
	var f inFlight
	if !f.acquireAckID(7) || f.acquireAckID(7) || !f.acquireAckID(8) {
		t.Error("got two requests of one ackId under way, or not one of each")
	}
	f.releaseAckID(7)
	if !f.acquireAckID(7) || f.acquireAckID(8) {
		t.Error("got an ended request under way, or one that has ended with another")
	}
}
