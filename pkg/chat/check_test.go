package chat

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckIDs(t *testing.T) {
	for id, want := range map[string]string{
		"a":                                "",
		strings.Repeat("a", MaxIDBytes):    "",
		"":                                 "invalid: an id is empty; it has 1 to 128 bytes",
		strings.Repeat("a", MaxIDBytes+70): "invalid: an id has 198 bytes; at most 128 are allowed",
		"a\x00":                            "invalid: an id is not text (UTF-8 without NUL)",
		"a\xff":                            "invalid: an id is not text (UTF-8 without NUL)",
	} {
		err := CheckIDs("good", id)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want || errors.Is(err, ErrInvalid) != (want != "") {
			t.Errorf("id %q: got error %q, want %q", id, got, want)
		}
	}
}
