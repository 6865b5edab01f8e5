package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/api"
	"github.com/chatr-dev/chatr/services/events"
	"github.com/chatr-dev/chatr/services/gateway"
	"github.com/chatr-dev/chatr/web"
)

// services are what standalone runs.
type services struct {
	gateway *gateway.Gateway
	events  *events.Service
	api     *api.Service
	closers []io.Closer
}

// Ready returns nil, or why the services cannot be used now.
func (s *services) Ready(ctx context.Context) error {
	return errors.Join(s.gateway.Ready(ctx), s.events.Ready(ctx), s.api.Ready(ctx))
}

func (s *services) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i].Close()
	}
}

// all makes every service, on the stores of the data folder unless the settings name others. The chat's services
// reach the gateway at endpoint.
func (p *process) all(ctx context.Context, s *settings, tenants *tenant.Static, endpoint string) (_ *services, err error) {
	all := &services{}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	store, err := p.openStore(ctx, s)
	if err != nil {
		return nil, err
	}
	all.closers = append(all.closers, store)
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	log, err := p.openLog(s)
	if err != nil {
		return nil, err
	}
	all.closers = append(all.closers, log)
	if all.gateway, err = p.newGateway(s, tenants, log); err != nil {
		return nil, err
	}
	client, err := p.newClient(s, tenants, endpoint)
	if err != nil {
		return nil, err
	}
	if all.events, err = p.newEvents(s, tenants, store, log, client); err != nil {
		return nil, err
	}
	if all.api, err = p.newAPI(s, tenants, store, client); err != nil {
		return nil, err
	}
	return all, nil
}

func (p *process) openStore(ctx context.Context, s *settings) (store chat.Store, err error) {
	if s.Postgres.URL != "" {
		store, err = sqlstore.OpenPostgres(ctx, s.Postgres.URL)
	} else {
		store, err = sqlstore.OpenSQLite(filepath.Join(s.Data, "chat.db"))
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// closingLog is a message log that holds something open.
type closingLog interface {
	messagelog.Log
	io.Closer
}

func (p *process) openLog(s *settings) (closingLog, error) {
	if s.Redis.URL == "" {
		return sqlitelog.Open(filepath.Join(s.Data, "log.db"), sqlitelog.Options{MaxAge: s.Chat.LogAge, MaxLength: s.Chat.LogLength, Logger: p.log})
	}
	client, err := redisconn.Open(s.Redis)
	if err != nil {
		return nil, err
	}
	p.needRedis(client, s.Redis.Prefix)
	return redislog.New(client, redislog.Options{Prefix: s.Redis.Prefix, MaxAge: s.Chat.LogAge, MaxLen: s.Chat.LogLength, Logger: p.log, Metrics: p.metrics}), nil
}

func (p *process) newGateway(s *settings, tenants tenant.Source, log messagelog.Log) (*gateway.Gateway, error) {
	s.warnOfUnaskedChat(tenants, p.log)
	cfg := s.Gateway.Config
	cfg.Redis = s.Redis
	if cfg.PeerAddress == "" {
		cfg.PeerAddress = s.peerAddress()
	}
	g, err := gateway.New(cfg, gateway.Deps{Tenants: tenants, Log: log, Logger: p.log, Metrics: p.metrics})
	if err != nil {
		return nil, err
	}
	p.health.Add("gateway", g.Ready, gateway.NotReadyReasons()...)
	p.ops["GET "+gateway.BusPath] = http.HandlerFunc(g.ServeBus)
	return g, nil
}

// peerAddress is where other gateways reach the operations listener: at the address from which this process reaches Redis, if it listens
// on all. Empty: they do not.
func (s *settings) peerAddress() string {
	host, port, err := net.SplitHostPort(s.OpsListen)
	redis, err2 := url.Parse(s.Redis.URL)
	if err != nil || err2 != nil || redis.Host == "" || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return s.OpsListen
	}
	there := redis.Host
	if redis.Port() == "" {
		there = net.JoinHostPort(redis.Hostname(), "6379")
	}
	conn, err := net.DialTimeout("udp", there, time.Second) // which sends nothing
	if err != nil {
		return ""
	}
	defer conn.Close()
	here, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return ""
	}
	return net.JoinHostPort(here.IP.String(), port)
}

// checkChatTenant reports that the file does not have the tenant that the chat belongs to. One that is wrong will do: the chat works
// once it is mended.
func (s *settings) checkChatTenant(tenants tenant.Source) error {
	if tenants.ByName(s.Chat.Tenant) != nil || slices.ContainsFunc(s.Tenants, func(t tenant.Tenant) bool { return t.Name == s.Chat.Tenant }) {
		return nil
	}
	return fmt.Errorf("chat.tenant %q is not among the tenants of the file; add it to tenants, or set chat.tenant to the name of one", s.Chat.Tenant)
}

func (p *process) newClient(s *settings, tenants tenant.Source, endpoint string) (*dataplane.Client, error) {
	if err := s.checkChatTenant(tenants); err != nil {
		return nil, err
	}
	client := dataplane.New(endpoint, "", s.Chat.Hub, dataplane.Options{
		Key: func() string { return currentKeys(tenants, s.Chat.Tenant).Own() },
	})
	p.needGateways(s, tenants, client, endpoint)
	return client, nil
}

// origins are the gateways that may attach to the events service, by the host they announce: those that are
// configured, else what gateways with the same settings announce for the tenant as it is now. Without one it is nobody.
func (s *settings) origins(tenants tenant.Source) []string {
	switch {
	case len(s.Chat.AcceptedHosts) > 0:
		hosts := make([]string, len(s.Chat.AcceptedHosts))
		for i, host := range s.Chat.AcceptedHosts {
			hosts[i] = httpx.HostOf(host)
		}
		return hosts
	case s.Gateway.Upstream.PublicURL != "":
		return []string{httpx.HostOf(s.Gateway.Upstream.PublicURL)}
	}
	if t := tenants.ByName(s.Chat.Tenant); t != nil {
		return []string{t.Origin()}
	}
	return nil
}

func (p *process) newEvents(s *settings, tenants tenant.Source, store chat.Store, log messagelog.Log, client *dataplane.Client) (*events.Service, error) {
	e, err := events.New(events.Config{
		Tenant: s.Chat.Tenant, Hub: s.Chat.Hub, LegacyGuests: s.Auth.LegacyGuests,
	}, events.Deps{
		Store: store, Log: log, Gateway: client, Logger: p.log, Metrics: p.metrics,
		Keys:    func() []string { return currentKeys(tenants, s.Chat.Tenant).All() },
		Origins: func() []string { return s.origins(tenants) },
	})
	if err != nil {
		return nil, err
	}
	p.health.Add("events", e.Ready, chat.NotReadyReasons()...)
	return e, nil
}

func (p *process) newAPI(s *settings, tenants tenant.Source, store chat.Store, client *dataplane.Client) (*api.Service, error) {
	a, err := api.New(api.Config{
		Tenant: s.Chat.Tenant, Hub: s.Chat.Hub, SessionKey: s.Auth.SessionKey, PublicURL: s.Chat.PublicURL, GatewayPublicURL: s.pageGateways,
		TrustedProxies: s.Chat.TrustedProxies, NoGuests: !s.Auth.Guests, LegacyGuests: s.Auth.LegacyGuests, IdleAfter: s.Chat.IdleAfter, SessionTime: s.Auth.SessionTime,
	}, api.Deps{
		Store: store, Gateway: client, Web: web.Dist(), Logger: p.log, Metrics: p.metrics,
		Keys: func() tenant.Keys { return currentKeys(tenants, s.Chat.Tenant) },
	})
	if err != nil {
		return nil, err
	}
	p.health.Add("api", a.Ready, chat.NotReadyReasons()...)
	return a, nil
}

// currentKeys are a tenant's keys as last reloaded.
func currentKeys(tenants tenant.Source, name string) tenant.Keys {
	if t := tenants.ByName(name); t != nil {
		return t.Keys
	}
	return tenant.Keys{}
}
