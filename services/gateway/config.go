package gateway

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// Config is what operators may set. A zero duration or number means the default.
type Config struct {
	DrainTime      time.Duration        `default:"20s" min:"1ms" max:"1h" help:"how long connections may take to leave on shutdown"`
	RecoveryTime   time.Duration        `default:"30s" min:"100ms" max:"10m" help:"how long a reliable connection waits for its client to come back"`
	Handshakes     int                  `default:"1000" min:"1" max:"1000000" help:"handshakes under way at once, of which one tenant may have at most three quarters; more get 503 with Retry-After"`
	Lease          time.Duration        `default:"6s" min:"1s" max:"5m" help:"how long after its last sign of life a gateway counts as dead, and others tell event handlers of the end of its connections"`
	PeerAddress    string               `help:"address at which other gateways reach the operations listener of this one, as host:port, to ask it whether Redis is there when it is not for them; empty: the port of opsListen, at the address from which this process reaches Redis"`
	HandshakeRate  int                  `default:"5000" min:"1" max:"1000000" help:"handshakes a second, as many at once after a quiet second; clients above it get 503 and Retry-After, so that a crowd that returns comes in order"`
	MemoryLimit    int64                `min:"0" help:"bytes of memory near which clients are refused and connections ended, before the kernel ends the process; 0: the limit of its control group, else GOMEMLIMIT"`
	AcceptedHosts  []string             `old:"gateway.acceptedEndpoints" help:"hosts that a token's audience may name, each as host[:port] or https://host[:port]; none: any"`
	PublicURL      string               `old:"gateway.publicEndpoint" help:"public address of the gateways, such as https://chat.example.com: what generated client tokens are for, and where the page finds the gateways; empty: what each request says"`
	TrustedProxies httpx.TrustedProxies `old:"gateway.proxies" help:"reverse proxies in front, whose X-Forwarded-For says where clients are, for rules about networks: their addresses and ranges, or one whole number: how many of them append to it; none: nobody is believed"`
	Records        []string             `oneof:"connectivity http messaging" help:"resource logs to write beside the log, as JSON lines in the form of the cloud service's: connectivity, http, messaging"`
	Backlog        redisbus.Backlog
	Redis          redisbus.Config `config:"-"` // set for the whole process; an empty URL: this node is the only one
	Upstream       upstream.Config
}

// Validate reports what is wrong with c, beyond what the declarations say.
func (c *Config) Validate() error {
	var problems []error
	for i, host := range c.AcceptedHosts {
		if err := httpx.CheckAcceptedHost(host); err != nil {
			problems = append(problems, config.Errorf(fmt.Sprintf("acceptedHosts[%d]", i), "%.140q %w", host, err))
		}
	}
	if err := httpx.CheckPublicURL(c.PublicURL); c.PublicURL != "" && err != nil {
		problems = append(problems, config.Errorf("publicUrl", "%.140q %w", c.PublicURL, err))
	}
	if err := httpx.CheckAcceptedHost(c.Upstream.PublicURL); c.Upstream.PublicURL != "" && err != nil {
		problems = append(problems, config.Errorf("upstream.publicUrl", "%.140q %w", c.Upstream.PublicURL, err))
	}
	if _, _, err := net.SplitHostPort(c.PeerAddress); c.PeerAddress != "" && err != nil {
		problems = append(problems, config.Errorf("peerAddress", "%.140q is not an address; write host:port, such as 10.0.0.7:9090", c.PeerAddress))
	}
	return errors.Join(problems...)
}
