package chat

import (
	"strings"
	"testing"
)

func TestIsLegacyID(t *testing.T) {
	for id, want := range map[string]bool{
		"8437591842": true, "-12": true, "Ada": true, strings.Repeat("x", 64): true,
		"": false, "guest_ada": false, "github_1": false, "a b": false, "ada\n": false, "é": false, strings.Repeat("x", 65): false,
	} {
		if got := IsLegacyID(id); got != want {
			t.Errorf("IsLegacyID(%q): got %v, want %v", id, got, want)
		}
	}
}
