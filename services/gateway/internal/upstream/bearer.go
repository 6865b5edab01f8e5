package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// Times of bearer tokens.
const (
	tokenTimeout  = 10 * time.Second // to get one
	tokenLife     = 5 * time.Minute  // of one that does not say
	tokenMargin   = 10 * time.Second // before its end it is not used any more
	tokenDistrust = 10 * time.Second // one that a handler refused is replaced unless it is younger
	maxDiscovery  = 1 << 20
)

// tokens are the bearer tokens that handlers want to see. It is safe for concurrent use.
type tokens struct {
	u *Upstream

	mu      sync.Mutex // guards the following
	bearers map[tenant.HandlerAuth]*bearer
}

// bearer is the token for one way of getting it, shared by all handlers that want it. One request for it is under way
// at a time, for all who wait.
type bearer struct {
	mu      sync.Mutex // guards the following
	token   string
	got     time.Time
	expires time.Time     // it is not used after this
	refresh time.Time     // it is replaced in the background after this
	failure error         // of the last request
	again   time.Time     // when it may be requested again, after a failure
	pause   time.Duration // from the failure to again
	running chan struct{} // closed when the request under way ends; nil: none is
}

// authorize adds the token that the handler wants to see (event-handler.md section 4), if it wants one.
func (t *tokens) authorize(ctx context.Context, auth tenant.HandlerAuth, r *http.Request) *Failure {
	if auth == (tenant.HandlerAuth{}) {
		return nil
	}
	token, failure := t.tokenFor(ctx, auth)
	if failure == nil {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return failure
}

// tokenFor returns a valid token. It waits for a request that is under way.
func (t *tokens) tokenFor(ctx context.Context, auth tenant.HandlerAuth) (string, *Failure) {
	if auth.TokenFile != "" {
		token, err := auth.ReadToken()
		if err != nil {
			return "", &Failure{Reason: ReasonSecret, detail: err}
		}
		return token, nil
	}
	b := t.bearerOf(auth)
	for {
		token, running, begin, err := b.lookUp()
		if begin {
			t.u.start(func() { t.fetch(b, auth) })
		}
		if running == nil {
			if err != nil {
				return "", &Failure{Reason: ReasonSecret, detail: err, retry: true}
			}
			return token, nil
		}
		select {
		case <-running:
		case <-ctx.Done():
			return "", interrupted(ctx)
		case <-t.u.life.Done():
			return "", interrupted(t.u.life)
		}
	}
}

// bearerOf returns the token for a way of getting it, which is made, without a token, for the first that asks.
func (t *tokens) bearerOf(auth tenant.HandlerAuth) *bearer {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bearers[auth]
	if b == nil {
		b = &bearer{}
		t.bearers[auth] = b
	}
	return b
}

// lookUp returns a valid token, or why there is none, or a channel to wait on. begin tells the caller to start a request.
func (b *bearer) lookUp() (token string, running chan struct{}, begin bool, err error) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	valid := b.token != "" && now.Before(b.expires)
	due := !valid || !now.Before(b.refresh)
	if due && b.running == nil && !now.Before(b.again) {
		b.running, begin = make(chan struct{}), true
	}
	switch {
	case valid:
		return b.token, nil, begin, nil
	case b.running != nil:
		return "", b.running, begin, nil
	}
	return "", nil, false, b.failure
}

// fetch gets a new token and records it, or why there is none.
func (t *tokens) fetch(b *bearer, auth tenant.HandlerAuth) {
	ctx, cancel := context.WithTimeout(context.WithValue(t.u.life, oauth2.HTTPClient, t.u.client), tokenTimeout)
	defer cancel()
	token, err := grant(ctx, t.u.client, auth)

	b.mu.Lock()
	changed := (err == nil) != (b.failure == nil)
	b.record(token, err)
	close(b.running)
	b.running = nil
	b.mu.Unlock()
	switch {
	case err != nil && changed:
		t.u.log.Warn("no token for event handlers", "issuer", auth.Issuer+auth.TokenURL, "error", err)
	case changed:
		t.u.log.Info("tokens for event handlers are available again", "issuer", auth.Issuer+auth.TokenURL)
	}
}

// record takes in the outcome of a request.
func (b *bearer) record(token *oauth2.Token, err error) {
	now := time.Now()
	b.failure = err
	if err != nil {
		b.pause = backoff.After(b.pause, firstPause, refusedPause)
		b.again = now.Add(b.pause)
		return
	}
	expires := token.Expiry
	if expires.IsZero() {
		expires = now.Add(tokenLife)
	}
	life := expires.Sub(now)
	b.token, b.got, b.again, b.pause = token.AccessToken, now, time.Time{}, 0
	b.expires, b.refresh = expires.Add(-min(tokenMargin, life/10)), now.Add(life*3/4)
}

// drop makes the next event ask for a new token when a handler has refused one: keys and grants may change before
// a token ends. A handler that refuses for another reason causes no more than one request in a while.
func (t *tokens) drop(auth tenant.HandlerAuth, r *http.Request) {
	if auth.Issuer+auth.TokenURL == "" {
		return
	}
	refused := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	b := t.bearerOf(auth)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token == refused && time.Since(b.got) >= tokenDistrust {
		b.token = ""
	}
}

// grant asks the issuer for a token by the client-credentials grant.
func grant(ctx context.Context, client *http.Client, auth tenant.HandlerAuth) (*oauth2.Token, error) {
	secret, err := auth.ClientSecret.Read()
	if err != nil {
		return nil, err
	}
	endpoint := auth.TokenURL
	if endpoint == "" {
		if endpoint, err = discover(ctx, client, auth.Issuer); err != nil {
			return nil, fmt.Errorf("discover the token endpoint: %w", withoutURL(err))
		}
	}
	config := clientcredentials.Config{ClientID: auth.ClientID, ClientSecret: secret, TokenURL: endpoint, Scopes: strings.Fields(auth.Scope)}
	if auth.Audience != "" {
		config.EndpointParams = map[string][]string{"audience": {auth.Audience}}
	}
	token, err := config.Token(ctx)
	if err == nil && !strings.EqualFold(token.Type(), "Bearer") {
		err = errors.New("the token is none of type Bearer")
	}
	return token, explainGrant(err)
}

// explainGrant leaves out the answer's body: an issuer may repeat in it what it was sent.
func explainGrant(err error) error {
	if refused := new(oauth2.RetrieveError); errors.As(err, &refused) {
		return fmt.Errorf("the token endpoint answered status %d %.80s", refused.Response.StatusCode, refused.ErrorCode)
	}
	if err != nil {
		err = withoutURL(err)
	}
	return err
}

// discover asks an OpenID Connect issuer for its token endpoint, which must be as safe as the issuer is.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the issuer answered status %d, not 200", resp.StatusCode)
	}
	var metadata struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDiscovery)).Decode(&metadata); err != nil {
		return "", errors.New("the issuer's answer is not JSON")
	}
	safe := strings.HasPrefix(metadata.TokenEndpoint, "https://") ||
		strings.HasPrefix(metadata.TokenEndpoint, "http://") && strings.HasPrefix(issuer, "http://")
	switch {
	case strings.TrimSuffix(metadata.Issuer, "/") != strings.TrimSuffix(issuer, "/"):
		return "", errors.New("the issuer calls itself by another name")
	case !safe:
		return "", errors.New("the issuer names no token endpoint with https")
	}
	return metadata.TokenEndpoint, nil
}
