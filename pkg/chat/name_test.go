package chat

import (
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
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
		{name: "Ann  \u00a0Lee", want: "Ann Lee"},
		{name: "Ze\u0301", want: "Z\u00e9"},
		{name: "\u0301", err: "shows nothing"},
		{name: "\u2800", err: "control or invisible"},
		{name: "Ann\u2800", err: "control or invisible"},
		{name: "\u3164", err: "control or invisible"},
		{name: "Ann\u3164", err: "control or invisible"},
		{name: "\u115f\u1160", err: "control or invisible"},
		{name: "A\u034fnn", err: "control or invisible"},
		{name: "Ann\ue000", err: "control or invisible"},
		{name: "Ann\ufe0f", err: "control or invisible"},
		{name: "Ann\U000e0041", err: "control or invisible"},
		{name: "Ann\u200d", err: "control or invisible"},
		{name: "A\u200dnn", err: "control or invisible"},
		{name: "A\u200cnn", err: "control or invisible"},
		{name: "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", want: "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"},
		{name: "\u0627\u200c\u0628", err: "control or invisible"},            // alef does not join what follows it anyway
		{name: "\u0915\u094d\u200d\u0937", want: "\u0915\u094d\u200d\u0937"}, // half form, after a virama
		{name: "\u2764\ufe0f", want: "\u2764\ufe0f"},
		{name: "1\ufe0f\u20e3", want: "1\ufe0f\u20e3"},
		{name: "\U0001f468\U0001f3fd\u200d\U0001f4bb", want: "\U0001f468\U0001f3fd\u200d\U0001f4bb"},
		{name: "\U0001f1e9\U0001f1ea", want: "\U0001f1e9\U0001f1ea"},
		{name: "a" + strings.Repeat("\u0301", 6), err: "more than 4 accents"},
		{name: "\u0915\u094d\u200d\u0301\u0302\u0303\u0304", err: "more than 4 accents"}, // the joiner parts them for nobody who looks
		{name: "\u05e9\u05b8\u05c1\u05dc", want: norm.NFC.String("\u05e9\u05b8\u05c1\u05dc")},
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
