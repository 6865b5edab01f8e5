package telling

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestFiltersQuoteNames: ids that applications choose may have quotes, which are doubled in a filter.
func TestFiltersQuoteNames(t *testing.T) {
	var got string
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query().Get("filter")
		w.WriteHeader(http.StatusAccepted)
	}))
	defer gateway.Close()
	to := &sender{Config: Config{Gateway: dataplane.New(gateway.URL, "a key for tests that is long enough, really", "chat", dataplane.Options{})}}
	if err := to.roomAnd(t.Context(), "ben's room", "g'y or true", webpubsub.Text("")); err != nil {
		t.Fatal(err)
	}
	if want := "'ben''s room' in groups or userId eq 'g''y or true'"; got != want {
		t.Errorf("room and user: got the filter %s, want %s", got, want)
	}
	if err := to.members(t.Context(), "a'b''c", webpubsub.Text("")); err != nil {
		t.Fatal(err)
	}
	if want := "'a''b''''c' in groups"; got != want {
		t.Errorf("members: got the filter %s, want %s", got, want)
	}
}
