package front

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
)

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
	if f.status == http.StatusServiceUnavailable {
		h.Set("Connection", "close") // one that is kept takes memory, of which there may be too little
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

// refuse answers a client's handshake with why it is refused, counts that and tells operators.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, refused *refusal) {
	status := strconv.Itoa(refused.status)
	f.metrics.refused.WithLabelValues(status).Inc()
	f.metrics.answered.WithLabelValues(clientType(r.URL.Path), status).Inc()
	f.tellRefusal(r, refused)
	refused.write(w)
}

// tellRefusal logs why a client may not connect, which operators are asked about: above all by which audience.
func (f *Front) tellRefusal(r *http.Request, refused *refusal) {
	reason := refused.body
	switch refused.status {
	case http.StatusUnauthorized, http.StatusForbidden:
	case http.StatusTooManyRequests:
		reason = "Connection count reaches limit"
	default:
		return
	}
	tenant := ""
	if t := f.Tenants.ByHost(r.Host); t != nil {
		tenant = t.Name
	}
	if ok, _ := f.refusals.Allow(tenant + " " + strconv.Itoa(refused.status)); ok {
		address := ""
		if a := f.TrustedProxies.ClientAddr(r); a.IsValid() {
			address = a.String()
		}
		f.Log.Info("client refused", "tenant", tenant, "path", r.URL.Path, "status", refused.status, "reason", reason, "address", address)
	}
	f.Audit.ClientRefused(r, tenant, refused.status, reason)
}
