package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

func TestReadJSON(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		want                    int // 0: accepted
	}{
		{"object", "application/json", `{"name":"ana","more":1}`, 0},
		{"with charset", "application/json; charset=utf-8", `{"name":"ana"}`, 0},
		{"no content type", "", `{"name":"ana"}`, 415},
		{"form", "application/x-www-form-urlencoded", `name=ana`, 415},
		{"too large", "application/json", `{"name":"` + strings.Repeat("a", 100) + `"}`, 413},
		{"cut off", "application/json", `{"name":`, 400},
		{"two values", "application/json", `{"name":"a"}{}`, 400},
		{"wrong type", "application/json", `{"name":7}`, 400},
		{"empty", "application/json", ``, 400},
		{"twice", "application/json", `{"name":"bob","name":"ana"}`, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			var v struct {
				Name string `json:"name"`
			}
			err := ReadJSON(httptest.NewRecorder(), r, 64, &v)
			got := 0
			var body *BodyError
			if errors.As(err, &body) {
				got = body.Status
			}
			if got != c.want || err == nil && v.Name != "ana" {
				t.Errorf("got status %d, name %q (%v); want status %d", got, v.Name, err, c.want)
			}
		})
	}
}

func TestProblemCarriesTheRequestID(t *testing.T) {
	h := WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, http.StatusConflict, "the room exists; choose another id")
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var got Details
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := Details{"Conflict", 409, "the room exists; choose another id", w.Header().Get("X-Request-Id")}
	if got != want || got.RequestID == "" || w.Code != 409 {
		t.Errorf("got %d %+v, want 409 %+v", w.Code, got, want)
	}
}

func TestServeLetsRequestsFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, s, l, time.Minute) }()
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-entered
	stop()
	close(leave)
	if got := <-answer; got != "done" {
		t.Errorf("got %q, want the running request answered", got)
	}
	if err := <-served; err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestMetadataInHeaders(t *testing.T) {
	want := webpubsub.Metadata{{Key: "a", Value: ""}, {Key: "trace.id", Value: "x y"}}
	h := http.Header{}
	SetMetadata(h, webpubsub.Metadata{{Key: "Trace.ID", Value: "x y"}, {Key: "a", Value: ""}})
	h.Set("X-WebPubSub", "other")
	if got := Metadata(h); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: keys in lower case, in order", got, want)
	}
	h.Add("x-webpubsub-metadata-trace.id", "last")
	if got := Metadata(h)[1].Value; got != "last" {
		t.Errorf("got %q of a repeated header, want the last value", got)
	}
}

// TestLeavingAsksForNewConnections: once a process leaves, no client is left with a kept connection that will be closed.
func TestLeavingAsksForNewConnections(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	server := httptest.NewServer(Leaving(ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer server.Close()
	closes := func(upgrade string) bool {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if upgrade != "" {
			r.Header.Set("Upgrade", upgrade)
		}
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.Close
	}
	if closes("") {
		t.Error("a connection is closed while the process stays")
	}
	leave()
	if !closes("") {
		t.Error("a connection is kept while the process leaves")
	}
	if closes("websocket") {
		t.Error("the Connection header of a handshake is written over")
	}
}
