package main

import (
	"context"
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/memlimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// single is one service in a process of its own, with what it shares with the other kinds.
type single struct {
	name    string
	needs   func(*settings) error
	service func(ctx context.Context, p *process, s *settings, tenants *tenant.Static) (service, http.Handler, error)
}

func (c single) run(ctx context.Context, args []string, out io.Writer) error {
	s, loaded, err := load(c.name, args, out)
	if err != nil {
		return err
	}
	s.OpsListen = either(s.OpsListen, ":9090")
	tenants, err := newTenants(s, loaded, nil, nil)
	if err := errors.Join(c.needs(s), err); err != nil {
		return err
	}
	p, err := newProcess(s, loaded, c.name)
	if err != nil {
		return err
	}
	service, handler, err := c.service(ctx, p, s, tenants.Static)
	if err != nil {
		return err
	}
	limit := int64(0)
	if c.name == "gateway" {
		limit = s.Gateway.MemoryLimit
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return paceCollector(groupCtx, memlimit.Find(limit)) })
	group.Go(func() error {
		return tenants.follow(groupCtx, loaded.Files, args, p.log, newReloadMetrics(p.metrics))
	})
	group.Go(func() error {
		return p.run(groupCtx, service, handler, either(s.Listen, ":8080"), s.OpsListen)
	})
	return group.Wait()
}

func runGateway(ctx context.Context, args []string, out io.Writer) error {
	return single{
		name:  "gateway",
		needs: func(s *settings) error { return require([2]string{"redis.url", s.Redis.URL}) },
		service: func(_ context.Context, p *process, s *settings, tenants *tenant.Static) (service, http.Handler, error) {
			log, err := p.openLog(s)
			if err != nil {
				return nil, nil, err
			}
			g, err := p.newGateway(s, tenants, log)
			if err != nil {
				return nil, nil, err
			}
			return g, g.Handler(), nil
		},
	}.run(ctx, args, out)
}

func runEvents(ctx context.Context, args []string, out io.Writer) error {
	return single{
		name: "events",
		needs: func(s *settings) error {
			return require([2]string{"redis.url", s.Redis.URL}, [2]string{"postgres.url", s.Postgres.URL}, [2]string{"gateway.url", s.Gateway.URL})
		},
		service: func(ctx context.Context, p *process, s *settings, tenants *tenant.Static) (service, http.Handler, error) {
			store, err := p.openStore(ctx, s)
			if err != nil {
				return nil, nil, err
			}
			log, err := p.openLog(s)
			if err != nil {
				return nil, nil, err
			}
			client, err := p.newClient(s, tenants, s.Gateway.URL)
			if err != nil {
				return nil, nil, err
			}
			e, err := p.newEvents(s, tenants, store, log, client)
			if err != nil {
				return nil, nil, err
			}
			return e, e.Handler(), nil
		},
	}.run(ctx, args, out)
}

func runAPI(ctx context.Context, args []string, out io.Writer) error {
	return single{
		name: "api",
		needs: func(s *settings) error {
			return require([2]string{"postgres.url", s.Postgres.URL}, [2]string{"gateway.url", s.Gateway.URL}, [2]string{"auth.sessionKey", s.Auth.SessionKey})
		},
		service: func(ctx context.Context, p *process, s *settings, tenants *tenant.Static) (service, http.Handler, error) {
			store, err := p.openStore(ctx, s)
			if err != nil {
				return nil, nil, err
			}
			client, err := p.newClient(s, tenants, s.Gateway.URL)
			if err != nil {
				return nil, nil, err
			}
			a, err := p.newAPI(s, tenants, store, client)
			if err != nil {
				return nil, nil, err
			}
			return a, a.Handler(), nil
		},
	}.run(ctx, args, out)
}
