package front

import (
	"net/http"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// ServeTrace answers the handshake of one who wants to watch, and talks to it.
func (f *Front) ServeTrace(w http.ResponseWriter, r *http.Request) {
	if !socket.CheckHandshake(w, r) {
		return
	}
	t, refused := f.admitTrace(r)
	if refused == nil && !f.Audit.EnterTrace(t.Name) {
		refused = refuse(http.StatusTooManyRequests, "%d are watching already, as many as may on one node", livetrace.MaxListeners)
	}
	if refused != nil {
		if refused.status != http.StatusTooManyRequests { // which would look like that of clients
			f.tellRefusal(r, refused)
		}
		refused.write(w)
		return
	}
	defer f.Audit.LeaveTrace(t.Name)
	f.Sockets.Add(1)
	defer f.Sockets.Done()
	sock, err := socket.Accept(w, r, "", false)
	if err != nil {
		return // w has been answered
	}
	if err := f.Audit.ServeTrace(f.watching, sock, t.Name); err != nil {
		f.Log.Debug("live trace ended", "tenant", t.Name, "error", err)
	}
}

// admitTrace finds out whom the client may watch.
func (f *Front) admitTrace(r *http.Request) (*tenant.Tenant, *refusal) {
	t := f.Tenants.ByHost(r.Host)
	switch {
	case t == nil:
		return nil, refuse(http.StatusNotFound, "no tenant has the host %.100q", r.Host)
	case !t.Permits(tenant.Trace, f.TrustedProxies.ClientAddr(r)):
		return nil, refuse(http.StatusForbidden, "the service does not allow live trace from your network")
	case !t.LiveTrace.Enabled:
		return nil, refuse(http.StatusNotFound, "live trace is off; the service's setting liveTrace.enabled turns it on")
	case f.Draining():
		return nil, refuseForNow()
	}
	claims, err := token.NewKeyVerifier(t.TokenKeys()...).Verify(r.Context(), accessToken(r, httpx.ParseQuery(r.URL.RawQuery)))
	if err == nil {
		err = token.CheckRESTAudience(claims, r, t.AudienceHosts(f.AcceptedHosts))
	}
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, "live trace needs a token that is signed with an access key, "+
			"in the query parameter access_token or as Authorization: Bearer: %v", err)
	}
	return t, nil
}
