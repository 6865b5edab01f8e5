package dataplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const key = "a test key that is long enough for HS256"

// seen is what a service saw of a request.
type seen struct {
	Line        string // method and raw path
	Query       url.Values
	ContentType string
	Body        string
}

// service answers every request with status, after checking that its token is for exactly this URL.
func service(t *testing.T, status int) (*dataplane.Client, *seen) {
	t.Helper()
	last := new(seen)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*last = seen{r.Method + " " + r.URL.EscapedPath(), r.URL.Query(), r.Header.Get("Content-Type"), string(body)}
		raw := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims, err := token.NewKeyVerifier(key).Verify(r.Context(), raw)
		if want := "http://" + r.Host + r.RequestURI; err != nil || len(claims.Audience) != 1 || claims.Audience[0] != want {
			t.Errorf("token: got audience %q and error %v, want %q", claims.Audience, err, want)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return dataplane.New(server.URL+"/", key, "Chat", dataplane.Options{Retries: -1}), last
}

func TestRequests(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name   string
		do     func(c *dataplane.Client) error
		status int
		want   seen
	}{
		{"send to all", func(c *dataplane.Client) error {
			return c.SendToAll(ctx, webpubsub.Text("hé"), dataplane.Except("c1", "c 2"), dataplane.TTL(90*time.Second))
		}, 202, seen{"POST /api/hubs/Chat/:send", url.Values{"excluded": {"c1", "c 2"}, "messageTtlSeconds": {"90"}}, "text/plain; charset=utf-8", "hé"}},
		{"send to group", func(c *dataplane.Client) error {
			return c.SendToGroup(ctx, "a/b +%?é", webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"a":1}`)}, dataplane.Filter("userId eq 'a+b'"))
		}, 202, seen{"POST /api/hubs/Chat/groups/a%2Fb%20+%25%3F%C3%A9/:send", url.Values{"filter": {"userId eq 'a+b'"}}, "application/json", `{"a":1}`}},
		{"send to user", func(c *dataplane.Client) error {
			return c.SendToUser(ctx, "..", webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{0, 255}})
		}, 202, seen{"POST /api/hubs/Chat/users/%2E%2E/:send", url.Values{}, "application/octet-stream", "\x00\xff"}},
		{"send to connection", func(c *dataplane.Client) error { return c.SendToConnection(ctx, "c1", webpubsub.Text("")) },
			202, seen{"POST /api/hubs/Chat/connections/c1/:send", url.Values{}, "text/plain; charset=utf-8", ""}},
		{"close connection", func(c *dataplane.Client) error { return c.CloseConnection(ctx, "c1", "bye & thanks") },
			204, seen{"DELETE /api/hubs/Chat/connections/c1", url.Values{"reason": {"bye & thanks"}}, "", ""}},
		{"close group", func(c *dataplane.Client) error { return c.CloseGroup(ctx, "g", "") },
			204, seen{"POST /api/hubs/Chat/groups/g/:closeConnections", url.Values{}, "", ""}},
		{"close user", func(c *dataplane.Client) error { return c.CloseUser(ctx, "u", "r") },
			204, seen{"POST /api/hubs/Chat/users/u/:closeConnections", url.Values{"reason": {"r"}}, "", ""}},
		{"add connection", func(c *dataplane.Client) error { return c.AddConnectionToGroup(ctx, "g", "c1") },
			200, seen{"PUT /api/hubs/Chat/groups/g/connections/c1", url.Values{}, "", ""}},
		{"remove connection", func(c *dataplane.Client) error { return c.RemoveConnectionFromGroup(ctx, "g", "c1") },
			204, seen{"DELETE /api/hubs/Chat/groups/g/connections/c1", url.Values{}, "", ""}},
		{"add user", func(c *dataplane.Client) error { return c.AddUserToGroup(ctx, "g", "u") },
			200, seen{"PUT /api/hubs/Chat/users/u/groups/g", url.Values{}, "", ""}},
		{"remove user", func(c *dataplane.Client) error { return c.RemoveUserFromGroup(ctx, "g", "u") },
			204, seen{"DELETE /api/hubs/Chat/users/u/groups/g", url.Values{}, "", ""}},
		{"grant", func(c *dataplane.Client) error { return c.Grant(ctx, "c1", webpubsub.SendToGroup, "g") },
			200, seen{"PUT /api/hubs/Chat/permissions/sendToGroup/connections/c1", url.Values{"targetName": {"g"}}, "", ""}},
		{"revoke", func(c *dataplane.Client) error { return c.Revoke(ctx, "c1", webpubsub.JoinLeaveGroup, "g") },
			204, seen{"DELETE /api/hubs/Chat/permissions/joinLeaveGroup/connections/c1", url.Values{"targetName": {"g"}}, "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, got := service(t, tt.status)
			if err := tt.do(client); err != nil {
				t.Fatal(err)
			}
			tt.want.Query.Set("api-version", "2024-12-01")
			if fmt.Sprint(*got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", *got, tt.want)
			}
		})
	}
}

func TestExists(t *testing.T) {
	ctx := context.Background()
	for status, want := range map[int]bool{200: true, 404: false} {
		client, got := service(t, status)
		for line, ask := range map[string]func() (bool, error){
			"HEAD /api/hubs/Chat/connections/x": func() (bool, error) { return client.ConnectionExists(ctx, "x") },
			"HEAD /api/hubs/Chat/users/x":       func() (bool, error) { return client.UserExists(ctx, "x") },
			"HEAD /api/hubs/Chat/groups/x":      func() (bool, error) { return client.GroupExists(ctx, "x") },
		} {
			if exists, err := ask(); exists != want || err != nil || got.Line != line {
				t.Errorf("%s answered %d: got %s, %v and error %v, want %v", line, status, got.Line, exists, err, want)
			}
		}
	}
	client, _ := service(t, 500)
	if exists, err := client.UserExists(ctx, "x"); exists || err == nil {
		t.Errorf("after a 500: got %v and error %v, want an error", exists, err)
	}
}

func TestListConnectionsFollowsPagesOnItsOwnHost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("continuationToken") {
		case "":
			_, _ = io.WriteString(w, `{"value":[{"connectionId":"c1","userId":"ana"},{"connectionId":"c2"}],
				"nextLink":"https://elsewhere.invalid/api/hubs/chat/groups/g/connections?api-version=2024-12-01&maxpagesize=2&continuationToken=abc"}`)
		case "abc":
			_, _ = io.WriteString(w, `{"value":[{"connectionId":"c3","userId":null}],"nextLink":null}`)
		}
	}))
	defer server.Close()
	got, err := dataplane.New(server.URL, key, "chat", dataplane.Options{}).ListConnections(context.Background(), "g")
	if want := "[{c1 ana} {c2 } {c3 }]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v and error %v, want %s", got, err, want)
	}
}

func TestProtobufIsRefused(t *testing.T) {
	client, _ := service(t, 202)
	if err := client.SendToAll(context.Background(), webpubsub.Data{Type: webpubsub.DataProtobuf}); err == nil {
		t.Error("got no error, want one: the REST API has no protobuf")
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		status   int
		body     string
		want     dataplane.Error
		notFound bool
	}{
		{404, `{"code":"Error.NotFound","message":"there is no such connection"}`, dataplane.Error{Status: 404, Code: "Error.NotFound", Message: "there is no such connection"}, true},
		{400, `<html>`, dataplane.Error{Status: 400}, false},
		{302, ``, dataplane.Error{Status: 302}, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		err := dataplane.New(server.URL, key, "chat", dataplane.Options{}).AddConnectionToGroup(context.Background(), "g", "c")
		server.Close()
		var got *dataplane.Error
		if !errors.As(err, &got) || *got != tt.want || errors.Is(err, dataplane.ErrNotFound) != tt.notFound {
			t.Errorf("status %d: got %v, want %+v, not found %v", tt.status, err, tt.want, tt.notFound)
		}
	}
}

// transport stands in for the network, so that back-off runs in fake time.
type transport func(attempt int, r *http.Request) (*http.Response, error)

type counting struct {
	attempts int
	do       transport
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.attempts++
	return c.do(c.attempts, r)
}

func answer(status int, retryAfter string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: http.NoBody}
}

func TestRetries(t *testing.T) {
	broken := errors.New("connection reset")
	for _, tt := range []struct {
		name        string
		do          transport
		attempts    int
		least, most time.Duration
		fails       bool
	}{
		{"success at once", func(int, *http.Request) (*http.Response, error) { return answer(202, ""), nil }, 1, 0, 0, false},
		{"broken network, then success", func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return nil, broken
			}
			return answer(202, ""), nil
		}, 2, 50 * time.Millisecond, 100 * time.Millisecond, false},
		{"always 503", func(int, *http.Request) (*http.Response, error) { return answer(503, ""), nil }, 4, 350 * time.Millisecond, 700 * time.Millisecond, true},
		{"429 says when", func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(429, "2"), nil
			}
			return answer(202, ""), nil
		}, 2, 2 * time.Second, 2 * time.Second, false},
		{"Retry-After has a bound", func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(503, "99999999999"), nil
			}
			return answer(202, ""), nil
		}, 2, 50 * time.Millisecond, 5 * time.Second, false},
		{"400 is final", func(int, *http.Request) (*http.Response, error) { return answer(400, ""), nil }, 1, 0, 0, true},
		{"no answer in time", func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 4, 40 * time.Second, 41 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &counting{do: tt.do}
				client := dataplane.New("http://gateway", key, "chat", dataplane.Options{HTTP: &http.Client{Transport: network}})
				start := time.Now()
				err := client.SendToAll(t.Context(), webpubsub.Text("hi"))
				if took := time.Since(start); took < tt.least || took > tt.most {
					t.Errorf("got an answer after %s, want after %s to %s", took, tt.least, tt.most)
				}
				if network.attempts != tt.attempts || (err != nil) != tt.fails {
					t.Errorf("got %d attempts and error %v, want %d attempts, failure %v", network.attempts, err, tt.attempts, tt.fails)
				}
			})
		})
	}
}

func TestContextEndsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &counting{do: func(int, *http.Request) (*http.Response, error) { return answer(503, "4"), nil }}
		client := dataplane.New("http://gateway", key, "chat", dataplane.Options{HTTP: &http.Client{Transport: network}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := client.SendToAll(ctx, webpubsub.Text("hi"))
		if took := time.Since(start); err == nil || network.attempts != 1 || took != time.Second {
			t.Errorf("got error %v after %d attempts and %s, want one attempt and an error after 1s", err, network.attempts, took)
		}
	})
}

func TestClientToken(t *testing.T) {
	raw, err := dataplane.New("http://localhost:8080/", key, "chat", dataplane.Options{}).
		ClientToken("ana", time.Hour, []string{"webpubsub.sendToGroup"}, []string{"lobby"})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := token.NewKeyVerifier(key).Verify(context.Background(), raw)
	got := fmt.Sprint(claims.Subject, claims.Audience, claims.Roles, claims.Groups, err)
	if want := "ana[http://localhost:8080/client/hubs/chat] [webpubsub.sendToGroup] [lobby] <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
