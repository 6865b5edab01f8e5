package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

// Categories of records, as Config.Records names them.
const (
	recordConnectivity = "connectivity"
	recordHTTP         = "http"
	recordMessaging    = "messaging"
)

// categoryNames are what records and traces call them, as the cloud service does.
var categoryNames = map[string]string{recordConnectivity: "ConnectivityLogs", recordHTTP: "HttpRequestLogs", recordMessaging: "MessagingLogs"}

// recorded reports whether what happens in a category is told to anybody.
func (g *Gateway) recorded(tenant, category string) bool {
	return g.records.has(category) || g.traces.wants(tenant, category)
}

// record tells the resource logs, and who listens to the tenant's trace. values are those of the event's template.
func (g *Gateway) record(category string, line record, event int, values ...string) {
	line.Time, line.Category = time.Now().UTC(), categoryNames[category]
	if g.records.has(category) {
		g.records.write(line)
	}
	if g.traces.wants(line.Tenant, category) {
		g.node.PostTrace(line.Tenant, livetrace.Frame(livetrace.Event{ID: event, Time: line.Time, Context: line.context(), Values: values}))
	}
}

// context is what a line says of where and whom, by the names that it has there.
func (r *record) context() map[string]string {
	p := &r.Properties
	all := map[string]string{"category": r.Category, "callerIpAddress": r.Caller, "collection": p.Collection, "hub": p.Hub, "connectionId": p.ConnectionID,
		"userId": p.UserID, "errorName": p.ErrorName, "routeTemplate": p.RouteTemplate, "traceId": p.TraceID}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// records are the resource logs of the cloud service (service-limits-and-ops.md section 4): a JSON line for each connection,
// REST request or message, in the form that operators' queries know. They hold neither tokens nor payloads, and are
// written only where they are asked for.
type records struct {
	connectivity, http, messaging bool

	mu  sync.Mutex // guards out: a line is one write
	out io.Writer
}

// record is one line.
type record struct {
	Time          time.Time  `json:"time"`
	Level         string     `json:"level"`
	Category      string     `json:"category"`
	OperationName string     `json:"operationName"`
	Tenant        string     `json:"resourceId,omitempty"`
	Caller        string     `json:"callerIpAddress,omitempty"`
	Properties    properties `json:"properties"`
}

type properties struct {
	Collection    string `json:"collection"`
	Message       string `json:"message,omitempty"`
	Hub           string `json:"hub,omitempty"`
	ConnectionID  string `json:"connectionId,omitempty"`
	UserID        string `json:"userId,omitempty"`
	ErrorName     string `json:"errorName,omitempty"`
	HTTPMethod    string `json:"httpMethod,omitempty"`
	URL           string `json:"url,omitempty"`
	RouteTemplate string `json:"routeTemplate,omitempty"`
	StatusCode    int    `json:"statusCode,omitempty"`
	Duration      int64  `json:"duration,omitempty"` // milliseconds
	TraceID       string `json:"traceId,omitempty"`
}

// Levels of records.
const (
	levelInformational = "Informational"
	levelWarning       = "Warning"
)

func newRecords(categories []string, out io.Writer) (*records, error) {
	r := &records{out: out}
	for _, name := range categories {
		switch name {
		case recordConnectivity:
			r.connectivity = true
		case recordHTTP:
			r.http = true
		case recordMessaging:
			r.messaging = true
		default:
			return nil, fmt.Errorf("gateway.records %.40q is unknown; these can be written: %s, %s, %s", name, recordConnectivity, recordHTTP, recordMessaging)
		}
	}
	return r, nil
}

func (r *records) has(category string) bool {
	switch category {
	case recordConnectivity:
		return r.connectivity
	case recordHTTP:
		return r.http
	}
	return r.messaging
}

func (r *records) write(line record) {
	b, err := json.Marshal(line)
	if err != nil { // it holds strings and numbers only
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.out.Write(append(b, '\n'))
}

// recordStart writes that a connection has begun.
func (g *Gateway) recordStart(n *newcomer, c *hub.Conn) {
	if !g.recorded(c.Hub.Tenant, recordConnectivity) {
		return
	}
	g.record(recordConnectivity, record{Level: levelInformational, OperationName: "ConnectionStarted",
		Tenant: n.tenant.Name, Caller: addressText(g.proxies.ClientAddr(n.r)), Properties: properties{
			Collection: "Connection", Message: "Connection started", Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}},
		livetrace.ConnectionStarted)
}

// recordEnd writes how a connection has ended: as somebody meant it to, or not.
func (g *Gateway) recordEnd(c *hub.Conn, closing hub.Closing) {
	if closing.Reason == hub.ReasonHandedOver || !g.recorded(c.Hub.Tenant, recordConnectivity) {
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
	g.record(recordConnectivity, record{Level: level, OperationName: operation, Tenant: c.Hub.Tenant,
		Properties: properties{Collection: "Connection", Message: text + ". " + reason,
			Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}}, event, reason)
}

// recordRequest writes a REST request. The query may hold what users have written, so it stays out.
func (g *Gateway) recordRequest(d rest.AnsweredRequest) {
	if !g.recorded(d.Tenant, recordHTTP) {
		return
	}
	level := levelInformational
	if d.Status >= http.StatusBadRequest && d.Status != http.StatusNotFound {
		level = levelWarning
	}
	duration, path := d.Time.Milliseconds(), d.Request.URL.EscapedPath()
	g.record(recordHTTP, record{Level: level, OperationName: d.Category, Tenant: d.Tenant,
		Caller: addressText(g.proxies.ClientAddr(d.Request)), Properties: properties{Collection: "Connection", HTTPMethod: d.Request.Method,
			URL: path, RouteTemplate: d.Route, StatusCode: d.Status, Duration: duration, TraceID: d.RequestID}},
		livetrace.RequestAnswered, d.Request.Method, path, strconv.Itoa(d.Status), strconv.FormatInt(duration, 10))
}

// recordMessage writes that a client has asked for something.
func (g *Gateway) recordMessage(c *hub.Conn, kind protocol.Kind) {
	g.record(recordMessaging, record{Level: levelInformational, OperationName: kind.String(), Tenant: c.Hub.Tenant,
		Properties: properties{Collection: "Message", Hub: c.Hub.Hub, ConnectionID: c.ID, UserID: c.UserID}}, livetrace.MessageReceived, kind.String())
}

// tellRefusal logs why a client may not connect, which operators are asked about: above all by which audience.
func (g *Gateway) tellRefusal(r *http.Request, f *refusal) {
	operation, collection, errorName, text, event := "AuthorizationFailed", "Authorization", "", f.body, livetrace.AuthorizationFailed
	switch f.status {
	case http.StatusUnauthorized, http.StatusForbidden:
	case http.StatusTooManyRequests:
		operation, collection, errorName, text, event = "ConnectionRefused", "Throttling", "ConnectionCountLimitReached", "Connection count reaches limit", livetrace.ConnectionRefused
	default:
		return
	}
	tenant := ""
	if t := g.tenants.ByHost(r.Host); t != nil {
		tenant = t.Name
	}
	if ok, _ := g.refusals.Allow(tenant + " " + strconv.Itoa(f.status)); ok {
		g.log.Info("client refused", "tenant", tenant, "path", r.URL.Path, "status", f.status, "reason", text, "address", addressText(g.proxies.ClientAddr(r)))
	}
	if g.recorded(tenant, recordConnectivity) {
		g.record(recordConnectivity, record{Level: levelWarning, OperationName: operation, Tenant: tenant,
			Caller: addressText(g.proxies.ClientAddr(r)), Properties: properties{Collection: collection, Message: text, ErrorName: errorName, URL: r.URL.Path, StatusCode: f.status}},
			event, strconv.Itoa(f.status), text)
	}
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// quotaUtilization is the largest share of its connections that a tenant has used on this node.
func (g *Gateway) quotaUtilization() (most float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, count := range g.counts {
		if t := g.tenants.ByName(name); t != nil && t.Limits.Connections > 0 {
			most = max(most, float64(count)/float64(t.Limits.Connections))
		}
	}
	return most
}
