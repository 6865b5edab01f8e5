package front

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// defaultKeepAlive is the interval of pings unless a hub sets another (client-json.md section 10).
const defaultKeepAlive = 20 * time.Second

// handshake is a client's request on its way to a connection. Its steps run in the order of connect; each learns
// something, or takes something that undo gives back.
type handshake struct {
	front *Front
	w     http.ResponseWriter
	r     *http.Request

	// What the request says.
	tenant   *tenant.Tenant
	hub      webpubsub.HubKey
	config   tenant.Hub
	query    url.Values
	mode     session.Mode
	claims   token.Claims
	offered  []string // subprotocols
	ancestor bool     // it speaks the ancestor protocol (package asrs)

	// What the connection is to be, after the application has been asked.
	id       string
	userID   string
	roles    []string
	groups   []string
	codec    protocol.Codec
	name     string // of the subprotocol, as the client is told
	greeting string

	// What it has taken.
	countedAsHandshake  bool              // it counts among its tenant's handshakes
	countedAsConnection bool              // the connection counts among its tenant's
	events              *upstream.Session // the application has said yes
	client              *session.Client   // with a connection, once that is open
	established         bool              // the connection lives its own life: it keeps what it has
	closingOnUndo       hub.Closing       // how the connection ends if it does not come to that
}

// connect opens or recovers a connection. Without a refusal w has been answered.
func (h *handshake) connect() *refusal {
	defer h.undo()
	if refused := h.run((*handshake).arrive, (*handshake).locate); refused != nil {
		return refused
	}
	if id := h.query.Get("awps_connection_id"); id != "" && !h.ancestor {
		return h.recover(id, h.query.Get("awps_reconnection_token"))
	}
	return h.run((*handshake).readMode, (*handshake).authenticate, (*handshake).takePlace, (*handshake).askApplication,
		(*handshake).validateIdentity, (*handshake).open, (*handshake).joinUserGroups, (*handshake).upgrade)
}

// run takes steps until one refuses.
func (h *handshake) run(steps ...func(*handshake) *refusal) *refusal {
	for _, step := range steps {
		if refused := step(h); refused != nil {
			return refused
		}
	}
	return nil
}

// undo gives back what the handshake has taken: its places among those under way, and all else unless it has become a
// connection. One that is open is closed, which tells the application and removes it from the count.
func (h *handshake) undo() {
	f := h.front
	switch {
	case h.established:
	case h.client != nil && h.client.Conn() != nil:
		f.Conns.Close(h.client.Conn(), h.closingOnUndo)
	default:
		if h.events != nil {
			h.events.Closed(h.closingOnUndo.Text)
		}
		if h.countedAsConnection {
			f.Admission.RemoveConnection(h.tenant.Name)
		}
	}
	if h.countedAsHandshake {
		f.Admission.endConnecting(h.tenant.Name)
	}
	f.Admission.endHandshake()
}

// arrive counts the handshake among those under way.
func (h *handshake) arrive() *refusal {
	if !h.front.Admission.beginHandshake() || h.front.Draining() || h.front.Closed() || !h.front.Admit() {
		return refuseForNow()
	}
	return nil
}

// locate finds out what hub of which tenant is meant.
func (h *handshake) locate() *refusal {
	r := h.r
	query := httpx.ParseQuery(r.URL.RawQuery)
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
		return refuse(http.StatusNotFound, "there is nothing here; clients connect to /client/hubs/{hub}")
	}
	hubName, err := parseHub(name)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	hubName = strings.Clone(hubName) // it would keep the request's whole text in memory as long as the connection is there
	t := h.front.Tenants.ByHost(r.Host)
	if t == nil {
		return refuse(http.StatusNotFound, "no tenant has the host %.100q", r.Host)
	}
	if !t.Permits(tenant.ClientConnection, h.front.TrustedProxies.ClientAddr(r)) {
		return refuse(http.StatusForbidden, "the service does not allow client connections from your network")
	}
	if ancestor && !t.Ancestor(hubName) {
		return refuse(http.StatusNotFound, "hub %q has no upstream templates, without which clients connect to /client/hubs/{hub}", hubName)
	}
	h.tenant, h.hub, h.config = t, webpubsub.HubKey{Tenant: t.Name, Hub: hubName}, t.Hub(hubName)
	h.query, h.ancestor = query, ancestor
	return nil
}

// readMode finds out what is to become of a simple client's messages.
func (h *handshake) readMode() *refusal {
	if h.ancestor { // its clients' parameters are their own
		return nil
	}
	var err error
	if h.mode, err = parseMode(h.query); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return nil
}

// authenticate finds out who connects (client-json.md 1.4).
func (h *handshake) authenticate() *refusal {
	raw := accessToken(h.r, h.query)
	if raw == "" {
		if h.config.Anonymous || h.ancestor { // the ancestor's application may say who the client is; validateIdentity refuses it otherwise
			return nil
		}
		return refuse(http.StatusUnauthorized, "an access token is needed, in the query parameter access_token or as Authorization: Bearer; "+
			"hub %q has no anonymous clients", h.hub.Hub)
	}
	claims, err := token.NewKeyVerifier(h.tenant.TokenKeys()...).Verify(h.r.Context(), raw)
	if err == nil {
		err = h.checkAudience(claims)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "%v", err)
	}
	if err := claims.CheckGroups(); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	h.claims = claims
	return nil
}

// checkAudience reports whether a token is for this very way of connecting. The ancestor's audiences lack the port, so
// that only their paths count.
func (h *handshake) checkAudience(claims token.Claims) error {
	if h.ancestor {
		return token.CheckRESTAudience(claims, h.r, nil)
	}
	return token.CheckClientAudience(claims, h.r, h.hub.Hub, h.tenant.AudienceHosts(h.front.AcceptedHosts))
}

// takePlace takes a place among the tenant's handshakes, and one among its connections.
func (h *handshake) takePlace() *refusal {
	if h.countedAsHandshake = h.front.Admission.beginConnecting(h.tenant.Name); !h.countedAsHandshake {
		return refuseForNow()
	}
	if h.countedAsConnection = h.front.Admission.addConnection(h.tenant); !h.countedAsConnection {
		refused := refuse(http.StatusTooManyRequests, "Connection count reaches limit: there are %d connections, as many as this tenant may have",
			h.tenant.Limits.Connections)
		refused.retryAfter = 5
		return refused
	}
	return nil
}

// askApplication asks the application whether to accept the connection, and as which user, with which roles, groups and subprotocol. A
// handler that has accepted it is told of its end.
func (h *handshake) askApplication() *refusal {
	h.id = h.front.Node.NewConnectionID()
	h.offered = socket.OfferedSubprotocols(h.r)
	var events *upstream.Session
	if h.ancestor {
		events = h.front.Upstream.OpenAncestor(h.hub, h.id, h.r, h.claims.All(), h.offered)
	} else {
		events = h.front.Upstream.Open(h.hub, h.id)
	}
	accepted, err := events.Connect(h.r.Context(), h.r, h.claims.Subject, h.claims.All, h.offered)
	if err != nil {
		return h.refusedByApplication(err)
	}
	h.events = events
	h.userID, h.roles, h.groups = h.claims.Subject, h.claims.Roles, h.claims.Groups
	if accepted.UserID != nil {
		h.userID = *accepted.UserID
	}
	if accepted.Roles != nil {
		h.roles = accepted.Roles
	}
	if accepted.Groups != nil {
		h.groups = accepted.Groups
	}
	h.codec, h.name = selectCodec(accepted.Subprotocol, h.offered)
	if h.ancestor {
		h.codec, h.name = protocol.Simple, accepted.Subprotocol
	}
	h.greeting = string(accepted.Greeting)
	return nil
}

// refusedByApplication is the refusal when the connect handler has refused the client, with the handler's own answer, or when it has failed.
func (h *handshake) refusedByApplication(err error) *refusal {
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
	h.front.Log.Warn("connect event", "hub", h.hub.String(), "error", err)
	return refuse(http.StatusInternalServerError, "the application could not be asked about this connection")
}

// validateIdentity checks who the connection is, by its token and its application, and which groups it is to join.
func (h *handshake) validateIdentity() *refusal {
	if len(h.userID) > webpubsub.MaxUserID {
		h.closingOnUndo.Text = "The user id is too long."
		return refuse(http.StatusBadRequest, "the user id has %d bytes; at most %d are allowed", len(h.userID), webpubsub.MaxUserID)
	}
	if h.ancestor && h.userID == "" {
		h.closingOnUndo.Text = "The connection has no user."
		return refuse(http.StatusUnauthorized, "neither a token nor the application says which user this is")
	}
	h.groups = slices.Compact(slices.Sorted(slices.Values(h.groups)))
	return nil
}

// open makes the connection, which can be reached from now on.
func (h *handshake) open() *refusal {
	permissions, ignored := webpubsub.ParseRoles(h.roles)
	if ignored > 0 {
		h.front.Log.Debug("invalid roles are ignored", "hub", h.hub.String(), "connection", h.id, "roles", ignored)
	}
	var mode session.Mode
	if h.codec.ID() == protocol.IDSimple { // others say what they want in each message
		mode = h.mode
	}
	h.client = h.front.Clients.New(h.events, h.tenant.Name, mode)
	err := h.client.Open(h.r.Context(), hub.ConnOptions{ID: h.id, Hub: h.hub, UserID: h.userID, Codec: h.codec, Subprotocol: h.name,
		Permissions: permissions, KeepAlive: keepAlive(h.config)}, h.groups)
	return h.unavailable(err)
}

// joinUserGroups lets an ancestor's connection join its user's groups. It can be reached already, so that a group its
// user joins meanwhile is not missed.
func (h *handshake) joinUserGroups() *refusal {
	if !h.ancestor {
		return nil
	}
	conn := h.client.Conn()
	groups, err := h.front.UserGroups.Groups(h.r.Context(), conn.Hub, conn.UserID)
	if err == nil && len(groups) > 0 {
		err = h.front.Node.JoinConn(h.r.Context(), conn, groups...)
	}
	return h.unavailable(err)
}

// unavailable is the refusal when the service is at fault, nil without an error.
func (h *handshake) unavailable(err error) *refusal {
	if err == nil {
		return nil
	}
	h.closingOnUndo = hub.ReasonUnavailable.Closing("The service is unavailable.")
	h.front.Log.Warn("open connection", "hub", h.hub.String(), "error", err)
	refused := refuse(http.StatusServiceUnavailable, "the service cannot take connections at the moment; please try again")
	refused.retryAfter = 1
	return refused
}

// upgrade gives the connection its socket and tells the application. Where there is no socket w has been answered.
func (h *handshake) upgrade() *refusal {
	f := h.front
	sock, err := socket.Accept(h.w, h.r, h.name, h.config.Compression)
	if err != nil {
		f.Log.Debug("accept socket", "hub", h.hub.String(), "connection", h.id, "error", err)
		h.closingOnUndo = hub.ReasonHandshake.Closing("The handshake failed.")
		return nil
	}
	h.established = true
	h.events.Established(h.userID, h.name, h.groups...)
	f.metrics.opened.Inc()
	f.Audit.ConnectionStarted(h.r, h.client.Conn())
	h.client.Serve(sock, h.greeting)
	return nil
}

func keepAlive(h tenant.Hub) time.Duration {
	if h.KeepAliveSeconds > 0 {
		return time.Duration(h.KeepAliveSeconds) * time.Second
	}
	return defaultKeepAlive
}
