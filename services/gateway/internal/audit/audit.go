// Package audit tells operators what happens: in resource logs, a line for each connection, REST request or message, and in
// live traces, to whoever watches at the moment (package livetrace). Neither holds tokens or payloads.
package audit

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
)

// Categories of what is told, as the setting that turns records on names them.
const (
	Connectivity = "connectivity"
	HTTP         = "http"
	Messaging    = "messaging"
)

// categoryNames are what records and traces call them, as the cloud service does.
var categoryNames = map[string]string{Connectivity: "ConnectivityLogs", HTTP: "HttpRequestLogs", Messaging: "MessagingLogs"}

// Deps is what a Log works with.
type Deps struct {
	Tenants        tenant.Source
	Node           *node.Node           // reaches those who watch on other nodes
	Traces         *livetrace.Hub       // those who watch on this node
	TrustedProxies httpx.TrustedProxies // that stand between clients and the node
	Metrics        prometheus.Registerer
}

// Log tells the resource logs, and those who watch a tenant's live trace. Its methods are safe for concurrent use and do
// nothing for what nobody wants to hear of.
type Log struct {
	records records
	traces  traces
	tenants tenant.Source
	node    *node.Node
	proxies httpx.TrustedProxies
}

// New returns a log that writes records of the categories to out, as JSON lines. Watch must run for live traces.
func New(categories []string, out io.Writer, d Deps) (*Log, error) {
	l := &Log{traces: newTraces(d.Traces), tenants: d.Tenants, node: d.Node, proxies: d.TrustedProxies}
	l.records.out = out
	for _, name := range categories {
		switch name {
		case Connectivity:
			l.records.connectivity = true
		case HTTP:
			l.records.http = true
		case Messaging:
			l.records.messaging = true
		default:
			return nil, fmt.Errorf("gateway.records %.40q is unknown; these can be written: %s, %s, %s", name, Connectivity, HTTP, Messaging)
		}
	}
	d.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_trace_clients", Help: "Clients that are connected to the live trace."},
		func() float64 { return float64(d.Traces.Connected()) }))
	return l, nil
}

// Wants reports whether anybody wants to hear of what happens to a tenant in a category. It is asked about each message.
func (l *Log) Wants(tenant, category string) bool {
	return l.records.has(category) || l.traces.wants(tenant, category)
}

// tell tells the resource logs, and who watches the tenant's trace. values are those of the event's template.
func (l *Log) tell(category string, line Record, event int, values ...string) {
	line.Time, line.Category = time.Now().UTC(), categoryNames[category]
	if l.records.has(category) {
		l.records.write(line)
	}
	if l.traces.wants(line.Tenant, category) {
		l.node.PostTrace(line.Tenant, livetrace.Frame(livetrace.Event{ID: event, Time: line.Time, Context: line.context(), Values: values}))
	}
}

// ConnectionStarted tells that a connection has begun, with the handshake r.
func (l *Log) ConnectionStarted(r *http.Request, c *hub.Conn) {
	if !l.Wants(c.Hub.Tenant, Connectivity) {
		return
	}
	l.tell(Connectivity, Record{Level: levelInformational, OperationName: "ConnectionStarted",
		Tenant: c.Hub.Tenant, Caller: addressText(l.proxies.ClientAddr(r)), Properties: Properties{
			Collection: "Connection", Message: "Connection started", Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}},
		livetrace.ConnectionStarted)
}

// ConnectionEnded tells how a connection has ended: as somebody meant it to, or not.
func (l *Log) ConnectionEnded(c *hub.Conn, closing hub.Closing) {
	if closing.Reason == hub.ReasonHandedOver || !l.Wants(c.Hub.Tenant, Connectivity) {
		return
	}
	operation, level, text, event := "ConnectionEnded", levelInformational, "Connection ended", livetrace.ConnectionEnded
	if category := closing.Reason.Category(); category != "Normal" && category != "ClosedByAppServer" {
		operation, level, text, event = "ConnectionAborted", levelWarning, "Connection aborted", livetrace.ConnectionAborted
	}
	if closing.Reason == hub.ReasonDrain {
		text = "Service reloading, reconnect"
	}
	reason := "Reason: " + string(closing.Reason) + ". " + closing.Text
	l.tell(Connectivity, Record{Level: level, OperationName: operation, Tenant: c.Hub.Tenant,
		Properties: Properties{Collection: "Connection", Message: text + ". " + reason,
			Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}}, event, reason)
}

// Request is a REST request that has been answered.
type Request struct {
	Request   *http.Request
	Tenant    string // empty: its host is nobody's
	Category  string // the protocol's RestApiCategory
	Route     string // with its parameters by name
	Status    int
	Time      time.Duration
	RequestID string
}

// RequestAnswered tells of a REST request. The query may hold what users have written, so it stays out.
func (l *Log) RequestAnswered(d Request) {
	if !l.Wants(d.Tenant, HTTP) {
		return
	}
	level := levelInformational
	if d.Status >= http.StatusBadRequest && d.Status != http.StatusNotFound {
		level = levelWarning
	}
	duration, path := d.Time.Milliseconds(), d.Request.URL.EscapedPath()
	l.tell(HTTP, Record{Level: level, OperationName: d.Category, Tenant: d.Tenant,
		Caller: addressText(l.proxies.ClientAddr(d.Request)), Properties: Properties{Collection: "Connection", HTTPMethod: d.Request.Method,
			URL: path, RouteTemplate: d.Route, StatusCode: d.Status, Duration: duration, TraceID: d.RequestID}},
		livetrace.RequestAnswered, d.Request.Method, path, strconv.Itoa(d.Status), strconv.FormatInt(duration, 10))
}

// Message tells that a client has asked for something.
func (l *Log) Message(c *hub.Conn, kind protocol.Kind) {
	if !l.Wants(c.Hub.Tenant, Messaging) {
		return
	}
	l.tell(Messaging, Record{Level: levelInformational, OperationName: kind.String(), Tenant: c.Hub.Tenant,
		Properties: Properties{Collection: "Message", Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}},
		livetrace.MessageReceived, kind.String())
}

// ClientRefused tells that the handshake r has been refused with a status, for lack of a right (401, 403) or of room (429).
// tenant is empty if the request's host is nobody's.
func (l *Log) ClientRefused(r *http.Request, tenant string, status int, reason string) {
	if !l.Wants(tenant, Connectivity) {
		return
	}
	operation, collection, errorName, event := "AuthorizationFailed", "Authorization", "", livetrace.AuthorizationFailed
	if status == http.StatusTooManyRequests {
		operation, collection, errorName, event = "ConnectionRefused", "Throttling", "ConnectionCountLimitReached", livetrace.ConnectionRefused
	}
	l.tell(Connectivity, Record{Level: levelWarning, OperationName: operation, Tenant: tenant, Caller: addressText(l.proxies.ClientAddr(r)),
		Properties: Properties{Collection: collection, Message: reason, ErrorName: errorName, URL: r.URL.Path, StatusCode: status}},
		event, strconv.Itoa(status), reason)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
