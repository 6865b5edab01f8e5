package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/token"
)

// negotiate gives a page the address of its socket. The token in it says who the user is and nothing about what
// the user may do: the connect event decides that.
func (s *Service) negotiate(w http.ResponseWriter, r *http.Request) {
	user, err := s.signedIn(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	endpoint, signed, err := s.clientToken(r, user.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, http.StatusOK, map[string]any{
		"url":       webSocket(endpoint) + "?access_token=" + signed,
		"expiresIn": int(tokenTTL / time.Second),
	})
}

// clientToken returns the hub's client endpoint as http(s) URL and a token for userID there.
func (s *Service) clientToken(r *http.Request, userID string) (endpoint, signed string, err error) {
	endpoint = s.clientEndpoint(r) + "/client/hubs/" + s.cfg.Hub
	signed, err = token.Sign(s.keys().Own(), endpoint, tokenTTL, token.Options{Subject: userID})
	return endpoint, signed, err
}

// getToken is negotiate for pages of the original, which name the user they want to be. With a session it can
// only be the session's user. Errors are plain text, as those pages show them.
func (s *Service) getToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	userID := httpx.ParseQuery(r.URL.RawQuery).Get("userId")
	if userID == "" {
		http.Error(w, "userId is missing: ask as /api/getToken?userId=…", http.StatusBadRequest)
		return
	}
	user, err := s.signedIn(r)
	switch {
	case err == nil && user.ID != userID:
		http.Error(w, "userId must be that of the signed-in user", http.StatusForbidden)
		return
	case errors.Is(err, errSignedOut) && !(s.cfg.LegacyGuests && chat.IsLegacyID(userID)):
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	case err != nil && !errors.Is(err, errSignedOut):
		s.fail(w, r, err)
		return
	}
	if err != nil { // a stranger, who may be somebody that nobody else is: not one whom an application vouches for
		known, err := s.store.User(r.Context(), s.cfg.Tenant, userID)
		switch {
		case err == nil && known.Provider != "guest":
			http.Error(w, "this user is not a guest; sign in first", http.StatusUnauthorized)
			return
		case err != nil && !errors.Is(err, chat.ErrNotFound):
			s.fail(w, r, err)
			return
		}
	}
	endpoint, signed, err := s.clientToken(r, userID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	base := webSocket(endpoint)
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"baseUrl": base, "url": base + "?access_token=" + signed, "token": signed})
}
