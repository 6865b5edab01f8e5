package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// reloadInterval is how often the files are looked at. Kubernetes swaps mounted files by links, which file
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
		if k := &tenants[i].Keys; k.Primary == "" && k.Secondary == "" {
			k.Primary, k.Secondary = s.AccessKey, s.AccessKeySecondary
		}
	}
	return tenants
}

// completer makes the tenants that are in force out of what the settings say.
type completer func(*settings) ([]tenant.Tenant, error)

// fileTenants is the completer of services that have nothing to add to the file.
func fileTenants(s *settings) ([]tenant.Tenant, error) { return s.completed(), nil }

func newTenants(s *settings, complete completer) (*tenant.Static, error) {
	list, err := complete(s)
	if err != nil {
		return nil, err
	}
	return tenant.NewStatic(list...)
}

// withChatHub adds the chat's hub to the chat's tenant, or the events service at the given address and the history to what
// the file says about it, unless the file gives that hub handlers.
func (s *settings) withChatHub(tenants []tenant.Tenant, events string) []tenant.Tenant {
	for i := range tenants {
		t := &tenants[i]
		hub := t.Hub(s.Chat.Hub)
		if t.Name != s.Chat.Tenant || hub.Handlers != nil {
			continue
		}
		hub.Handlers = []tenant.Handler{{URL: events + "/eventhandler/{event}", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"}}}
		if hub.MessagesPerSecond == 0 {
			hub.MessagesPerSecond = chatRate
		}
		if hub.Chat == "" {
			hub.Chat = events
		}
		if !slices.Contains(hub.Listeners, historyLog) {
			hub.Listeners = append(slices.Clone(hub.Listeners), historyLog)
		}
		others := slices.DeleteFunc(slices.Clone(t.Hubs), func(h tenant.Hub) bool { return strings.EqualFold(h.Name, hub.Name) })
		t.Hubs = append(others, hub)
	}
	return tenants
}

// chatRate is how many messages a second a page may send, unless the file says otherwise: more than people do, pasting
// and typing marks included, and few enough that one of them cannot keep the history busy.
const chatRate = 100

// historyLog is the message log that the chat's history is made from.
const historyLog = "history"

// reload keeps tenants, and the keys of those without keys of their own, at what files say until ctx ends. Files that
// are wrong change nothing and are logged once.
func reload(ctx context.Context, files []string, tenants *tenant.Static, complete completer, args []string, log *slog.Logger) error {
	if len(files) == 0 {
		<-ctx.Done()
		return nil
	}
	last := digest(files)
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := digest(files)
		if now == nil || bytes.Equal(now, last) {
			continue
		}
		last = now
		if err := setTenants(tenants, complete, args); err != nil {
			log.Error("tenants not reloaded, the ones before stay in force", "files", files, "error", err)
			continue
		}
		log.Info("tenants reloaded", "files", files)
	}
}

// setTenants reads the settings anew.
func setTenants(tenants *tenant.Static, complete completer, args []string) error {
	var s settings
	loaded, err := config.Load(&s, "", config.Source{Args: args, Env: os.Environ()}, io.Discard)
	if loaded != nil {
		err = errors.Join(err, loaded.Validate(), wrongItems(loaded))
	}
	if err != nil {
		return err
	}
	list, err := complete(&s)
	if err != nil {
		return err
	}
	return tenants.Set(list...)
}

func wrongItems(loaded *config.Loaded) error {
	var problems []error
	for _, list := range loaded.Wrong {
		problems = append(problems, list...)
	}
	return errors.Join(problems...)
}

// digest returns a hash of files, nil while one of them cannot be read.
func digest(files []string) []byte {
	sum := sha256.New()
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		fmt.Fprintf(sum, "%d:", len(b))
		sum.Write(b)
	}
	return sum.Sum(nil)
}
