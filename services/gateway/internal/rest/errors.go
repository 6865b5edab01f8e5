package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
)

// problem is an error made for the caller.
type problem struct {
	status  int
	message string // says what would be right
	target  string // the parameter that is wrong, or empty
	allow   []string
}

func (p *problem) Error() string { return p.message }

// badRequest says that the parameter or header target is wrong, or "body"; the message says what would be right.
func badRequest(target, format string, args ...any) error {
	return &problem{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...), target: target}
}

func unauthorized(message string) error {
	return &problem{status: http.StatusUnauthorized, message: message}
}

func forbidden(message string) error {
	return &problem{status: http.StatusForbidden, message: message}
}

func notFound(message, target string) error {
	return &problem{status: http.StatusNotFound, message: message, target: target}
}

// problemOf is the one place where errors become answers. Of an error that it does not know the caller gets the request id only.
func problemOf(ctx context.Context, err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, node.ErrNotFound):
		return &problem{status: http.StatusNotFound, message: "there is no such connection"}
	case errors.Is(err, webpubsub.ErrRuleLimit):
		return &problem{status: http.StatusConflict, message: webpubsub.ErrRuleLimit.Error(), target: "targetName"}
	case errors.Is(err, token.ErrNoKeys):
		return &problem{status: http.StatusServiceUnavailable, message: token.ErrNoKeys.Error()}
	case errors.Is(err, node.ErrPartial):
		return &problem{status: http.StatusServiceUnavailable, message: "not every node has answered; the request may be made again"}
	case errors.Is(err, node.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem{status: http.StatusServiceUnavailable, message: "the message bus cannot be reached now; try again"}
	}
	message := "internal error"
	if id := httpx.RequestID(ctx); id != "" {
		message += "; request id " + id
	}
	return &problem{status: http.StatusInternalServerError, message: message}
}

// ignoreMissing makes node.ErrNotFound a success for the operations that succeed without a receiver (rest-api.md section 2).
func (op *operation) ignoreMissing(err error) error {
	if errors.Is(err, node.ErrNotFound) && op.missing == op.success {
		return nil
	}
	return err
}

// errorBody is the error form of rest-api.md section 1.4.
type errorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []errorBody `json:"details"`
	Inner   *errorBody  `json:"inner"`
}

// writeProblem answers with err, logs it, and returns the status.
func (h *Handler) writeProblem(w http.ResponseWriter, r *http.Request, op *operation, err error) int {
	p := problemOf(r.Context(), err)
	code := "Error." + strings.ReplaceAll(http.StatusText(p.status), " ", "")
	header := w.Header()
	header.Set("X-Ms-Error-Code", code)
	switch p.status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		header.Set("Allow", strings.Join(p.allow, ", "))
	}
	write(w, r, p.status, errorBody{Code: code, Message: p.message, Target: p.target, Details: []errorBody{}})
	h.logProblem(r, op, p, err)
	return p.status
}

// logProblem logs an error at the level that it has for operators. The caller's own mistakes are for debugging; a 404 of an
// operation is a normal answer.
func (h *Handler) logProblem(r *http.Request, op *operation, p *problem, err error) {
	level := slog.LevelDebug
	switch {
	case p.status == http.StatusNotFound:
		return
	case r.Context().Err() != nil: // the caller has closed the connection
	case p.status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case p.status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	attributes := []slog.Attr{
		slog.String("operation", op.category),
		slog.Int("status", p.status),
		slog.String("target", p.target),
		slog.String("request", httpx.RequestID(r.Context())),
	}
	if p.status == http.StatusUnauthorized || p.status == http.StatusForbidden {
		// Operators are asked why; but callers without a right must not fill the log.
		if ok, _ := h.refusalLogs.Allow(r.Host); ok {
			level = slog.LevelInfo
		}
	}
	if level > slog.LevelDebug { // at debug level it is left out: the error may quote what the caller sent
		attributes = append(attributes, slog.Any("error", err))
	}
	h.log.LogAttrs(r.Context(), level, "rest request refused", attributes...)
}
