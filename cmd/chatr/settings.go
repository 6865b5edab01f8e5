package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/httpx"
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

	AccessKey          string `secret:"true" min:"32" unit:"bytes" help:"signs and verifies tokens of tenants without keys of their own; at least 32 bytes; standalone makes one"`
	AccessKeySecondary string `secret:"true" min:"32" unit:"bytes" help:"a second valid key, for replacing the first without dropping anyone"`

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
		SessionKey   string        `secret:"true" min:"32" unit:"bytes" help:"signs session cookies; at least 32 bytes; standalone makes one"`
		SessionTime  time.Duration `default:"720h" min:"1s" max:"87600h" help:"how long a session lasts"`
	}
	Chat struct {
		Tenant         string               `default:"default" help:"tenant that the chat belongs to"`
		Hub            string               `default:"chat" help:"hub that the chat uses"`
		AcceptedHosts  []string             `old:"chat.origins" help:"gateways that the events service listens to, by the host that they announce (gateway.upstream.publicUrl); *: any; empty: what gateways with the same settings announce"`
		IdleAfter      time.Duration        `default:"60s" min:"1s" max:"24h" help:"time without mouse, key, touch or scroll until a person is shown as idle"`
		PublicURL      string               `help:"public address of the page, such as https://chat.example.com; empty: what each request says"`
		TrustedProxies httpx.TrustedProxies `old:"chat.proxies" help:"reverse proxies in front of the API service, whose X-Forwarded-For says who signs in: their addresses and ranges, or one whole number: how many of them append to it; none: nobody is believed"`
		Endpoint       string               `instead:"gateway.publicUrl" help:"public address of the gateways for the page alone"`
		LogAge         time.Duration        `default:"168h" min:"1s" max:"87600h" help:"how long the message log keeps what nobody has read"`
		LogLength      int64                `default:"1000000" min:"1" max:"1000000000" help:"how many messages the message log keeps"`
	}
	Log     obs.Config
	Tenants []tenant.Tenant `file:"only" alone:"true" help:"tenants and their hubs, read again when the file changes; see below"`

	keyFiles     map[string][sha256.Size]byte // files that keys of tenants refer to, with their sums; zero: it cannot be read
	unreadKeys   map[int][]*tenant.Problem    // references that lead nowhere, by the tenant's index
	pageGateways string                       // where the page finds the gateways; empty: where the page itself is
}

// minKey is the least length of a key that signs.
const minKey = 32

// load reads the settings of a command.
func load(name string, args []string, out io.Writer) (*settings, *config.Loaded, error) {
	s := &settings{}
	loaded, err := config.Load(s, name, config.Source{Args: args, Env: os.Environ()}, out)
	if loaded == nil {
		return nil, nil, err
	}
	s.pageGateways = s.findPageGateways(loaded)
	s.readKeys()
	if err = errors.Join(err, loaded.Validate(), s.checkRenamed(loaded)); err == nil {
		return s, loaded, nil
	}
	if s.AccessKey == "" && (name == "standalone" || loaded.Place("accessKey") != "") {
		s.AccessKey = strings.Repeat("x", minKey) // tenants are not at fault for it
	}
	_, wrong := s.sortOut(loaded) // else they would be found one start later
	return nil, nil, errors.Join(err, joined(wrong))
}

// Validate reports what is wrong for any command, beyond what the declarations say.
func (s *settings) Validate() error {
	var problems []error
	wrong := func(path, format string, args ...any) {
		problems = append(problems, config.Errorf(path, format, args...))
	}
	for _, a := range [][2]string{{"listen", s.Listen}, {"tlsListen", s.TLSListen}, {"opsListen", s.OpsListen}} {
		if _, _, err := net.SplitHostPort(a[1]); a[1] != "" && err != nil {
			wrong(a[0], "%q must have a port, such as 127.0.0.1:8080, or :8080 for all addresses", a[1])
		}
	}
	if s.AccessKeySecondary != "" && s.AccessKey == "" {
		wrong("accessKeySecondary", "is set without accessKey; set accessKey, which is used first")
	}
	for _, a := range [][2]string{{"gateway.url", withoutPath(s.Gateway.URL)}, {"chat.publicUrl", s.Chat.PublicURL}, {"chat.endpoint", strings.Replace(s.Chat.Endpoint, "ws", "http", 1)}} {
		if err := httpx.CheckPublicURL(a[1]); a[1] != "" && err != nil {
			wrong(a[0], "%.140q %w", a[1], err)
		}
	}
	for i, host := range s.Chat.AcceptedHosts {
		if err := httpx.CheckAcceptedHost(host); host != "*" && err != nil {
			wrong(fmt.Sprintf("chat.acceptedHosts[%d]", i), "%.140q %w, or *", host, err)
		}
	}
	return errors.Join(problems...)
}

// withoutPath is a URL without its path: applications' side of the gateways may be below one, at a proxy.
func withoutPath(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	u.Path, u.RawPath = "", ""
	return u.String()
}

// checkRenamed reports a setting that is given by its name and by the one that it had for a part of it.
func (s *settings) checkRenamed(loaded *config.Loaded) error {
	if s.Chat.Endpoint != "" && s.Gateway.PublicURL != "" && !loaded.Used("gateway.publicEndpoint") {
		return errors.New("gateway.publicUrl and chat.endpoint are both given; keep gateway.publicUrl, where the page finds the gateways too")
	}
	return nil
}

// findPageGateways returns where the page finds the gateways; empty: where the page itself is. Only what is given by its present name
// counts: by its former name gateway.publicUrl was for tokens that are asked for, and nothing else.
func (s *settings) findPageGateways(loaded *config.Loaded) string {
	if s.Chat.Endpoint != "" || loaded.Used("gateway.publicEndpoint") {
		return s.Chat.Endpoint
	}
	return s.Gateway.PublicURL
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

// runSettings prints the settings for people, or with --schema the JSON schema of a settings file for tools.
func runSettings(_ context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "--schema":
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(config.Schema(&settings{}))
	case len(args) > 0:
		return errors.New("usage: chatr settings, for Markdown, or chatr settings --schema, for the JSON schema of a settings file")
	}
	config.WriteMarkdown(out, &settings{})
	fmt.Fprint(out, "\n```yaml\n")
	config.WriteExample(out, &settings{}, "tenants")
	fmt.Fprint(out, "```\n")
	return nil
}
