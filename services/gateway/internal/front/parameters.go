package front

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
)

// selectCodec follows client-json.md 1.5: what the handler says, else the first offered one that we know.
func selectCodec(chosen string, offered []string) (codec protocol.Codec, name string) {
	if chosen = strings.TrimSpace(chosen); chosen != "" {
		if codec, ok := protocol.ByName(chosen); ok {
			return codec, chosen
		}
		return protocol.Simple, chosen
	}
	if codec, ok := protocol.Select(offered); ok {
		return codec, codec.Name()
	}
	return protocol.Simple, ""
}

// parseMode reads the parameters of client-json.md 1.3; of repeated ones the last counts.
func parseMode(q url.Values) (m session.Mode, err error) {
	mode := last(q["webpubsub_mode"])
	switch {
	case mode == "" || strings.EqualFold(mode, "sendEvent"):
		return m, nil
	case !strings.EqualFold(mode, "sendToGroup"):
		return m, fmt.Errorf("webpubsub_mode is %.50q; it must be sendEvent or sendToGroup", mode)
	}
	m.Group = last(q["group"])
	if err := webpubsub.CheckGroup(m.Group); err != nil {
		return m, fmt.Errorf("webpubsub_mode=sendToGroup needs the parameter group: %w", err)
	}
	switch noEcho := last(q["noEcho"]); {
	case strings.EqualFold(noEcho, "true"):
		m.NoEcho = true
	case noEcho != "" && !strings.EqualFold(noEcho, "false"):
		return m, fmt.Errorf("noEcho is %.50q; it must be true or false", noEcho)
	}
	return m, nil
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// accessToken is what the query, in any letter case, or the header Authorization says, empty if neither has one.
func accessToken(r *http.Request, query url.Values) string {
	if raw := query.Get("access_token"); raw != "" {
		return raw
	}
	for name, values := range query {
		if strings.EqualFold(name, "access_token") && values[0] != "" {
			return values[0]
		}
	}
	if scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(credentials)
	}
	return ""
}
