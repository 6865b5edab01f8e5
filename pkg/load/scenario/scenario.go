// Package scenario says what a load run does: the settings, and the plan that a seed makes of them.
//
// The same scenario with the same seed gives the same plan: which client is in which group, speaks which subprotocol, and
// publishes what to which group in which order. When the network answers is not part of a plan.
package scenario

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/load/truth"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Scenario is what to do to an endpoint. Rates are per second over all connections; zero is none.
type Scenario struct {
	Name     string `default:"load" help:"name of the run, for reports"`
	Endpoint string `default:"http://localhost:8080" help:"address of the gateways, or of any Web PubSub service; several, separated by commas, are used in turn"`
	Hub      string `default:"bench" help:"hub to connect to"`
	Seed     int64  `default:"1" help:"the same seed makes the same plan"`

	Connections  int           `default:"100" min:"1" max:"1000000" help:"connections to open"`
	Ramp         time.Duration `default:"2s" min:"0s" help:"time over which connections are opened; 0s: all at once, a storm"`
	Subprotocols []string      `default:"json" help:"what connections speak: json, reliable (JSON), protobuf, reliable-protobuf or simple, with weights, such as json:8,reliable:1,simple:1"`
	Sources      []string      `help:"local addresses to connect from in turn, such as 127.0.0.1,127.0.0.2: each has about 28,000 ports for each endpoint"`

	Groups  Groups
	Publish Publish
	Churn   Churn
	REST    REST
	Event   Event
	Slow    Slow
	Storm   Storm
	Chat    Chat

	Warmup   time.Duration `default:"1s" min:"0s" help:"time before measuring begins, under load"`
	Duration time.Duration `default:"10s" min:"1ms" help:"time of measuring"`
	Settle   time.Duration `default:"5s" min:"0s" help:"longest wait for what is under way at the end"`
	InFlight time.Duration `default:"1s" min:"0s" help:"how long a message may be under way: what was sent less than that before a leave need not arrive"`
}

// Groups says how clients are divided among groups.
type Groups struct {
	Count         int    `default:"10" min:"0" max:"1000000" help:"groups; 0: none"`
	PerConnection int    `default:"1" min:"0" max:"1000000" help:"groups that each connection joins"`
	Sizes         string `default:"even" help:"even: all of one size; big:60: one with 60 % of the connections, the rest even; zipf:1.1: the n-th has a share of 1/n^1.1"`
}

// Publish is group messages by connections.
type Publish struct {
	Rate    int      `min:"0" max:"10000000" help:"messages per second, sent when they are due whatever is still unanswered (open loop)"`
	Window  int      `min:"0" max:"1000000" help:"instead of a rate: messages that are kept unanswered (closed loop). Finds the most that is possible; its latencies hide waiting"`
	Sizes   []string `default:"128" help:"bytes of payload, with weights, such as 128:9,4096:1"`
	Outside int      `min:"0" max:"1000000" help:"connections in no group that do all the publishing; 0: members publish to their groups"`
	NoEcho  bool     `help:"senders do not get their own messages; there is then no round-trip latency"`
}

// Churn is memberships that come and go.
type Churn struct {
	Rate int `min:"0" max:"10000000" help:"members per second that leave a group and join it again"`
}

// REST is what applications send.
type REST struct {
	GroupRate int `min:"0" max:"10000000" help:"messages per second to groups by REST"`
	UserRate  int `min:"0" max:"10000000" help:"private messages per second, to a user each, by REST"`
}

// Event is what handlers are asked. The hub needs an event handler for it.
type Event struct {
	Rate   int    `min:"0" max:"10000000" help:"events per second by connections"`
	Name   string `default:"load" help:"name of the event"`
	Invoke bool   `help:"invoke, and wait for the handler's answer, instead of sending an event"`
}

// Slow is receivers that do not keep up. They are there to see what they do to the others; what they miss is not counted.
type Slow struct {
	Connections int `min:"0" max:"1000000" help:"connections, of all, that read slowly"`
	Rate        int `default:"1024" min:"1" max:"1073741824" help:"bytes per second that each of them reads"`
}

// Storm is connections lost and made again.
type Storm struct {
	Every time.Duration `min:"0s" help:"time between storms; 0s: none"`
	Share int           `default:"10" min:"1" max:"100" help:"percent of the connections that each storm cuts; reliable ones recover, the others begin anew"`
}

// Chat makes the connections people who chat with Chatr, rather than clients of a bare hub.
type Chat struct {
	Journeys bool `help:"connections are guests who sign in, open rooms (the groups) and type into them; endpoint is where Chatr's page is, and no key is needed"`
	IdleRate int  `min:"0" max:"10000000" help:"people per second who go idle or come back, in chat journeys"`
}

func (c *Chat) validate(s *Scenario, p *problems) {
	if !c.Journeys {
		if c.IdleRate > 0 {
			p.add("chat.idleRate is set without chat.journeys")
		}
		return
	}
	for _, choice := range s.Subprotocols {
		if strings.HasPrefix(choice, "simple") {
			p.add("chat.journeys: people have no simple connections; leave simple out of subprotocols")
		}
	}
	if s.REST.GroupRate > 0 || s.REST.UserRate > 0 || s.Event.Rate > 0 || s.Publish.Outside > 0 {
		p.add("chat.journeys: people make no REST calls and no events of your own, and only those in a room type into it; leave out rest, event and publish.outside")
	}
	sizes, _ := weighted(s.Publish.Sizes) // reported elsewhere
	for _, w := range sizes {
		if n, err := strconv.Atoi(w.value); err == nil && n > maxLine {
			p.add("chat.journeys: a line has at most %d characters, so publish.sizes cannot be %d", maxLine, n)
		}
	}
}

// maxLine is the limit of a chat's message in characters (docs/chat.md section 5).
const maxLine = 8000

// Subprotocol is what a connection speaks.
type Subprotocol uint8

// The subprotocols, as scenarios name them.
const (
	JSON Subprotocol = iota
	Reliable
	Simple
	Protobuf
	ReliableProtobuf
)

var subprotocols = []string{"json", "reliable", "simple", "protobuf", "reliable-protobuf"}

func (s Subprotocol) String() string { return subprotocols[s] }

// maxPayload is the length of a message in bytes, at most (client-json.md section 11).
const maxPayload = 1 << 20

// Validate reports everything that is wrong, bounds that the declarations have among it: a scenario may come from a coordinator.
func (s *Scenario) Validate() error {
	var p problems
	config.Check(s, "", func(path string, err error) { p.add("%s %w", path, err) })
	for _, e := range s.Endpoints() {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			p.add("endpoint %q must look like http://localhost:8080 or https://example.com", e)
		}
	}
	if len(s.Endpoints()) == 0 {
		p.add("endpoint is empty; it must look like http://localhost:8080")
	}
	if _, err := webpubsub.ParseHub(s.Hub); err != nil {
		p.add("%w", err)
	}
	for _, a := range s.Sources {
		if _, err := netip.ParseAddr(a); err != nil {
			p.add("sources: %q is not an IP address", a)
		}
	}
	_, err := s.subprotocolWeights()
	p.err("subprotocols", err)
	s.Groups.validate(&p)
	s.Publish.validate(&p)
	s.Chat.validate(s, &p)
	if s.Groups.Count == 0 && (s.Publish.Rate > 0 || s.Publish.Window > 0 || s.Churn.Rate > 0 || s.REST.GroupRate > 0) {
		p.add("groups.count is 0, but something is to be sent to groups, or they are to be left and joined")
	}
	if err := webpubsub.CheckEvent(s.Event.Name); err != nil {
		p.err("event.name", err)
	}
	if s.Event.Invoke && strings.Contains(strings.Join(s.Subprotocols, ","), "protobuf") {
		p.add("event.invoke: the protobuf subprotocols have no invocations; leave them out of subprotocols")
	}
	if most := max(s.Connections-1, 0); s.Slow.Connections > most {
		p.add("slow.connections is %d; it must be at most %d, so that somebody keeps up", s.Slow.Connections, most)
	}
	slices.SortFunc(p, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(p...)
}

func (g *Groups) validate(p *problems) {
	if g.Count > 0 {
		if g.PerConnection > g.Count {
			p.add("groups.perConnection is %d; it must be at most %d, which is how many groups there are", g.PerConnection, g.Count)
		}
		_, err := g.weights()
		p.err("groups.sizes", err)
	}
}

func (pub *Publish) validate(p *problems) {
	if pub.Rate > 0 && pub.Window > 0 {
		p.add("publish.rate and publish.window are both set; a run is either open or closed loop")
	}
	sizes, err := weighted(pub.Sizes)
	p.err("publish.sizes", err)
	for _, w := range sizes {
		n, err := strconv.Atoi(w.value)
		if err != nil || n < truth.StampSize || n > maxPayload {
			p.add("publish.sizes: %q must be a number of bytes from %d (what says which message it is) to %d", w.value, truth.StampSize, maxPayload)
		}
	}
}

// Endpoints lists the endpoints without trailing slashes.
func (s *Scenario) Endpoints() []string {
	var list []string
	for e := range strings.SplitSeq(s.Endpoint, ",") {
		if e = strings.TrimRight(strings.TrimSpace(e), "/"); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// problems collects what is wrong.
type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) err(name string, err error) {
	if err != nil {
		p.add("%s: %w", name, err)
	}
}

// weight is one choice of several and how often it is taken, relative to the others.
type weight struct {
	value string
	share float64
}

// weighted reads choices such as "json:8", "simple"; a missing weight is 1.
func weighted(list []string) ([]weight, error) {
	var all []weight
	for _, item := range list {
		value, share, given := strings.Cut(item, ":")
		w := weight{value, 1}
		if given {
			n, err := strconv.ParseFloat(share, 64)
			if err != nil || !(n > 0 && n < 1e9) {
				return nil, fmt.Errorf("the weight of %q must be a number above 0", item)
			}
			w.share = n
		}
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, errors.New("is empty")
	}
	return all, nil
}

func (s *Scenario) subprotocolWeights() ([]weight, error) {
	all, err := weighted(s.Subprotocols)
	for _, w := range all {
		if !slices.Contains(subprotocols, w.value) {
			return nil, fmt.Errorf("there is no %q; choose of %s", w.value, strings.Join(subprotocols, ", "))
		}
	}
	return all, err
}
