package chat

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, test := range []struct {
		name, want string
		err        string // part of the error's text
	}{
		{name: "Ann", want: "Ann"},
		{name: "  Ann Lee\t", want: "Ann Lee"},
		{name: "👩\u200d💻 Ünï", want: "👩\u200d💻 Ünï"},
		{name: "__proto__", want: "__proto__"},
		{name: strings.Repeat("é", MaxNameRunes), want: strings.Repeat("é", MaxNameRunes)},
		{name: strings.Repeat("é", MaxNameRunes+1), err: "65 characters; at most 64"},
		{name: "", err: "empty"},
		{name: " \u00a0\n", err: "empty"},
		{name: "<b>Ann", err: "< or >"},
		{name: "Ann\x00", err: "control or invisible"},
		{name: "Ann\u202egnp", err: "control or invisible"},
		{name: "An\u200bn", err: "control or invisible"},
		{name: "Ann\nBob", err: "control or invisible"},
		{name: "Ann\xff", err: "not valid text"},
	} {
		got, err := CheckName(test.name)
		if got != test.want {
			t.Errorf("name %q: got %q, want %q", test.name, got, test.want)
		}
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("name %q: got error %v, want one with %q", test.name, err, test.err)
		}
	}
}

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
