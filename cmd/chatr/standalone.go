package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/memlimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// standaloneDrain bounds the drain time: there is no other node to which connections could move, and somebody waits at a terminal.
const standaloneDrain = 2 * time.Second

// Files of the data folder that hold keys.
const (
	accessKeyFile  = "access-key"
	sessionKeyFile = "session-key"
)

// standalone runs every service in this process. They call each other over loopback HTTP all the same, so that
// there is one path to test.
func standalone(ctx context.Context, args []string, out io.Writer) error {
	s, loaded, err := load("standalone", args, out)
	if err != nil {
		return err
	}
	s.Listen = either(s.Listen, "127.0.0.1:8080")
	if err := s.checkEmulator(); err != nil {
		return err
	}
	s.Gateway.DrainTime = min(s.Gateway.DrainTime, standaloneDrain)
	lock, err := lockFolder(s.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.keepKeys(); err != nil {
		return err
	}
	p, err := newProcess(s, loaded, "standalone")
	if err != nil {
		return err
	}
	if s.Emulator {
		p.log.Warn("EMULATOR MODE: everybody knows the access key; whoever reaches this port, web pages in a browser on this machine included, can be anybody here", "listen", s.Listen)
	}
	listeners, err := listenAll(s)
	if err != nil {
		return err
	}
	defer listeners.close()

	withChatHub := func(n *settings, list []tenant.Tenant) []tenant.Tenant {
		return n.withChatHub(list, "http://"+listeners.events.Addr().String())
	}
	tenants, err := newTenants(s, loaded, (*settings).keepKeys, withChatHub)
	if err != nil {
		return err
	}
	services, err := p.all(ctx, s, tenants.Static, "http://"+reachable(listeners.http.Addr()))
	if err != nil {
		return err
	}
	defer services.close()

	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, groupCtx := errgroup.WithContext(work)
	server := p.newServer(p.health.Front(routed(services.gateway.Handler(), services.api.Handler())))
	group.Go(func() error {
		return httpx.Serve(groupCtx, server, p.clients.Watch(services.gateway.Listener(listeners.http)), lastRequests)
	})
	if listeners.https != nil {
		secure := httpx.NewServer(server.Handler)
		secure.ErrorLog = slog.NewLogLogger(p.log.Handler(), slog.LevelInfo) // clients that do not trust the authority
		group.Go(func() error {
			return httpx.Serve(groupCtx, secure, p.clients.Watch(services.gateway.Listener(listeners.https)), lastRequests)
		})
	}
	if listeners.ops != nil {
		group.Go(func() error {
			return httpx.Serve(groupCtx, httpx.NewServer(p.opsHandler()), listeners.ops, lastRequests)
		})
	}
	group.Go(func() error {
		return httpx.Serve(groupCtx, httpx.NewServer(services.events.Handler()), listeners.events, lastRequests)
	})
	group.Go(func() error { return paceCollector(groupCtx, memlimit.Find(s.Gateway.MemoryLimit)) })
	group.Go(func() error { return services.events.Run(groupCtx) })
	group.Go(func() error { return services.api.Run(groupCtx) })
	group.Go(func() error { return tenants.follow(groupCtx, loaded.Files, args, p.log, newReloadMetrics(p.metrics)) })
	group.Go(func() error {
		defer stopWork() // the gateway stops first: its disconnected events need the others
		return services.gateway.Run(mergeDone(ctx, groupCtx))
	})
	group.Go(func() error { return welcome(groupCtx, out, s, listeners, services) })
	return group.Wait()
}

// keepKeys takes the keys that the settings do not give from the data folder.
func (s *settings) keepKeys() (err error) {
	if s.AccessKey == "" {
		if s.AccessKey, err = keptKey(s.Data, accessKeyFile); err != nil {
			return err
		}
	}
	if s.Emulator {
		s.AccessKeySecondary = emulatorKey
	}
	if s.Auth.SessionKey == "" {
		s.Auth.SessionKey, err = keptKey(s.Data, sessionKeyFile)
	}
	return err
}

// emulatorKey is the key in the connection string of the vendor's emulator, the same everywhere (protocol/README.md).
const emulatorKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"

// checkEmulator reports why the emulator's key, which everybody knows, cannot be accepted with these settings.
func (s *settings) checkEmulator() error {
	if !s.Emulator {
		return nil
	}
	if s.AccessKeySecondary != "" {
		return errors.New("emulator and accessKeySecondary are both set; the emulator's key is a secondary key, so keep one")
	}
	for name, address := range map[string]string{"listen": s.Listen, "tlsListen": s.TLSListen} {
		host, _, _ := net.SplitHostPort(address)
		if ip := net.ParseIP(host); address != "" && host != "localhost" && !ip.IsLoopback() {
			return fmt.Errorf("emulator is for this machine only, since everybody knows its key: %s is %q, which others can reach; make it 127.0.0.1", name, address)
		}
	}
	return nil
}

// listenerSet holds the listeners of standalone.
type listenerSet struct {
	http, https, ops net.Listener
	events           net.Listener // for the gateway only: loopback, any port
	authority        *authority
}

func listenAll(s *settings) (d *listenerSet, err error) {
	d = &listenerSet{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.events, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return d, err
	}
	if d.http, err = httpx.Listen(s.Listen); err != nil {
		return d, fmt.Errorf("%w; choose another address by --listen", err)
	}
	if s.OpsListen != "" {
		if d.ops, err = net.Listen("tcp", s.OpsListen); err != nil {
			return d, fmt.Errorf("%w; choose another address by --ops-listen", err)
		}
	}
	if s.TLSListen == "" {
		return d, nil
	}
	config, err := d.secure(s.TLSListen, s.Data, s.TLSClientCertificates)
	if err != nil {
		return d, err
	}
	if d.https, err = httpx.ListenTLS(s.TLSListen, config); err != nil {
		return d, fmt.Errorf("%w; choose another address by --tls-listen, or none by --tls-listen=", err)
	}
	return d, nil
}

// secure sets up TLS for an address, with a certificate of the folder's authority, and asks clients for a certificate if askClients.
func (d *listenerSet) secure(address, folder string, askClients bool) (*tls.Config, error) {
	var err error
	if d.authority, err = openAuthority(folder, time.Now()); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(address)
	certificate, err := d.authority.issue(host, time.Now())
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ // HTTP/1.1 only: WebSockets are not offered over HTTP/2
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}
	if askClients {
		config.ClientAuth = tls.RequestClientCert
	}
	return config, nil
}

func (d *listenerSet) close() {
	for _, l := range []net.Listener{d.http, d.https, d.ops, d.events} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// reachable returns an address at which this machine reaches the listener at a.
func reachable(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// shown returns the address as it is shown to people, with localhost where that is the same.
func shown(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// welcome prints, once everything answers, where the product is and how to connect to it.
func welcome(ctx context.Context, out io.Writer, s *settings, d *listenerSet, ready *services) error {
	for ready.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	endpoint := "http://" + shown(d.http.Addr())
	var b strings.Builder
	fmt.Fprintf(&b, "Chatr is ready at %s\n\nConnection string for Azure Web PubSub SDKs:\n  Endpoint=%s;AccessKey=%s;Version=1.0;\n", endpoint, endpoint, s.AccessKey)
	if d.https != nil {
		ca, err := filepath.Abs(d.authority.path)
		if err != nil {
			ca = d.authority.path
		}
		fmt.Fprintf(&b, "  Endpoint=https://%s;AccessKey=%s;Version=1.0;\n\nThe https certificate is signed by an authority of this installation:\n  %s\nTo trust it in Node.js: NODE_EXTRA_CA_CERTS=%s\n", shown(d.https.Addr()), s.AccessKey, ca, ca)
	}
	if s.Emulator {
		fmt.Fprintf(&b, "\nThe emulator's connection string works too, here and for anybody who reaches this port:\n  Endpoint=%s;AccessKey=%s;Version=1.0;\n", endpoint, emulatorKey)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
