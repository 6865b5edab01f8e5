package rest

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/httproute"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
)

// The stable versions of the API, and the previews that SDKs have been published with (rest-api.md section 1.2). All
// operations are served for each.
var (
	versions = []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01"}
	previews = []string{"2020-10-01", "2021-01-01", "2021-05-01-preview", "2021-08-01-preview", "2022-10-01-preview",
		"2026-02-01-preview", "2026-08-01-preview"}
)

var supportedVersions = strings.Join(versions, ", ")

// request is what a request says, checked.
type request struct {
	http    *http.Request
	w       http.ResponseWriter // only to limit how much of the body is read, and for how long
	tenant  *tenant.Tenant
	hub     webpubsub.HubKey
	hubText string // as the caller wrote it
	query   url.Values

	// From the path; empty where the operation has none.
	group      string
	user       string
	connection string
	permission webpubsub.Permission

	audience webpubsub.Audience // the operation's scope, without exceptions and filter
}

// newRequest checks everything about a request but its body.
func newRequest(w http.ResponseWriter, r *http.Request, t *tenant.Tenant, op *operation, params httproute.Params) (*request, error) {
	parseHub := webpubsub.ParseHub
	if isAncestor(r) {
		parseHub = asrs.ParseHub
	}
	hubText := params.Get("hub")
	name, err := parseHub(hubText)
	if err != nil {
		return nil, badRequest("hub", "%s", err)
	}
	if isAncestor(r) && !t.Ancestor(name) {
		return nil, notFound("the hub has no upstream templates, without which its routes are below /api/hubs/{hub}", "")
	}
	q := &request{http: r, w: w, tenant: t, hub: webpubsub.HubKey{Tenant: t.Name, Hub: name}, hubText: hubText, query: httpx.ParseQuery(r.URL.RawQuery)}
	if err := q.checkQuery(); err != nil {
		return nil, err
	}
	for _, p := range params {
		if err := q.setParameter(p.Name, p.Value); err != nil {
			return nil, err
		}
	}
	q.audience = webpubsub.Audience{Hub: q.hub, Scope: op.scope}
	switch op.scope {
	case group:
		q.audience.Name = q.group
	case user:
		q.audience.Name = q.user
	case conn:
		q.audience.Name = q.connection
	}
	return q, nil
}

// checkQuery checks what holds for every operation. Without an api-version the latest is meant.
func (q *request) checkQuery() error {
	for name, values := range q.query {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return badRequest("query", "the query is not valid UTF-8")
		}
	}
	version, given, err := q.single("api-version")
	if err == nil && given && !slices.Contains(versions, version) && !slices.Contains(previews, version) {
		err = badRequest("api-version", "api-version %.40q is not supported; these are: %s", version, supportedVersions)
	}
	return err
}

// setParameter takes a parameter of the path other than the hub.
func (q *request) setParameter(name, value string) error {
	if name == "hub" { // has rules of its own
		return nil
	}
	if !utf8.ValidString(value) {
		return badRequest(name, "%s is not valid UTF-8", name)
	}
	if value == "" && name != "group" {
		return badRequest(name, "%s is empty", name)
	}
	switch name {
	case "group":
		q.group = value
		if err := webpubsub.CheckGroup(value); err != nil {
			return badRequest(name, "%s", err)
		}
	case "userId":
		q.user = value
	case "connectionId":
		q.connection = value
	case "permission":
		p, ok := webpubsub.ParsePermission(value)
		if !ok {
			return badRequest(name, "permission %.40q is unknown; it must be sendToGroup or joinLeaveGroup", value)
		}
		q.permission = p
	}
	return nil
}

// single returns the value of a query parameter that may be given once.
func (q *request) single(name string) (value string, given bool, err error) {
	switch values := q.query[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	default:
		return "", true, badRequest(name, "%s is given %d times; once is allowed", name, len(values))
	}
}

// integer returns the value of a query parameter, or otherwise when it is absent.
func (q *request) integer(name string, least, most, otherwise int) (int, error) {
	text, given, err := q.single(name)
	if err != nil || !given {
		return otherwise, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, badRequest(name, "%s is %.40q; it must be a whole number from %d to %d", name, text, least, most)
	}
	return n, nil
}

// selection returns the audience as a send or close narrows it, by excluded and filter.
func (q *request) selection() (webpubsub.Audience, error) {
	a := q.audience
	a.Except = q.query["excluded"]
	text, _, err := q.single("filter")
	if err != nil {
		return a, err
	}
	a.Filter, err = checkedFilter(text)
	return a, err
}

// checkedFilter returns text, or "" when it is blank, which is no filter.
func checkedFilter(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	if _, err := filter.Parse(text); err != nil {
		return "", badRequest("filter", "the filter is invalid: %s", err)
	}
	return text, nil
}

// limit is how many bytes a body may have.
func (q *request) limit() int {
	if n := q.tenant.Limits.MessageBytes; n > 0 && n < webpubsub.MaxMessageBytes {
		return n
	}
	return webpubsub.MaxMessageBytes
}

// body reads the whole body, within limit and the deadline set by ServeHTTP.
func (q *request) body() ([]byte, error) {
	limit := int64(q.limit())
	if q.http.ContentLength > limit {
		return nil, q.tooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.http.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, q.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &problem{status: http.StatusRequestTimeout, message: "the body did not arrive in time", target: "body"}
	case err != nil:
		return nil, badRequest("body", "the body could not be read to its end")
	}
	setReadDeadline(q.w, time.Time{}) // the server would take a deadline that passes later for a caller that has closed the connection
	return body, nil
}

// tooLarge is the error of a body that is larger than limit.
func (q *request) tooLarge() error {
	return badRequest("body", "the body is too large; at most %d bytes are allowed", q.limit())
}

// endpoint is the service as the caller reached it, without a trailing slash: the scheme and host of the request,
// or of the client's request to the proxy in front of us.
func (q *request) endpoint() string {
	scheme, host := "http", q.http.Host
	if q.http.TLS != nil {
		scheme = "https"
	}
	if forwarded := firstOf(q.http.Header.Get("X-Forwarded-Proto")); forwarded == "http" || forwarded == "https" {
		scheme = forwarded
	}
	if forwarded := firstOf(q.http.Header.Get("X-Forwarded-Host")); isHost(forwarded) {
		host = forwarded
	}
	return scheme + "://" + host
}

// firstOf returns the first of a comma list: each proxy appends to it.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.ToLower(strings.TrimSpace(first))
}

// isHost reports whether s is a host with or without port and nothing more.
func isHost(s string) bool {
	u, err := url.Parse("http://" + s)
	return err == nil && s != "" && u.Host == s && u.Hostname() != ""
}
