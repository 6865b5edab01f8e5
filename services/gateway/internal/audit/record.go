package audit

import (
	"encoding/json"
	"io"
	"maps"
	"sync"
	"time"
)

// context is what a line says of where and whom, by the names that it has there.
func (r *Record) context() map[string]string {
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

// Record is a line of the resource logs, in JSON.
type Record struct {
	Time          time.Time  `json:"time"`
	Level         string     `json:"level"`
	Category      string     `json:"category"`
	OperationName string     `json:"operationName"`
	Tenant        string     `json:"resourceId,omitempty"`
	Caller        string     `json:"callerIpAddress,omitempty"`
	Properties    Properties `json:"properties"`
}

// Properties is what a Record says that only some operations have.
type Properties struct {
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

func (r *records) has(category string) bool {
	switch category {
	case Connectivity:
		return r.connectivity
	case HTTP:
		return r.http
	}
	return r.messaging
}

func (r *records) write(line Record) {
	b, err := json.Marshal(line)
	if err != nil { // it holds strings and numbers only
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.out.Write(append(b, '\n'))
}
