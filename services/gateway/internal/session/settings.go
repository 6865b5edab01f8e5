package session

import "github.com/chatr-dev/chatr/pkg/tenant"

// settings are what the tenant's say now about the client's messages.
type settings struct {
	tenant    *tenant.Tenant // that they were taken from: others are another tenant
	rate      int            // how many frames a second the client may send; 0: any number
	listeners []string       // the message logs that get a copy of what goes to groups
	asks      bool           // a handler is asked before what goes to groups is published
}

func settingsOf(t *tenant.Tenant, hub string) settings {
	if t == nil {
		return settings{}
	}
	h := t.Hub(hub)
	return settings{t, t.Rate(hub), h.Listeners, h.AsksBeforePublish()}
}

// renewSettings looks whether the tenant's settings have changed.
func (r *reader) renewSettings() {
	t := r.shared.tenants.ByName(r.tenant)
	if t == r.settings.tenant {
		return
	}
	r.settings = settingsOf(t, r.conn.Hub.Hub)
}
