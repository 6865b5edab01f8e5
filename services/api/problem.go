package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
)

// problem answers with an error, as problem details or, if the client prefers that, as plain text.
func problem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	accept := r.Header.Get("Accept")
	if strings.HasPrefix(accept, "text/plain") {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, detail, status)
		return
	}
	httpx.Problem(w, r, status, detail)
}

// fail answers with what err means for the person who asks. Errors that mean nothing to them are logged and not shown.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var body *httpx.BodyError
	switch {
	case errors.Is(err, errSignedOut):
		problem(w, r, http.StatusUnauthorized, "sign in first")
	case errors.As(err, &body):
		problem(w, r, body.Status, body.Text)
	case errors.Is(err, chat.ErrNotFound):
		problem(w, r, http.StatusNotFound, "there is no such chat, or it is not yours to see")
	case errors.Is(err, chat.ErrGone):
		problem(w, r, http.StatusGone, "what you have is too old to be brought up to date; read it anew from its beginning")
	case errors.Is(err, errNoRooms):
		problem(w, r, http.StatusForbidden, "your role does not allow to list rooms")
	case errors.Is(err, errNoHistory):
		problem(w, r, http.StatusForbidden, "your role in this chat does not allow to read what is said there")
	case errors.Is(err, chat.ErrForbidden):
		problem(w, r, http.StatusForbidden, "only members of this chat may read it; join it first")
	case errors.Is(err, chat.ErrInvalid):
		problem(w, r, http.StatusBadRequest, fmt.Sprintf("an id must be a text of 1 to %d bytes", chat.MaxIDBytes))
	default:
		s.internal(w, r, err)
	}
}

// internal answers 503 when the store cannot be reached, otherwise 500.
func (s *Service) internal(w http.ResponseWriter, r *http.Request, err error) {
	s.logger.Error("request not answered", "route", r.Pattern, "request", httpx.RequestID(r.Context()), "error", err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*time.Second)
	defer cancel()
	if chat.IsNotReady(err) || s.store.Ready(ctx) != nil {
		w.Header().Set("Retry-After", "5")
		problem(w, r, http.StatusServiceUnavailable, "the chat's store is not available now; try again in a moment")
		return
	}
	problem(w, r, http.StatusInternalServerError, "internal error")
}
