package token

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// How keys of a provider are kept.
const (
	fetchTime    = 5 * time.Second  // that a request to the provider may take
	fetchPause   = 10 * time.Second // between attempts, however many tokens name keys that nobody knows
	keysFresh    = time.Hour        // then they are read again, so that withdrawn ones go
	keysUsable   = 24 * time.Hour   // while the provider is away
	maxKeysBytes = 1 << 20          // of an answer of the provider
	maxKeys      = 100
	minRSABits   = 2048
)

// errUnknownKey says that the provider has no key of that name and kind.
var errUnknownKey = errors.New("unknown key")

// publicKeys are the keys of one provider, read when they are needed. All callers that need them wait for the same
// reading; while there are usable ones, only the caller that reads waits.
type publicKeys struct {
	client  *http.Client
	issuer  string
	address string // of the keys; empty: in the discovery document

	mu      sync.Mutex // guards the following
	keys    []jose.JSONWebKey
	read    time.Time     // when keys were read
	tried   time.Time     // when reading last began
	failure error         // of the last reading
	reading chan struct{} // closed when the reading under way ends; nil: none is
}

// find returns the keys that may have signed a token: those of its key id, or all when it has none.
func (k *publicKeys) find(ctx context.Context, id, algorithm string) (jwt.VerificationKey, error) {
	for {
		k.mu.Lock()
		age := time.Since(k.read)
		found := matching(k.keys, id, algorithm)
		usable := len(found.Keys) > 0 && age < keysUsable
		due := time.Since(k.tried) >= fetchPause && k.reading == nil
		reading, failure := k.reading, k.failure
		if due && (!usable || age >= keysFresh) {
			k.reading, k.tried = make(chan struct{}), time.Now()
			k.mu.Unlock()
			k.renew(ctx)
			continue
		}
		k.mu.Unlock()
		switch {
		case usable:
			return found, nil
		case reading != nil:
			select {
			case <-reading:
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %w", ErrNoKeys, ctx.Err())
			}
		case failure != nil:
			return nil, fmt.Errorf("%w: %w", ErrNoKeys, failure)
		default:
			return nil, errUnknownKey
		}
	}
}

// matching returns those of keys that have the id, unless it is empty, and are for the algorithm.
func matching(keys []jose.JSONWebKey, id, algorithm string) (set jwt.VerificationKeySet) {
	for _, key := range keys {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == algorithm) {
			set.Keys = append(set.Keys, key.Key)
		}
	}
	return set
}

// renew reads the keys. That is done for all who wait, so it does not end with the request that began it.
func (k *publicKeys) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTime)
	defer cancel()
	keys, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = err; err == nil {
		k.keys, k.read = keys, time.Now()
	}
	close(k.reading)
	k.reading = nil
}

func (k *publicKeys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	address := k.address
	if address == "" {
		var said struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &said); err != nil {
			return nil, err
		}
		if said.Issuer != k.issuer {
			return nil, fmt.Errorf("the discovery document is that of issuer %.200q, not %q", said.Issuer, k.issuer)
		}
		if err := CheckProviderURL(said.Keys); err != nil {
			return nil, fmt.Errorf("jwks_uri %w", err)
		}
		address = said.Keys
	}
	var set struct{ Keys []json.RawMessage }
	if err := k.get(ctx, address, &set); err != nil {
		return nil, err
	}
	return publicOnes(set.Keys)
}

// publicOnes parses the keys that can verify signatures. Others, of kinds we do not know too, are left out.
func publicOnes(texts []json.RawMessage) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	for _, text := range texts[:min(len(texts), maxKeys)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || !key.IsPublic() || !key.Valid() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if r, ok := key.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no public key for signatures")
	}
	return keys, nil
}

func (k *publicKeys) get(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	res, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d", address, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeysBytes))
	if err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("get %s: the answer is not the JSON of a provider", address)
	}
	return nil
}

// CheckProviderURL reports what is wrong with an address of a provider: who stands between could give us keys of its own,
// so it is https, or this very machine.
func CheckProviderURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return errors.New("must be an https URL")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip.IsLoopback()) {
		return nil
	}
	return errors.New("must be an https URL; http is for this machine only")
}
