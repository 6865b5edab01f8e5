package rest_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

// checklist:H09 H10
func TestChatIsPassedOn(t *testing.T) {
	var got []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims, err := token.NewKeyVerifier(acmeKey).Verify(r.Context(), raw)
		if err == nil {
			err = token.CheckRESTAudience(claims, r, nil)
		}
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s %q from %s://%s, cookie %q, %v", r.Method, r.URL.RequestURI(), r.Header.Get("If-Match"), body,
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("Cookie"), err))
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"a b"}`)
	}))
	defer service.Close()
	away := httptest.NewServer(nil)
	away.Close()
	tenants, err := tenant.NewStatic(tenant.Tenant{Name: "acme", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: acmeKey}, Hubs: []tenant.Hub{
		{Name: "chat", Chat: service.URL}, {Name: "away", Chat: away.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	h := rest.New(&recorder{}, tenants, rest.Options{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())

	const path = "/api/hubs/Chat/chat/rooms/a%2Fb%20c?api-version=2026-02-01-preview&x=%20"
	answer := request{method: "PUT", path: path, body: `{"title":"T"}`, header: map[string]string{
		"Content-Type": "application/json", "If-Match": `"0"`, "Cookie": "session=1", "X-Forwarded-Proto": "https"}}.do(t, h)
	if answer.Code != http.StatusCreated || answer.Body.String() != `{"id":"a b"}` || answer.Header().Get("ETag") != `"1"` {
		t.Errorf("answer: got %d %q %v, want the service's", answer.Code, answer.Body, answer.Header())
	}
	want := `PUT ` + path + ` "0" "{\"title\":\"T\"}" from https://localhost:8080, cookie "", <nil>`
	if len(got) != 1 || got[0] != want {
		t.Errorf("the service got %s, want %s", got, want)
	}

	for name, c := range map[string]struct {
		request request
		want    int
	}{
		"no token":            {request{method: "GET", path: "/api/hubs/chat/chat/roles", token: "none"}, http.StatusUnauthorized},
		"another key":         {request{method: "GET", path: "/api/hubs/chat/chat/roles", token: sign(t, strings.Repeat("x", 40), "http://localhost:8080/api/hubs/chat/chat/roles", time.Minute)}, http.StatusUnauthorized},
		"another path":        {request{method: "GET", path: "/api/hubs/chat/chat/roles", token: sign(t, acmeKey, "http://localhost:8080/api/hubs/chat/chat/rooms", time.Minute)}, http.StatusUnauthorized},
		"a hub without chat":  {request{method: "GET", path: "/api/hubs/other/chat/roles"}, http.StatusNotFound},
		"no hub":              {request{method: "GET", path: "/api/hubs/1/chat/roles"}, http.StatusBadRequest},
		"a service not there": {request{method: "GET", path: "/api/hubs/away/chat/roles"}, http.StatusServiceUnavailable},
	} {
		answer := c.request.do(t, h)
		if answer.Code != c.want || !strings.HasPrefix(answer.Body.String(), `{"code":"Error.`) {
			t.Errorf("%s: got %d %q, want %d and an error", name, answer.Code, answer.Body, c.want)
		}
	}
	if len(got) != 1 {
		t.Errorf("the service got %v, too, want nothing of what was refused", got[1:])
	}
}
