package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// defaultKeepAlive is the interval of pings unless a hub sets another (client-json.md section 10).
const defaultKeepAlive = 20 * time.Second

// refusal is why a handshake gets no 101.
type refusal struct {
	status      int
	contentType string // empty: plain text
	body        string
	retryAfter  int // seconds; 0: none
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, body: fmt.Sprintf(format, args...)}
}

func refuseForNow() *refusal {
	f := refuse(http.StatusServiceUnavailable, "this node takes no new connections now; please try again")
	f.retryAfter = 1 + rand.IntN(3) // so that those who are refused together do not return together
	return f
}

func (f *refusal) Error() string { return f.body }

func (f *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if f.contentType == "" {
		http.Error(w, f.body, f.status)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.status)
	_, _ = w.Write([]byte(f.body)) // the client may be gone
}

// newcomer is a handshake on its way to a connection.
type newcomer struct {
	r      *http.Request
	tenant *tenant.Tenant
	hub    webpubsub.HubKey
	config tenant.Hub
	query  url.Values
	mode   simpleMode
	claims token.Claims

	ancestor bool // it speaks the ancestor protocol (package asrs)
}

// serveClient answers a handshake (client-json.md sections 1 and 8.2).
func (g *Gateway) serveClient(w http.ResponseWriter, r *http.Request) {
	if !socket.CheckHandshake(w, r) {
		g.metrics.refused.WithLabelValues("400").Inc()
		g.metrics.answered.WithLabelValues(clientType(r.URL.Path), "400").Inc()
		return
	}
	g.begun.Add(1)
	defer g.handshakes.Add(-1)
	var f *refusal
	if g.handshakes.Add(1) > int64(g.cfg.Handshakes) || g.draining.Load() || !g.enter() {
		f = refuseForNow()
	} else {
		f = g.connect(w, r)
	}
	if f != nil {
		g.metrics.refused.WithLabelValues(strconv.Itoa(f.status)).Inc()
		g.metrics.answered.WithLabelValues(clientType(r.URL.Path), strconv.Itoa(f.status)).Inc()
		g.tellRefusal(r, f)
		f.write(w)
		return
	}
	g.metrics.answered.WithLabelValues(clientType(r.URL.Path), "101").Inc()
}

// connect opens or recovers a connection. With a nil refusal w has been answered.
func (g *Gateway) connect(w http.ResponseWriter, r *http.Request) *refusal {
	n, f := g.parse(r)
	if f != nil {
		return f
	}
	if id := n.query.Get("awps_connection_id"); id != "" && !n.ancestor {
		return g.recover(w, n, id, n.query.Get("awps_reconnection_token"))
	}
	if !n.ancestor { // its clients' parameters are their own
		var err error
		if n.mode, err = parseMode(n.query); err != nil {
			return refuse(http.StatusBadRequest, "%v", err)
		}
	}
	if f := g.authenticate(n); f != nil {
		return f
	}
	if !g.begin(n.tenant.Name) {
		return refuseForNow()
	}
	defer g.finish(n.tenant.Name)
	if !g.admit(n.tenant) {
		f := refuse(http.StatusTooManyRequests, "Connection count reaches limit: there are %d connections, as many as this tenant may have", n.tenant.Limits.Connections)
		f.retryAfter = 5
		return f
	}
	return g.open(w, n)
}

// parse finds out what hub of which tenant is meant.
func (g *Gateway) parse(r *http.Request) (*newcomer, *refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query string is malformed")
	}
	parseHub := webpubsub.ParseHub
	name, ok := strings.CutPrefix(r.URL.Path, "/client/hubs/")
	ancestor := false
	if !ok {
		name, ancestor = asrs.ClientHub(r.URL.Path, query)
	}
	switch {
	case ok:
	case ancestor:
		parseHub = asrs.ParseHub
	case r.URL.Path == "/client" || r.URL.Path == "/client/":
		name = query.Get("hub")
	default:
		return nil, refuse(http.StatusNotFound, "there is nothing here; clients connect to /client/hubs/{hub}")
	}
	hubName, err := parseHub(name)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	hubName = strings.Clone(hubName) // it outlives the request, of whose text it is a part
	t := g.tenants.ByHost(r.Host)
	if t == nil {
		return nil, refuse(http.StatusNotFound, "no tenant has the host %.100q", r.Host)
	}
	if !t.Permits(tenant.ClientConnection, g.proxies.ClientAddr(r)) {
		return nil, refuse(http.StatusForbidden, "the service does not allow client connections from your network")
	}
	if ancestor && !t.Ancestor(hubName) {
		return nil, refuse(http.StatusNotFound, "hub %q has no upstream templates, without which clients connect to /client/hubs/{hub}", hubName)
	}
	return &newcomer{r: r, tenant: t, hub: webpubsub.HubKey{Tenant: t.Name, Hub: hubName},
		config: t.Hub(hubName), query: query, ancestor: ancestor}, nil
}

// authenticate finds out who connects (client-json.md 1.4).
func (g *Gateway) authenticate(n *newcomer) *refusal {
	raw := accessToken(n.r, n.query)
	if raw == "" {
		if n.config.Anonymous || n.ancestor { // whose application says who a client is, or it is refused
			return nil
		}
		return refuse(http.StatusUnauthorized, "an access token is needed, in the query parameter access_token or as Authorization: Bearer; hub %q has no anonymous clients", n.hub.Hub)
	}
	claims, err := token.NewKeyVerifier(n.tenant.TokenKeys()...).Verify(n.r.Context(), raw)
	if err == nil {
		err = g.checkAudience(claims, n)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "%v", err)
	}
	if err := claims.CheckGroups(); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	n.claims = claims
	return nil
}

// accessToken is what the query or the header Authorization says, empty if neither has one.
func accessToken(r *http.Request, query url.Values) string {
	if raw := query.Get("access_token"); raw != "" {
		return raw
	}
	if scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(credentials)
	}
	return ""
}

// checkAudience reports whether a token is for this very way of connecting. The ancestor's audiences lack the port, so
// that only their paths count.
func (g *Gateway) checkAudience(claims token.Claims, n *newcomer) error {
	if n.ancestor {
		return token.CheckRESTAudience(claims, n.r, nil)
	}
	return token.CheckClientAudience(claims, n.r, n.hub.Hub, n.tenant.AcceptedEndpoints(g.cfg.AcceptedEndpoints))
}

// open asks the application and makes the connection. It has been admitted.
func (g *Gateway) open(w http.ResponseWriter, n *newcomer) *refusal {
	id := g.node.NewConnectionID()
	offered := socket.OfferedSubprotocols(n.r)
	session := g.session(n, id, offered)
	accepted, err := session.Connect(n.r.Context(), n.r, n.claims.Subject, n.claims.All, offered)
	if err != nil {
		g.dismiss(n.tenant.Name)
		return g.refusedUpstream(n, err)
	}
	userID, roles, groups := n.claims.Subject, n.claims.Roles, n.claims.Groups
	if accepted.UserID != nil {
		userID = *accepted.UserID
	}
	if accepted.Roles != nil {
		roles = accepted.Roles
	}
	if accepted.Groups != nil {
		groups = accepted.Groups
	}
	if len(userID) > webpubsub.MaxUserID {
		g.dismiss(n.tenant.Name)
		session.Closed("The user id is too long.")
		return refuse(http.StatusBadRequest, "the user id has %d bytes; at most %d are allowed", len(userID), webpubsub.MaxUserID)
	}
	groups = slices.Compact(slices.Sorted(slices.Values(groups)))
	codec, name := selectCodec(accepted.Subprotocol, offered)
	if n.ancestor {
		codec, name = protocol.Simple, accepted.Subprotocol
		if userID == "" {
			g.dismiss(n.tenant.Name)
			session.Closed("The connection has no user.")
			return refuse(http.StatusUnauthorized, "neither a token nor the application says which user this is")
		}
	}
	permissions, ignored := webpubsub.ParseRoles(roles)
	if ignored > 0 {
		g.log.Debug("invalid roles are ignored", "hub", n.hub.String(), "connection", id, "roles", ignored)
	}
	c := &client{g: g, session: session, tenant: n.tenant.Name}
	if codec.ID() == protocol.IDSimple { // others say what they want in each message
		c.mode = n.mode
	}
	options := hub.ConnOptions{ID: id, Hub: n.hub, UserID: userID, Codec: codec, Subprotocol: name,
		Permissions: permissions, KeepAlive: keepAlive(n.config), Owner: c, OnClosed: c.gone, OnMembershipChange: c.moved}
	if c.conn, err = g.node.Open(n.r.Context(), options, groups); err != nil {
		g.dismiss(n.tenant.Name)
		session.Closed("The service is unavailable.")
	} else if n.ancestor {
		if err = g.joinUserGroups(n.r.Context(), c.conn); err != nil {
			g.conns.Close(c.conn, hub.ReasonUnavailable.Closing("The service is unavailable."))
		}
	}
	if err != nil {
		g.log.Warn("open connection", "hub", n.hub.String(), "error", err)
		f := refuse(http.StatusServiceUnavailable, "the service cannot take connections at the moment; please try again")
		f.retryAfter = 1
		return f
	}
	sock, err := socket.Accept(w, n.r, name, n.config.Compression)
	if err != nil {
		g.log.Debug("accept socket", "hub", n.hub.String(), "connection", id, "error", err)
		g.conns.Close(c.conn, hub.ReasonHandshake.Closing("The handshake failed."))
		return nil
	}
	session.Established(userID, name, groups...)
	g.metrics.opened.Inc()
	g.recordStart(n, c.conn)
	g.serve(c, sock, string(accepted.Greeting))
	return nil
}

// session returns the connection as event handlers will see it.
func (g *Gateway) session(n *newcomer, id string, offered []string) *upstream.Session {
	if n.ancestor {
		return g.upstream.OpenAncestor(n.hub, id, n.r, n.claims.All(), offered)
	}
	return g.upstream.Open(n.hub, id)
}

// joinUserGroups lets a connection join its user's groups. It can be reached already, so that a group its user joins
// meanwhile is not missed.
func (g *Gateway) joinUserGroups(ctx context.Context, c *hub.Conn) error {
	groups, err := g.userGroups.Groups(ctx, c.Hub, c.UserID)
	if err != nil || len(groups) == 0 {
		return err
	}
	return g.node.JoinConn(ctx, c, groups...)
}

// serve gives the connection a socket and starts its read loop, in a goroutine whose stack stays small.
func (g *Gateway) serve(c *client, sock *socket.Socket, greeting string) {
	if t := g.tenants.ByName(c.tenant); t != nil {
		sock.SetLimit(int64(t.Limits.MessageBytes))
	}
	c.reading(1)
	connected := g.greeting(c)
	connected.Greeting = greeting
	if !g.conns.Attach(c.conn, sock, connected) {
		c.reading(-1)
		code, text := hub.CodePolicy, "The connection has ended."
		if c.conn.Frozen() {
			code, text = hub.CodeGoingAway, "The connection is moving to another node."
		}
		g.sockets.Go(func() { sock.Refuse(code, text) })
		return
	}
	c.resumeStreams()
	r := newReader(c, sock)
	g.sockets.Go(func() {
		c.resumeStates()
		r.run()
	})
}

func keepAlive(h tenant.Hub) time.Duration {
	if h.KeepAliveSeconds > 0 {
		return time.Duration(h.KeepAliveSeconds) * time.Second
	}
	return defaultKeepAlive
}

// refusedUpstream says to the client what the connect handler has said, or that it has failed.
func (g *Gateway) refusedUpstream(n *newcomer, err error) *refusal {
	var refused *upstream.Refused
	switch {
	case errors.As(err, &refused):
		f := &refusal{status: refused.Status, contentType: refused.ContentType, body: string(refused.Body)}
		if f.body == "" {
			f.contentType, f.body = "", "the application refused the connection"
		}
		return f
	case errors.Is(err, context.Canceled):
		return refuse(http.StatusInternalServerError, "the client is gone")
	}
	g.log.Warn("connect event", "hub", n.hub.String(), "error", err)
	return refuse(http.StatusInternalServerError, "the application could not be asked about this connection")
}

// selectCodec follows client-json.md 1.5: what the handler says, else the first offered one that we know.
func selectCodec(chosen string, offered []string) (codec protocol.Codec, name string) {
	if chosen = strings.TrimSpace(chosen); chosen != "" {
		if codec, ok := protocol.ByName(chosen); ok {
			return codec, chosen
		}
		return protocol.Simple, chosen
	}
	if codec, ok := protocol.Select(offered); ok {
		return codec, codec.Name()
	}
	return protocol.Simple, ""
}

// simpleMode is what becomes of the messages of a simple client (client-json.md section 2).
type simpleMode struct {
	group  string // empty: they are events
	noEcho bool
}

// parseMode reads the parameters of client-json.md 1.3; of repeated ones the last counts.
func parseMode(q url.Values) (m simpleMode, err error) {
	mode := last(q["webpubsub_mode"])
	switch {
	case mode == "" || strings.EqualFold(mode, "sendEvent"):
		return m, nil
	case !strings.EqualFold(mode, "sendToGroup"):
		return m, fmt.Errorf("webpubsub_mode is %.50q; it must be sendEvent or sendToGroup", mode)
	}
	m.group = last(q["group"])
	if err := webpubsub.CheckGroup(m.group); err != nil {
		return m, fmt.Errorf("webpubsub_mode=sendToGroup needs the parameter group: %w", err)
	}
	switch noEcho := last(q["noEcho"]); {
	case strings.EqualFold(noEcho, "true"):
		m.noEcho = true
	case noEcho != "" && !strings.EqualFold(noEcho, "false"):
		return m, fmt.Errorf("noEcho is %.50q; it must be true or false", noEcho)
	}
	return m, nil
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
