package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// reloadInterval is how often the file is looked at. Kubernetes swaps mounted files by links, which file
// notifications miss; a look costs one small read.
const reloadInterval = 2 * time.Second

// completed returns the tenants of the file, or one that has all hosts, each without keys of its own given the
// process's.
func (s *settings) completed() []tenant.Tenant {
	tenants := append([]tenant.Tenant(nil), s.Tenants...)
	if len(tenants) == 0 {
		tenants = []tenant.Tenant{{Name: s.Chat.Tenant, Hosts: []string{"*"}}}
	}
	for i := range tenants {
		if tenants[i].Keys == (tenant.Keys{}) {
			tenants[i].Keys = tenant.Keys{Primary: s.AccessKey, Secondary: s.AccessKeySecondary}
		}
	}
	return tenants
}

// withChatHub adds the chat's hub to the chat's tenant, or the handler and the history to what the file says about
// it, unless the file gives that hub handlers.
func (s *settings) withChatHub(tenants []tenant.Tenant, handler string) []tenant.Tenant {
	for i := range tenants {
		t := &tenants[i]
		hub := t.Hub(s.Chat.Hub)
		if t.Name != s.Chat.Tenant || hub.Handlers != nil {
			continue
		}
		hub.Handlers = []tenant.Handler{{URL: handler, UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"}}}
		if !slices.Contains(hub.Listeners, historyLog) {
			hub.Listeners = append(slices.Clone(hub.Listeners), historyLog)
		}
		others := slices.DeleteFunc(slices.Clone(t.Hubs), func(h tenant.Hub) bool { return strings.EqualFold(h.Name, hub.Name) })
		t.Hubs = append(others, hub)
	}
	return tenants
}

// historyLog is the message log that the chat's history is made from.
const historyLog = "history"

// reload keeps tenants at what the file says until ctx ends. A file that is wrong changes nothing and is logged
// once.
func reload(ctx context.Context, file string, tenants *tenant.Static, complete func(*settings) []tenant.Tenant, args []string, log *slog.Logger) error {
	if file == "" {
		<-ctx.Done()
		return nil
	}
	last := digest(file)
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := digest(file)
		if now == nil || bytes.Equal(now, last) {
			continue
		}
		last = now
		var s settings
		_, err := config.Load(&s, "", config.Source{Args: args, Env: os.Environ()}, io.Discard)
		if err == nil {
			err = s.validate()
		}
		if err == nil {
			err = tenants.Set(complete(&s)...)
		}
		if err != nil {
			log.Error("tenants not reloaded, the ones before stay in force", "file", file, "error", err)
			continue
		}
		log.Info("tenants reloaded", "file", file)
	}
}

// digest returns the hash of a file, nil while it cannot be read.
func digest(file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
