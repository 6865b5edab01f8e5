// Package redisconn opens clients of the one Redis that a deployment shares: a single server or one found by
// Sentinel. Its clients fail within seconds and never send a command twice by themselves, since a second PUBLISH
// or XADD would double what it carries; callers decide.
package redisconn

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// timeout bounds a dial and the wait for each answer.
const timeout = 3 * time.Second

// Config says which Redis, and what of it is ours.
type Config struct {
	URL    string `secret:"true" help:"redis://user:password@host:6379/0, rediss:// for TLS; ?master_name=NAME&addr=HOST:PORT&password=… for Sentinel"`
	Prefix string `default:"chatr" help:"first part of every key and channel, so that deployments can share a server"`
}

var prefix = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Validate reports everything that is wrong with c; its text does not contain the URL, which may hold a password.
func (c Config) Validate() error {
	var problems []error
	if !prefix.MatchString(c.Prefix) {
		problems = append(problems, fmt.Errorf("redis.prefix %.80q is invalid: it must have 1 to 64 letters, digits or any of _ . -", c.Prefix))
	}
	if _, err := c.options(); err != nil {
		problems = append(problems, err)
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
		return nil, err
	}
	logging.Disable() // go-redis prints lines of its own to stderr; what matters of them comes back as errors
	return o.open(), nil
}

// options are those of a single server or those of Sentinel.
type options struct {
	server   *redis.Options
	sentinel *redis.FailoverOptions
}

func (c Config) options() (options, error) {
	u, err := url.Parse(c.URL)
	if err != nil { // its text quotes the URL
		return options{}, errors.New("redis.url is not a URL; characters such as / ? # @ in a password must be percent-encoded")
	}
	var o options
	if u.Query().Has("master_name") {
		o.sentinel, err = redis.ParseFailoverURL(c.URL)
	} else {
		o.server, err = redis.ParseURL(c.URL)
	}
	if err != nil {
		return options{}, fmt.Errorf("redis.url: %w; write it like redis://host:6379/0", err)
	}
	return o, nil
}

func (o options) open() redis.UniversalClient {
	if s := o.sentinel; s != nil {
		s.Protocol = 2
		s.MaxRetries, s.DialerRetries = -1, 1
		s.DialTimeout, s.ReadTimeout, s.WriteTimeout = timeout, timeout, timeout
		s.ContextTimeoutEnabled = true
		return redis.NewFailoverClient(s)
	}
	s := o.server
	s.Protocol = 2 // push messages of version 3 would cost every read a look
	s.MaxRetries, s.DialerRetries = -1, 1
	s.DialTimeout, s.ReadTimeout, s.WriteTimeout = timeout, timeout, timeout
	s.ContextTimeoutEnabled = true
	s.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(s)
}
