// Package redisconn opens clients of the one Redis that a deployment shares: a single server, one found by Sentinel, or a
// Redis Cluster. Its clients fail within seconds and never send a command twice by themselves, since a second PUBLISH
// or XADD would double what it carries; callers decide.
package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/chatr-dev/chatr/pkg/config"
)

// timeout bounds a dial and the wait for each answer.
const timeout = 3 * time.Second

// reload is how old a client may let its view of a cluster become. Without an answer that says so, a client does not
// learn of a new master earlier.
const reload = 2 * time.Second

// Config says which Redis, and what of it is ours.
type Config struct {
	URL    string `secret:"true" help:"redis://user:password@host:6379/0, rediss:// for TLS; ?master_name=NAME&addr=HOST:PORT&password=… for Sentinel; ?cluster=true&addr=HOST:PORT for a Redis Cluster"`
	Prefix string `default:"chatr" max:"64" help:"first part of every key and channel, so that deployments can share a server"`

	// Name is what the server calls the connections, where it allows that, so that others can find them (CLIENT LIST). It is for the
	// bus, which watches the role of its servers by itself. Empty: they have none, and those to a server that has lost its role are
	// thrown away.
	Name string `config:"-"`
}

// NodeName is the Config.Name of the connections over which a gateway publishes and subscribes.
func NodeName(prefix, node string) string { return prefix + ":node:" + node }

var prefix = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Validate reports everything that is wrong with c; its text does not contain the URL, which may hold a password.
func (c Config) Validate() error {
	var problems []error
	if !prefix.MatchString(c.Prefix) {
		problems = append(problems, config.Errorf("redis.prefix", "%.80q is invalid: it must have 1 to 64 letters, digits or any of _ . -", c.Prefix))
	}
	if _, err := c.options(); c.URL != "" && err != nil {
		problems = append(problems, config.Errorf("redis.url", "%w", err))
	}
	return errors.Join(problems...)
}

// Open returns a client, which connects when it is first used.
func Open(c Config) (redis.UniversalClient, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	o, err := c.options()
	if err != nil {
		return nil, config.Errorf("redis.url", "%w", err)
	}
	logging.Disable() // go-redis prints lines of its own to stderr; what matters of them comes back as errors
	if c.Name != "" { // its owner sees to it that its connections lead to the same master, and ends them together
		return o.open(c.setName, 0), nil
	}
	if o.cluster != nil { // a replica sends those who write to the master, but says to all where that is
		client := o.open(nil, lifetime).(*redis.ClusterClient)
		client.OnNewNode(func(node *redis.Client) { node.AddHook(&roleHook{}) })
		return client, nil
	}
	client := o.open(refuseReplica, lifetime)
	client.AddHook(&roleHook{})
	return client, nil
}

// setName gives a new connection its name.
func (c Config) setName(ctx context.Context, conn *redis.Conn) error {
	_ = conn.ClientSetName(ctx, c.Name).Err() // not every user of a server may
	return nil
}

// options are those of a single server, those of Sentinel, or those of a cluster.
type options struct {
	server   *redis.Options
	sentinel *redis.FailoverOptions
	cluster  *redis.ClusterOptions
}

func (c Config) options() (options, error) {
	u, err := url.Parse(c.URL)
	if err != nil { // its text quotes the URL
		return options{}, errors.New("is not a URL; characters such as / ? # @ in a password must be percent-encoded")
	}
	var o options
	switch query := u.Query(); {
	case query.Has("cluster"):
		if query.Get("cluster") != "true" || query.Has("master_name") || strings.Trim(u.Path, "/0") != "" {
			return options{}, errors.New("names a cluster, which is written redis://host:6379?cluster=true&addr=host2:6379; it has no master_name and no database but 0")
		}
		query.Del("cluster")
		u.Path, u.RawQuery = "", query.Encode()
		o.cluster, err = redis.ParseClusterURL(u.String())
	case query.Has("master_name"):
		o.sentinel, err = redis.ParseFailoverURL(c.URL)
	default:
		o.server, err = redis.ParseURL(c.URL)
	}
	if err != nil {
		return options{}, fmt.Errorf("cannot be used: %w; write it like redis://host:6379/0", err)
	}
	return o, nil
}

// Servers returns the addresses in c by which a cluster is found; none if c names no cluster.
func (c Config) Servers() []string {
	o, err := c.options()
	if err != nil || o.cluster == nil {
		return nil
	}
	return o.cluster.Addrs
}

// OpenServer returns a client of one server of the cluster that c names.
func OpenServer(c Config, addr string) (*redis.Client, error) {
	o, err := c.options()
	if err != nil {
		return nil, config.Errorf("redis.url", "%w", err)
	}
	if o.cluster == nil {
		return nil, errors.New("redis.url names no cluster")
	}
	logging.Disable()
	server := &redis.Options{Addr: addr, Username: o.cluster.Username, Password: o.cluster.Password, TLSConfig: o.cluster.TLSConfig}
	if c.Name != "" {
		server.OnConnect = c.setName
	}
	return openServer(server), nil
}

// open returns a client whose connections begin with onConnect, unless that is nil, and are used for about so long; 0: for ever.
func (o options) open(onConnect func(context.Context, *redis.Conn) error, lifetime time.Duration) redis.UniversalClient {
	switch {
	case o.sentinel != nil:
		s := o.sentinel
		s.OnConnect = onConnect
		s.ConnMaxLifetime, s.ConnMaxLifetimeJitter = cmp.Or(s.ConnMaxLifetime, lifetime), cmp.Or(s.ConnMaxLifetimeJitter, lifetimeJitter)
		s.Protocol = 2
		s.MaxRetries, s.DialerRetries = -1, 1
		s.DialTimeout, s.ReadTimeout, s.WriteTimeout = timeout, timeout, timeout
		s.ContextTimeoutEnabled = true
		return redis.NewFailoverClient(s)
	case o.cluster != nil:
		s := o.cluster
		s.OnConnect = onConnect
		s.ConnMaxLifetime, s.ConnMaxLifetimeJitter = cmp.Or(s.ConnMaxLifetime, lifetime), cmp.Or(s.ConnMaxLifetimeJitter, lifetimeJitter)
		s.Protocol = 2
		// A redirect is an attempt of the same loop that sends again after an error, so there is none: what meets slots that
		// have moved fails once, and the next command knows better.
		s.MaxRetries, s.MaxRedirects, s.DialerRetries = -1, -1, 1
		s.DialTimeout, s.ReadTimeout, s.WriteTimeout = timeout, timeout, timeout
		s.ContextTimeoutEnabled = true
		s.ClusterStateReloadInterval = reload
		s.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		return redis.NewClusterClient(s)
	}
	o.server.OnConnect = onConnect
	o.server.ConnMaxLifetime = cmp.Or(o.server.ConnMaxLifetime, lifetime)
	o.server.ConnMaxLifetimeJitter = cmp.Or(o.server.ConnMaxLifetimeJitter, lifetimeJitter)
	return openServer(o.server)
}

func openServer(s *redis.Options) *redis.Client {
	s.Protocol = 2 // push messages of version 3 would cost every read a look
	s.MaxRetries, s.DialerRetries = -1, 1
	s.DialTimeout, s.ReadTimeout, s.WriteTimeout = timeout, timeout, timeout
	s.ContextTimeoutEnabled = true
	s.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(s)
}
