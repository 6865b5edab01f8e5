package memlimit

import (
	"os"
	"testing"
)

// TestOthersOfAGroup: what others use of a group is no reason to refuse anybody.
func TestOthersOfAGroup(t *testing.T) {
	own, err := resident()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ownPart(1<<40, nil); got > 100*own || err != nil {
		t.Errorf("got %d, %v; want about the %d of this process", got, err, own)
	}
	if got, err := ownPart(1000, nil); got != 1000 || err != nil {
		t.Errorf("got %d, %v; want what the group uses", got, err)
	}
	if _, err := ownPart(0, os.ErrNotExist); err == nil {
		t.Error("an error was lost")
	}
}
