package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// httpClient is for calls by tests. The default client's connections are closed whenever a test ends an httptest.Server, also one that
// another test is about to use.
var httpClient = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

const key = "a key of thirty-two bytes or more."

// setup is what a test wants to be different.
type setup struct {
	config Config
	tenant tenant.Tenant
	bus    cluster.Bus
	log    messagelog.Log
}

// server is a gateway at work on a port of its own.
type server struct {
	*Gateway
	t    testing.TB
	url  string
	stop func() // ends Run's context; the gateway has stopped when stopped is closed
	done chan struct{}
}

func start(t testing.TB, s setup) *server {
	t.Helper()
	if s.tenant.Name == "" {
		s.tenant.Name = "default"
	}
	if s.tenant.Hosts == nil {
		s.tenant.Hosts = []string{"*"}
	}
	s.tenant.Keys = tenant.Keys{Primary: key}
	tenants, err := tenant.NewStatic(s.tenant)
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, s, tenants)
}

func startWith(t testing.TB, s setup, tenants tenant.Source) *server {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	g, err := New(s.config, Deps{Tenants: tenants, Log: s.log, Bus: s.bus, Logger: logger, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, g)
}

// serve runs g on a port of its own until the end of the test and returns when it is ready. A drain asks clients to
// leave at once; what it then waits for has minutes, so that no test depends on how fast that comes.
func serve(t testing.TB, g *Gateway) *server {
	t.Helper()
	g.cfg.DrainTime, g.leaveSpan, g.giveUpAfter = 2*patience, 100*time.Millisecond, 200*time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	http := httptest.NewServer(g.Handler())
	srv := &server{Gateway: g, t: t, url: http.URL, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(srv.done)
		if err := g.Run(ctx); err != nil {
			t.Errorf("got %v from Run, want nil", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-srv.done
		http.Close()
	})
	testkit.Eventually(t, patience, func() bool { return g.Ready(ctx) == nil }, "the gateway is ready")
	return srv
}

// tenantWith returns a source of one tenant, with what start fills in.
func tenantWith(t testing.TB, t1 tenant.Tenant) *tenant.Static {
	t.Helper()
	t1.Name, t1.Hosts = "default", []string{"*"}
	source, err := tenant.NewStatic(t1)
	must(t, err)
	return source
}

// pair is two gateways on one bus: in memory, and on Redis.
func pairs(t *testing.T, test func(t *testing.T, a, b *server)) {
	pairsOf(t, setup{}, test)
}

// pairsOf is pairs of gateways with the same setup.
func pairsOf(t *testing.T, s setup, test func(t *testing.T, a, b *server)) {
	on := func(bus cluster.Bus) *server {
		s := s
		s.bus = bus
		return start(t, s)
	}
	t.Run("memory", func(t *testing.T) {
		net := membus.NewNetwork()
		test(t, on(net.Bus()), on(net.Bus()))
	})
	t.Run("redis", func(t *testing.T) {
		redis := testkit.Redis(t)
		test(t, on(redisBus(t, redis.URL)), on(redisBus(t, redis.URL)))
	})
}

// pairsInEachCodec is pairs in each subprotocol, one after the other on the same gateways, each with an empty hub.
func pairsInEachCodec(t *testing.T, test func(t *testing.T, a, b *server, codec string)) {
	pairs(t, func(t *testing.T, a, b *server) {
		eachCodec(t, func(t *testing.T, codec string) {
			a, b := *a, *b // their clients belong to this test
			a.t, b.t = t, t
			test(t, &a, &b, codec)
			everybody := webpubsub.Audience{Hub: chat}
			must(t, a.node.Close(within(t), everybody, "the test is over"))
			eventually(t, "all have left", func() bool {
				exists, err := a.node.Exists(within(t), everybody)
				return err == nil && !exists
			})
		})
	})
}

// pairsInEachPubSub is pairsInEachCodec for what has acks.
func pairsInEachPubSub(t *testing.T, test func(t *testing.T, a, b *server, codec string)) {
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		if codec != "" {
			test(t, a, b, codec)
		}
	})
}

func redisBus(t testing.TB, url string) cluster.Bus {
	t.Helper()
	bus, err := redisbus.New(redisbus.Config{URL: url, Prefix: "test"}, redisbus.Backlog{Window: time.Minute, Bytes: 64 << 20}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

// all is every role there is.
var all = []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}

// clientURL returns the address at which user connects to hub chat.
func (s *server) clientURL(user string, roles []string, groups ...string) string {
	s.t.Helper()
	raw, err := token.Sign(key, s.url+"/client/hubs/chat", time.Hour, token.Options{Subject: user, Roles: roles, Groups: groups})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.url + "/client/hubs/chat?access_token=" + url.QueryEscape(raw)
}

// dial connects to address; no codec name means a simple client.
func (s *server) dial(address, codec string) *wsclient.Client {
	s.t.Helper()
	c, err := s.tryDial(address, codec)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *server) tryDial(address, codec string) (*wsclient.Client, error) {
	s.t.Helper()
	c, err := wsclient.Dial(within(s.t), address, wsclient.Options{Subprotocols: offer(codec)})
	if err == nil {
		s.t.Cleanup(c.Drop)
	}
	return c, err
}

func offer(codec string) []string {
	if codec == "" {
		return nil
	}
	return []string{codec}
}

// join connects user to groups with every role.
func (s *server) join(codec, user string, groups ...string) *wsclient.Client {
	s.t.Helper()
	return s.dial(s.clientURL(user, all, groups...), codec)
}

func (s *server) rest() *dataplane.Client {
	return dataplane.New(s.url, key, "chat", dataplane.Options{})
}

// patience bounds what should happen soon. It only ends a test that hangs: no result may depend on it.
const patience = time.Minute

// within is the time that a step of a test may take.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive returns the text of the next message.
func receive(t testing.TB, c *wsclient.Client) string {
	t.Helper()
	m, err := c.Receive(within(t))
	if err != nil {
		t.Fatalf("got %v, want a message", err)
	}
	return string(m.Data.Bytes)
}

func wantMessage(t testing.TB, c *wsclient.Client, want string) {
	t.Helper()
	if got := receive(t, c); got != want {
		t.Fatalf("got message %.100q, want %.100q", got, want)
	}
}

// wantClose waits for the end of the connection and checks how it ended.
func wantClose(t testing.TB, c *wsclient.Client, code int) *wsclient.CloseError {
	t.Helper()
	e, err := c.Wait(within(t))
	if err != nil {
		t.Fatalf("the connection is still open, want it closed with %d", code)
	}
	if e.Code != code {
		t.Fatalf("got close code %d (%s), want %d", e.Code, e.Reason, code)
	}
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFailure checks that err is a refused ack of that name.
func wantFailure(t testing.TB, err error, name string) {
	t.Helper()
	var failure *protocol.Failure
	if !errors.As(err, &failure) || failure.Name != name {
		t.Fatalf("got %v, want a failure named %s", err, name)
	}
}

func text(s string) webpubsub.Data { return webpubsub.Text(s) }

// codecs are the subprotocols; an empty name is the simple client.
var codecs = []string{"", protocol.NameJSON, protocol.NameReliableJSON, protocol.NameProtobuf, protocol.NameReliableProtobuf}

// eachCodec runs test in every subprotocol.
func eachCodec(t *testing.T, test func(t *testing.T, codec string)) {
	for _, codec := range codecs {
		name := codec
		if name == "" {
			name = "simple"
		}
		t.Run(name, func(t *testing.T) { test(t, codec) })
	}
}

// eachPubSub runs test in every subprotocol that has acks.
func eachPubSub(t *testing.T, test func(t *testing.T, codec string)) {
	eachCodec(t, func(t *testing.T, codec string) {
		if codec != "" {
			test(t, codec)
		}
	})
}

// reliableCodec reports whether connections of a subprotocol can be recovered.
func reliableCodec(name string) bool {
	codec, ok := protocol.ByName(name)
	return ok && codec.Reliable()
}

// eachReliable runs test in every subprotocol whose connections can be recovered.
func eachReliable(t *testing.T, test func(t *testing.T, codec string)) {
	eachPubSub(t, func(t *testing.T, codec string) {
		if isReliable(codec) {
			test(t, codec)
		}
	})
}

func isReliable(codec string) bool {
	return codec == protocol.NameReliableJSON || codec == protocol.NameReliableProtobuf
}

func isProtobuf(codec string) bool {
	return codec == protocol.NameProtobuf || codec == protocol.NameReliableProtobuf
}

// chat is the hub that tests use.
var chat = webpubsub.HubKey{Tenant: "default", Hub: "chat"}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, patience, cond, what)
}

// isClosed reports whether err is a close with that code.
func isClosed(err error, code int) bool {
	var e *wsclient.CloseError
	return errors.As(err, &e) && e.Code == code
}
