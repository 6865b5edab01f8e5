package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// tokenSettings are the flags of chatr token.
type tokenSettings struct {
	Endpoint  string        `default:"http://localhost:8080" help:"public address of the gateways"`
	AccessKey string        `secret:"true" min:"32" unit:"bytes" help:"key that signs; empty: the one that standalone keeps in the data folder"`
	Data      string        `default:"./data" help:"standalone's data folder"`
	Hub       string        `default:"chat" help:"hub to connect to"`
	User      string        `help:"user id; empty: none"`
	Role      []string      `help:"roles, such as webpubsub.joinLeaveGroup,webpubsub.sendToGroup"`
	Group     []string      `help:"groups to be in from the start"`
	Lifetime  time.Duration `default:"1h" min:"1s" help:"how long the token can be used to connect"`
	Claim     []string      `help:"further claims for the application's connect handler, such as plan=gold,team=red"`

	ConnectionString string `secret:"true" help:"instead of endpoint and key: Endpoint=…;AccessKey=…, with a ClientEndpoint=… if clients have one of their own"`
	REST             string `help:"print a token for this URL of the REST API instead, such as http://localhost:8080/api/hubs/chat/:send"`
	TokenOnly        bool   `help:"print the token without the address"`

	Tenants []tenant.Tenant `alone:"true" help:"those of the gateways' file, for their keys"`
}

func runToken(_ context.Context, args []string, out io.Writer) error {
	var s tokenSettings
	loaded, err := config.Load(&s, "token", config.Source{Args: args, Env: tokenEnv(), Intro: toolIntro + subprotocolIntro(), Others: &settings{}}, out)
	if err != nil {
		return err
	}
	if err := s.useTenantsKey(loaded); err != nil {
		return err
	}
	if err := s.findKey(); err != nil {
		return err
	}
	if _, err := webpubsub.ParseHub(s.Hub); err != nil {
		return err
	}
	if len(s.AccessKey) < minKey { // it may come from a connection string, a tenant or a folder
		return fmt.Errorf("the access key has %d bytes; at least %d are needed", len(s.AccessKey), minKey)
	}
	endpoint := strings.TrimSuffix(s.Endpoint, "/")
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return fmt.Errorf("--endpoint %q must start with http:// or https://", s.Endpoint)
	}
	if s.REST != "" {
		return s.printREST(out)
	}
	claims, err := s.claims()
	if err != nil {
		return err
	}
	path := endpoint + "/client/hubs/" + s.Hub
	signed, err := token.Sign(s.AccessKey, path, s.Lifetime, token.Options{Subject: s.User, Roles: s.Role, Groups: s.Group, Claims: claims})
	if err != nil {
		return err
	}
	if !s.TokenOnly {
		signed = "ws" + strings.TrimPrefix(path, "http") + "?access_token=" + signed
	}
	_, err = fmt.Fprintln(out, signed)
	return err
}

// useTenantsKey takes the key of the tenant that the endpoint's host means, when the gateways' file is given and no key is
// given outside of it.
func (s *tokenSettings) useTenantsKey(loaded *config.Loaded) error {
	place := loaded.Place("accessKey")
	u, err := url.Parse(either(s.REST, s.Endpoint))
	if err != nil || s.ConnectionString != "" || strings.HasPrefix(place, "--") || strings.HasPrefix(place, "CHATR_") {
		return nil
	}
	if t := tenant.ByHost(s.Tenants, u.Host); t != nil && t.Keys.Primary != "" {
		if s.AccessKey, err = tenant.ReadKey(t.Keys.Primary); err != nil {
			return fmt.Errorf("the primary key of tenant %s: %w", t.Name, err)
		}
	}
	return nil
}

// findKey takes the key from where it is given.
func (s *tokenSettings) findKey() error {
	switch {
	case s.ConnectionString != "" && s.AccessKey != "":
		return errors.New("--access-key and --connection-string are both given; keep one")
	case s.ConnectionString != "":
		c, err := token.ParseConnectionString(s.ConnectionString)
		s.AccessKey, s.Endpoint = c.AccessKey, either(c.ClientEndpoint, c.Endpoint)
		return err
	case s.AccessKey != "":
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.Data, accessKeyFile)); err != nil { // a key made here would be nobody's
		return fmt.Errorf("no access key: give --access-key, --connection-string, or --data with the folder of chatr standalone (%w)", err)
	}
	var err error
	s.AccessKey, err = keptKey(s.Data, accessKeyFile)
	return err
}

// printREST prints what stands behind "Authorization: Bearer" of a request.
func (s *tokenSettings) printREST(out io.Writer) error {
	if len(s.Role)+len(s.Group)+len(s.Claim) > 0 || s.User != "" {
		return errors.New("--rest makes a token for an application, which has no --user, --role, --group and --claim")
	}
	if u, err := url.Parse(s.REST); err != nil || u.Host == "" || !strings.HasPrefix(u.Path, "/api/") {
		return fmt.Errorf("--rest %q must be the URL of a request, such as http://localhost:8080/api/hubs/chat/:send", s.REST)
	}
	signed, err := token.Sign(s.AccessKey, s.REST, s.Lifetime, token.Options{})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, signed)
	return err
}

// claims reads name=value; a name that is given twice has a list of values.
func (s *tokenSettings) claims() (map[string][]string, error) {
	claims := map[string][]string{}
	for _, text := range s.Claim {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %q must be of the form name=value", text)
		}
		claims[name] = append(claims[name], value)
	}
	return claims, nil
}

// toolIntro stands in the help of commands that are no services.
const toolIntro = `The key and the data folder can also be set in the environment: CHATR_ACCESS_KEY,
CHATR_ACCESS_KEY_FILE, CHATR_CONNECTION_STRING, CHATR_CONNECTION_STRING_FILE, CHATR_DATA.
--config may name the gateways' file: the key is then that of the tenant that the endpoint's host means.`

// subprotocolIntro says how to speak at the URL.
func subprotocolIntro() string {
	text := "\n\nThe URL is printed. A client that connects to it offers one of these subprotocols, or none and has raw frames:\n"
	for _, c := range protocol.Codecs[1:] {
		text += "  " + c.Name() + "\n"
	}
	return strings.TrimSuffix(text, "\n")
}

// tokenEnv keeps from the environment what this command shares with the services; their other settings are not
// errors here.
func tokenEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "CHATR_ACCESS_KEY=") || strings.HasPrefix(kv, "CHATR_ACCESS_KEY_FILE=") || strings.HasPrefix(kv, "CHATR_DATA=") ||
			strings.HasPrefix(kv, "CHATR_CONNECTION_STRING=") || strings.HasPrefix(kv, "CHATR_CONNECTION_STRING_FILE=") {
			env = append(env, kv)
		}
	}
	return env
}
