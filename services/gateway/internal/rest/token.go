package rest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// clientPaths are the client endpoints by clientType in lower case (auth.md section 2).
var clientPaths = map[string]string{
	"":         "/client/hubs/",
	"default":  "/client/hubs/",
	"mqtt":     "/clients/mqtt/hubs/",
	"socketio": "/clients/socketio/hubs/",
}

// clientToken is the answer of R04.
type clientToken struct {
	Token string `json:"token"`
}

// generateToken is R04 (rest-api.md section 7.2).
func (h *Handler) generateToken(_ context.Context, q *request) (any, error) {
	minutes, err := q.integer("minutesToExpire", 1, int(h.options.MaxTokenLife/time.Minute), 60)
	if err != nil {
		return nil, err
	}
	userID, _, err := q.single("userId")
	if err != nil {
		return nil, err
	}
	clientType, _, err := q.single("clientType")
	if err != nil {
		return nil, err
	}
	path, ok := clientPaths[strings.ToLower(clientType)]
	if !ok {
		return nil, badRequest("clientType", "clientType %.40q is unknown; it must be default, mqtt or socketio", clientType)
	}
	groups := q.query["group"]
	for _, name := range groups {
		if err := webpubsub.CheckGroup(name); err != nil {
			return nil, badRequest("group", "%s", err)
		}
	}
	roles := slices.DeleteFunc(q.query["role"], func(role string) bool { return role == "" })
	signed, err := token.Sign(q.tenant.Keys.Own(), h.publicEndpoint(q)+path+q.hubText, time.Duration(minutes)*time.Minute,
		token.Options{Subject: userID, Roles: roles, Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("sign client token: %w", err)
	}
	return clientToken{signed}, nil
}

func (h *Handler) publicEndpoint(q *request) string {
	for _, endpoint := range []string{q.tenant.PublicURL, h.options.PublicURL} {
		if endpoint != "" {
			return strings.TrimRight(endpoint, "/")
		}
	}
	return q.endpoint()
}
