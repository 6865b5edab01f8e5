package cloudevents

import (
	"encoding/json"
)

// ConnectRequest is the body of a connect event (event-handler.md section 5.1).
type ConnectRequest struct {
	Claims             map[string][]string `json:"claims"`
	Query              map[string][]string `json:"query"`
	Headers            map[string][]string `json:"headers"`
	Subprotocols       []string            `json:"subprotocols"`
	ClientCertificates []Certificate       `json:"clientCertificates"`
}

// Certificate is a TLS certificate that a client has shown.
type Certificate struct {
	Thumbprint string `json:"thumbprint"` // SHA-1 in hex
	Content    string `json:"content"`    // PEM
}

// MarshalJSON writes every member and never null: handlers index them without looking.
func (r ConnectRequest) MarshalJSON() ([]byte, error) {
	type plain ConnectRequest
	for _, m := range []*map[string][]string{&r.Claims, &r.Query, &r.Headers} {
		*m = filled(*m)
	}
	if r.Subprotocols == nil {
		r.Subprotocols = []string{}
	}
	if r.ClientCertificates == nil {
		r.ClientCertificates = []Certificate{}
	}
	return json.Marshal(plain(r))
}

func filled(m map[string][]string) map[string][]string {
	all := make(map[string][]string, len(m))
	for name, values := range m {
		if values == nil {
			values = []string{}
		}
		all[name] = values
	}
	return all
}

// ConnectResponse is the body of an answer that accepts a connection (event-handler.md section 5.2). When read,
// member names match in any letter case and null is the same as absent.
type ConnectResponse struct {
	UserID      *string  `json:"userId,omitempty"`      // nil keeps the token's; "" is a value and clears it
	Groups      []string `json:"groups,omitempty"`      // empty keeps the token's
	Roles       []string `json:"roles,omitzero"`        // nil keeps the token's; empty removes all
	Subprotocol string   `json:"subprotocol,omitempty"` // empty: not chosen
}

// PresenceBody is the body of a joined or left event. The protocol does not say how it looks.
type PresenceBody struct {
	Group string `json:"group"`
}

// DisconnectedBody is the body of a disconnected event (event-handler.md section 7.2).
type DisconnectedBody struct {
	Reason string `json:"reason"`
}
