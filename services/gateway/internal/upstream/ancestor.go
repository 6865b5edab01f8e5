package upstream

import (
	"net/http"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
)

// OpenAncestor is Open for a client of the ancestor protocol (event-handler.md section 12). Its events go where the
// tenant's templates say, in the form of package asrs; all else is as for other sessions.
func (u *Upstream) OpenAncestor(
	hub webpubsub.HubKey, connID string, r *http.Request, claims map[string][]string, offered []string,
) *Session {
	thumbprint := ""
	if shown := certificates(r); len(shown) > 0 {
		thumbprint = shown[0].Thumbprint
	}
	return &Session{up: u, hub: hub, id: connID, caller: asrs.NewCaller(r, claims, offered, thumbprint)}
}

// ancestorTarget returns where the first template of hub that matches sends an event. There is none for events that the
// ancestor protocol does not have.
func (u *Upstream) ancestorTarget(hub webpubsub.HubKey, k eventKind) (target, bool) {
	category, event := asrs.Connections, ""
	switch k {
	case kindConnect:
		event = asrs.Connect
	case kindDisconnected:
		event = asrs.Disconnect
	case kindUser:
		category, event = asrs.Messages, asrs.Message
	default:
		return target{}, false
	}
	t := u.tenants.ByName(hub.Tenant)
	if t == nil {
		return target{}, false
	}
	template := t.Template(hub.Hub, category, event)
	if template == nil {
		return target{}, false
	}
	return target{
		hub: hub, category: category, event: event, host: u.host(hub.Tenant, template.Host()), keys: t.Keys.All(), auth: template.Auth, trusted: true,
		urlFor: func(event string) (string, error) { return template.URLFor(hub.Hub, category, event) },
	}, true
}

// acceptedAncestor reads an answer to connect in the ancestor protocol, in which the client has offered subprotocols.
func (a answer) acceptedAncestor(offered []string) (Accepted, *Failure) {
	w, err := asrs.ParseConnectAnswer(a.header, a.body, offered)
	if err != nil {
		return Accepted{}, unusable("%w", err)
	}
	accepted := Accepted{Handled: true, Groups: w.Groups, Subprotocol: w.Subprotocol, Greeting: w.Greeting}
	if w.UserID != "" {
		accepted.UserID = &w.UserID
	}
	return accepted, nil
}

// frameType is how an answer to a message goes to the client of the ancestor protocol: as text, unless its content type says
// binary or it is not UTF-8.
func frameType(a answer) webpubsub.DataType {
	if a.contentType == cloudevents.TypeBinary || !utf8.Valid(a.body) {
		return webpubsub.DataBinary
	}
	return webpubsub.DataText
}
