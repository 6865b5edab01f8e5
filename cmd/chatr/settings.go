package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/gateway"
)

// settings are all that can be set, for every command: services that share a file ignore what is not theirs.
// docs/configuration.md is printed from it.
type settings struct {
	Listen                string `help:"address for clients, REST and the page; empty: 127.0.0.1:8080 for standalone, :8080 for the others"`
	TLSListen             string `default:"127.0.0.1:8443" help:"standalone: address for https; empty: no https"`
	TLSClientCertificates bool   `help:"standalone: ask clients for a certificate over https, for connect events to carry; it is not verified, so that their handler must, and browsers may ask people which one to show"`
	OpsListen             string `help:"address of /metrics, /healthz, /readyz and /debug/pprof; empty: none for standalone, :9090 for the others"`
	Data                  string `default:"./data" help:"standalone: folder for everything that is kept"`

	AccessKey          string `secret:"true" help:"signs and verifies tokens of tenants without keys of their own; at least 32 characters; standalone makes one"`
	AccessKeySecondary string `secret:"true" help:"a second valid key, for replacing the first without dropping anyone"`

	Emulator bool `help:"standalone: accept the well-known key of the vendor's emulator as well, so that its connection string works; for loopback addresses only"`

	Redis    redisconn.Config
	Postgres struct {
		URL string `secret:"true" help:"postgres://user:password@host:5432/database; empty in standalone: SQLite in the data folder"`
	}
	Gateway struct {
		URL string `help:"where the events and API services reach the gateways' REST API, such as http://gateway:8080"`
		gateway.Config
	}
	Auth struct {
		Guests       bool          `default:"true" help:"people may sign in with a name alone"`
		LegacyGuests bool          `help:"accept the original Chatr's browser client, which has no sign-in; anybody can then take any unprefixed user id"`
		SessionKey   string        `secret:"true" help:"signs session cookies; at least 32 characters; standalone makes one"`
		SessionTime  time.Duration `default:"720h" help:"how long a session lasts"`
	}
	Chat struct {
		Tenant    string        `default:"default" help:"tenant that the chat belongs to"`
		Hub       string        `default:"chat" help:"hub that the chat uses"`
		Origins   []string      `help:"gateways that the events service listens to, by the host name they announce (gateway.upstream.origin); *: any; empty: what gateways with the same settings announce"`
		IdleAfter time.Duration `default:"60s" help:"time without mouse, key, touch or scroll until a person is shown as idle"`
		PublicURL string        `help:"public address of the page, such as https://chat.example.com; empty: what each request says"`
		Proxies   int           `help:"reverse proxies in front of the API service that append to X-Forwarded-For"`
		Endpoint  string        `help:"public address of the gateways, such as https://chat.example.com; empty: the one the page was asked under"`
		LogAge    time.Duration `default:"168h" help:"how long the message log keeps what nobody has read"`
		LogLength int64         `default:"1000000" help:"how many messages the message log keeps"`
	}
	Log     obs.Config
	Tenants []tenant.Tenant `file:"only" help:"tenants and their hubs, read again when the file changes; see below"`
}

// minKey is the least length of a key that signs.
const minKey = 32

// load reads the settings of a command, and says from which files.
func load(name string, args []string, out io.Writer) (s *settings, files []string, err error) {
	s = &settings{}
	files, err = config.Load(s, name, config.Source{Args: args, Env: os.Environ()}, out)
	if errors.Is(err, config.ErrHelp) {
		return nil, nil, err
	}
	return s, files, errors.Join(err, s.validate())
}

// validate reports everything that is wrong for any command.
func (s *settings) validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, a := range [][2]string{{"listen", s.Listen}, {"tlsListen", s.TLSListen}, {"opsListen", s.OpsListen}} {
		if _, _, err := net.SplitHostPort(a[1]); a[1] != "" && err != nil {
			wrong("%s %q must have a port, such as 127.0.0.1:8080, or :8080 for all addresses", a[0], a[1])
		}
	}
	for _, k := range [][2]string{{"accessKey", s.AccessKey}, {"accessKeySecondary", s.AccessKeySecondary}, {"auth.sessionKey", s.Auth.SessionKey}} {
		if k[1] != "" && len(k[1]) < minKey {
			wrong("%s has %d characters; it needs at least %d", k[0], len(k[1]), minKey)
		}
	}
	if s.AccessKeySecondary != "" && s.AccessKey == "" {
		wrong("accessKeySecondary is set without accessKey")
	}
	for _, e := range append([]string{s.Gateway.URL, s.Gateway.PublicEndpoint}, s.Gateway.AcceptedEndpoints...) {
		if e != "" && !isEndpoint(e) {
			wrong("gateway endpoint %q must be http://host[:port] or https://host[:port]", e)
		}
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"gateway.drainTime", s.Gateway.DrainTime, time.Millisecond},
		{"auth.sessionTime", s.Auth.SessionTime, time.Second},
		{"chat.idleAfter", s.Chat.IdleAfter, time.Second},
	} {
		if d.value < d.least {
			wrong("%s is %v; it must be at least %v", d.name, d.value, d.least)
		}
	}
	for _, n := range []struct {
		name         string
		value, least int64
	}{
		{"gateway.handshakes", int64(s.Gateway.Handshakes), 1},
		{"gateway.upstream.lifecycleQueue", int64(s.Gateway.Upstream.LifecycleQueue), 1},
		{"gateway.upstream.inFlight", int64(s.Gateway.Upstream.InFlight), 1},
		{"chat.proxies", int64(s.Chat.Proxies), 0},
		{"chat.logLength", s.Chat.LogLength, 1},
	} {
		if n.value < n.least {
			wrong("%s is %d; it must be at least %d", n.name, n.value, n.least)
		}
	}
	return errors.Join(problems...)
}

// isEndpoint tells whether e is where a server can be reached over http.
func isEndpoint(e string) bool {
	u, err := url.Parse(e)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// require reports the settings among these that are empty.
func require(settings ...[2]string) error {
	var problems []error
	for _, s := range settings {
		if s[1] == "" {
			problems = append(problems, fmt.Errorf("%s is not set; it is needed unless everything runs in one process (chatr standalone)", s[0]))
		}
	}
	return errors.Join(problems...)
}

func runSettings(_ context.Context, _ []string, out io.Writer) error {
	config.WriteMarkdown(out, &settings{})
	return nil
}
