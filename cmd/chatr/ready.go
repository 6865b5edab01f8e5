package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// needRedis makes readiness depend on Redis taking writes: leases, message logs and requests that may be repeated need them.
func (p *process) needRedis(client redis.UniversalClient, prefix string) {
	p.health.Add("redis", redisconn.NewProbe(client, prefix).Ready, redisconn.NotReadyReasons()...)
}

// Reasons why the chat cannot work though its store can.
const (
	reasonNoTenant = "no-tenant" // the tenant that it belongs to is not served
	reasonRefused  = "refused"   // the gateways do not let it in
)

// How long what the gateways have answered counts.
const (
	allowedFor = 10 * time.Second
	refusedFor = time.Second
)

// chatReady finds out whether the chat has a tenant, and whether the gateways do for it what it asks. It is safe for concurrent use.
type chatReady struct {
	tenants tenant.Source
	tenant  string
	client  *dataplane.Client
	url     string // of the gateways

	mu      sync.Mutex // guards the following, and is held while the gateways are asked
	askedAt time.Time
	refused error
}

// needGateways makes readiness depend on what chatReady finds out.
func (p *process) needGateways(s *settings, tenants tenant.Source, client *dataplane.Client, url string) {
	c := &chatReady{tenants: tenants, tenant: s.Chat.Tenant, client: client, url: url}
	p.health.Add("chat", c.Ready, reasonNoTenant, reasonRefused)
}

// Ready returns nil, or why the chat cannot work. Gateways that do not answer are no reason: they may all be new at the moment, what they
// are to do is done once they are there, and they in turn need the chat to answer.
func (c *chatReady) Ready(ctx context.Context) error {
	if c.tenants.ByName(c.tenant) == nil {
		return &obs.NotReady{Reason: reasonNoTenant, Err: fmt.Errorf(
			"the chat's tenant %q is not served: it is not among the tenants, or has a mistake; add it or mend it, or set chat.tenant to another", c.tenant)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := allowedFor
	if c.refused != nil {
		counts = refusedFor
	}
	if time.Since(c.askedAt) < counts {
		return c.refused
	}
	err := c.client.Check(ctx)
	if ctx.Err() != nil {
		return c.refused // as before
	}
	c.askedAt, c.refused = time.Now(), c.refusal(err)
	return c.refused
}

// refusal is the error that operators see when a gateway has answered err; nil when that is no refusal.
func (c *chatReady) refusal(err error) error {
	var answer *dataplane.Error
	if !errors.As(err, &answer) {
		return nil
	}
	switch answer.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &obs.NotReady{Reason: reasonRefused, Err: fmt.Errorf(
			"the gateways at %s do not let the chat of tenant %q in: %w; see that they have the same keys for it, and that its acceptedHosts or gateway.acceptedHosts, if any, has the host of gateway.url", c.url, c.tenant, err)}
	case http.StatusNotFound:
		return &obs.NotReady{Reason: reasonRefused, Err: fmt.Errorf(
			"the gateways at %s serve no tenant by that host: %w; add it to the hosts of tenant %q, or set gateway.url to one of these", c.url, err, c.tenant)}
	}
	return nil
}
