package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestHandshakesUnderWayAreBounded: with as many handshakes under way as may be, whoever comes is told to come back,
// also those of other tenants.
//
// checklist:O06
func TestHandshakesUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	asked, hang := make(chan struct{}, 10), make(chan struct{})
	hubs := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connect" {
			asked <- struct{}{}
			<-hang
		}
	})).tenant.Hubs
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "one", Hosts: []string{"127.0.0.1"}, Keys: tenant.Keys{Primary: key}, Hubs: hubs},
		tenant.Tenant{Name: "two", Hosts: []string{"localhost"}, Keys: tenant.Keys{Primary: key}})
	must(t, err)
	s := startWith(t, setup{config: Config{Handshakes: 1}}, tenants)
	first := make(chan error, 1)
	go func() {
		_, err := s.tryDial(s.clientURL("ana", nil), protocol.NameJSON)
		first <- err
	}()
	<-asked
	other := strings.Replace(s.clientURL("ben", nil), "127.0.0.1", "localhost", 1)
	_, err = s.tryDial(other, protocol.NameJSON)
	var refused *wsclient.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, want 503 with Retry-After", err)
	}
	close(hang)
	must(t, <-first)
	eventually(t, "there is room again", func() bool {
		_, err := s.tryDial(other, protocol.NameJSON)
		return err == nil
	})
}

// TestHandlerThatSaidYesHearsOfTheEnd: what the application has agreed to is refused afterwards, as the user id that it
// has chosen is too long. It hears that there is no connection, and nobody is counted.
//
// checklist:E05 E06
func TestHandlerThatSaidYesHearsOfTheEnd(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 10)
	s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/connect":
			_ = json.NewEncoder(w).Encode(map[string]string{"userId": strings.Repeat("x", webpubsub.MaxUserID+1)})
		case "/disconnected":
			body, _ := io.ReadAll(r.Body)
			ended <- string(body)
		}
	})))
	_, err := s.tryDial(s.clientURL("ana", nil), protocol.NameJSON)
	var refused *wsclient.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		t.Errorf("got %v, want 400", err)
	}
	select {
	case reason := <-ended:
		if !strings.Contains(reason, "user id is too long") {
			t.Errorf("got reason %s, want that the user id is too long", reason)
		}
	case <-within(t).Done():
		t.Error("the handler did not hear of the end")
	}
	eventually(t, "nobody is counted", s.admission.Idle)
}
