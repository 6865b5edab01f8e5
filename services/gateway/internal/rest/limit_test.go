package rest_test

import (
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

// The limit of a body holds for what receivers get of it, which may be longer than what was sent: é is one byte in
// ISO 8859-1 and two in UTF-8.
//
// checklist:R01
func TestLimitOfADecodedBody(t *testing.T) {
	for name, tt := range map[string]struct {
		letters int
		status  int
	}{
		"as long as allowed": {webpubsub.MaxMessageBytes / 2, 202},
		"too long":           {webpubsub.MaxMessageBytes/2 + 1, 400},
	} {
		t.Run(name, func(t *testing.T) {
			n := &recorder{}
			q := request{method: "POST", path: "/api/hubs/chat/:send", header: map[string]string{"Content-Type": "text/plain; charset=iso-8859-1"},
				body: strings.Repeat("\xe9", tt.letters)}
			if w := q.do(t, newHandler(n, rest.Options{})); w.Code != tt.status || (len(n.calls) == 1) != (tt.status == 202) {
				t.Errorf("got status %d and %d sends, want %d", w.Code, len(n.calls), tt.status)
			}
		})
	}
}
