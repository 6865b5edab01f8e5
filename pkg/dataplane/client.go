// Package dataplane is a client of the data-plane REST API of one hub (protocol/rest-api.md), signing with the
// tenant's access key as the official SDKs do.
//
// A request that is throttled, that the service cannot serve now, or whose connection breaks is made again, so
// a send may arrive more than once. Methods are safe for concurrent use.
package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const (
	apiVersion = "2024-12-01"

	tokenTTL  = 5 * time.Minute // of the token that signs one request
	firstWait = 100 * time.Millisecond
	maxWait   = 5 * time.Second // also of what Retry-After asks for
	maxAnswer = 4 << 20         // bytes of an answer that are read
)

// ErrNotFound says that the connection or user an operation needs is not there.
var ErrNotFound = errors.New("not found")

// Error is an answer of the service that is not a success. A 404 is also ErrNotFound.
type Error struct {
	Status  int
	Code    string // of the answer's body; empty when it had none
	Message string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Is makes errors.Is(err, ErrNotFound) true for a 404.
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// Options change how a Client works; the zero value is fine.
type Options struct {
	HTTP    *http.Client  // default: a pool of its own that follows no redirects
	Timeout time.Duration // of each attempt; default 10 s. The context bounds the whole call
	Retries int           // attempts after the first; default 3, negative: none
	Key     func() string // asked for the key of each request, in place of New's; for a key that can change
}

// Client calls the REST API of one hub.
type Client struct {
	endpoint string // without a trailing slash
	key      func() string
	hub      string
	http     *http.Client
	timeout  time.Duration
	retries  int
}

// New returns a client of the hub at endpoint, such as "http://127.0.0.1:8080", that signs with key.
func New(endpoint, key, hub string, o Options) *Client {
	c := &Client{
		endpoint: strings.TrimRight(endpoint, "/"),
		key:      o.Key,
		hub:      hub,
		http:     o.HTTP,
		timeout:  o.Timeout,
		retries:  o.Retries,
	}
	if c.key == nil {
		c.key = func() string { return key }
	}
	if c.http == nil {
		c.http = pooled()
	}
	if c.timeout <= 0 {
		c.timeout = 10 * time.Second
	}
	if c.retries == 0 {
		c.retries = 3
	}
	return c
}

func pooled() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return &http.Client{
		Transport: transport,
		// A token is good for one path only, so a redirect could not be followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ClientToken returns an access token with which a client may connect to the hub for the time ttl. An empty
// userID makes an anonymous connection.
func (c *Client) ClientToken(userID string, ttl time.Duration, roles, groups []string) (string, error) {
	return token.Sign(c.key(), c.endpoint+"/client/hubs/"+c.hub, ttl,
		token.Options{Subject: userID, Roles: roles, Groups: groups})
}

// call is one operation: its method, its path below the hub, and what goes with it.
type call struct {
	method      string
	path        string // escaped, without a leading slash
	query       url.Values
	contentType string // empty: no body
	body        []byte
	metadata    webpubsub.Metadata
}

// path joins segments, escaping each once. A full stop is escaped where it would be read as a relative path.
func path(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
		if s == "." || s == ".." {
			escaped[i] = strings.ReplaceAll(s, ".", "%2E")
		}
	}
	return strings.Join(escaped, "/")
}

// do makes the call, as often as it takes, and returns the body of the successful answer.
func (c *Client) do(ctx context.Context, op call) ([]byte, error) {
	again := backoff.Backoff{First: firstWait, Last: maxWait, Spread: backoff.Less}
	for attempt := 0; ; attempt++ {
		answer, after, err := c.attempt(ctx, op)
		if err == nil {
			return answer, nil
		}
		if !retryable(err) || attempt >= c.retries || backoff.Sleep(ctx, max(again.Next(), min(after, maxWait))) != nil {
			return nil, fmt.Errorf("%s %s: %w", op.method, op.path, err)
		}
	}
}

// attempt makes the call once. after is how long the service asked to wait, if it did.
func (c *Client) attempt(ctx context.Context, op call) (answer []byte, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, op)
	if err != nil {
		return nil, 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, 0, &networkError{err}
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode/100 != 2 {
		return nil, retryAfter(res), serviceError(res, answer)
	}
	if err != nil {
		return nil, 0, &networkError{err}
	}
	return answer, 0, nil
}

// request builds and signs the call. The audience is the whole URL, as in the SDKs (auth.md section 3).
func (c *Client) request(ctx context.Context, op call) (*http.Request, error) {
	target := c.endpoint + "/api/hubs/" + url.PathEscape(c.hub) + "/" + op.path + "?api-version=" + apiVersion
	if len(op.query) > 0 {
		target += "&" + op.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, op.method, target, bytes.NewReader(op.body))
	if err != nil {
		return nil, err
	}
	signed, err := token.Sign(c.key(), target, tokenTTL, token.Options{})
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+signed)
	if op.contentType != "" {
		req.Header.Set("Content-Type", op.contentType)
	}
	httpx.SetMetadata(req.Header, op.metadata)
	return req, nil
}

// networkError is a failure to get an answer.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

func retryable(err error) bool {
	var network *networkError
	var service *Error
	switch {
	case errors.As(err, &service):
		return service.Status >= 500 || service.Status == http.StatusTooManyRequests || service.Status == http.StatusRequestTimeout
	case errors.As(err, &network):
		return true
	}
	return false
}

func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

// serviceError reads the error body of rest-api.md section 1.4; another body, of a proxy say, is left out.
func serviceError(res *http.Response, body []byte) *Error {
	var said struct{ Code, Message string }
	_ = json.Unmarshal(body, &said) // without a readable body the status alone must do
	return &Error{Status: res.StatusCode, Code: said.Code, Message: said.Message}
}
