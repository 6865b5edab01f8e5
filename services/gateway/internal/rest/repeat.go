package rest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/repeat"
)

// A send with a Repeatability-Request-ID may be made again, for as long as repeat.Window after its Repeatability-First-Sent, and is
// one message (OASIS Repeatable Requests 1.0).

// Headers of requests that may be made again, in the form in which net/http keeps them.
const (
	repeatID     = "Repeatability-Request-Id"
	repeatClient = "Repeatability-Client-Id"
	repeatDate   = "Repeatability-First-Sent"
	repeatResult = "Repeatability-Result"
)

const (
	maxRepeatID = 256             // characters of an id
	repeatSend  = 5 * time.Second // for the node to send, which is less than repeat.ClaimTime
	repeatWait  = 7 * time.Second // for another request of the same id that is under way
	repeatPause = 50 * time.Millisecond
	repeatSkew  = time.Minute // by which the clocks of gateways may differ
)

// newRepeatMetric counts sends with a request id by what became of them.
func newRepeatMetric() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_rest_repeatable_total",
		Help: "Sends with a Repeatability-Request-ID, by what became of them: sent (first), sent again since nobody knew whether the first was heard (again), answered without sending (repeated), left to one under way (busy), refused (rejected), failed before or while sending (failed).",
	}, []string{"result"})
}

// repeatable returns the request as one that may be made again; nil when its headers do not say so. How long it is kept is set,
// its print is not.
func (q *request) repeatable(now time.Time) (*repeat.Request, error) {
	header := q.http.Header
	ids, dates := header[repeatID], header[repeatDate]
	if len(ids) == 0 && len(dates) == 0 {
		return nil, nil
	}
	switch {
	case len(ids) == 0:
		return nil, badRequest("Repeatability-Request-ID", "Repeatability-First-Sent says that the request may be repeated; it then needs a Repeatability-Request-ID, such as a new UUID for each message")
	case len(ids) > 1 || !isToken(ids[0]):
		return nil, badRequest("Repeatability-Request-ID", "Repeatability-Request-ID must be given once, with 1 to %d visible ASCII characters, such as a new UUID for each message", maxRepeatID)
	}
	clients := header[repeatClient]
	client := ""
	if len(clients) > 0 {
		client = clients[0]
	}
	if len(clients) > 1 || client != "" && !isToken(client) {
		return nil, badRequest("Repeatability-Client-ID", "Repeatability-Client-ID must be given once, with 1 to %d visible ASCII characters", maxRepeatID)
	}
	keep := repeat.Window
	if len(dates) > 0 {
		sent, err := http.ParseTime(dates[0])
		if len(dates) > 1 || err != nil {
			return nil, badRequest("Repeatability-First-Sent", "Repeatability-First-Sent must be given once, as a date like %s", now.UTC().Format(http.TimeFormat))
		}
		switch age := now.Sub(sent); {
		case age > repeat.Window:
			return nil, &problem{status: http.StatusPreconditionFailed, target: "Repeatability-First-Sent", message: fmt.Sprintf(
				"the request was first sent %v ago; whether it was done is known for %v. See whether it was, and if not send it with a new Repeatability-Request-ID and the time of now", age.Round(time.Second), repeat.Window)}
		case age < -repeat.Window:
			return nil, &problem{status: http.StatusPreconditionFailed, target: "Repeatability-First-Sent", message: fmt.Sprintf(
				"Repeatability-First-Sent is %v ahead of the gateway's clock, which says %s; at most %v are allowed", -age.Round(time.Second), now.UTC().Format(http.TimeFormat), repeat.Window)}
		case age < 0:
			keep -= age
		}
	}
	return &repeat.Request{Tenant: q.hub.Tenant, Keep: keep + repeatSkew,
		ID: fmt.Sprintf("%s/%d/%s/%s", q.hub.Hub, len(client), client, ids[0])}, nil
}

// isToken reports whether s may be an id in a header.
func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxRepeatID
}

// sendOnce sends m unless the request has been carried out before.
func (h *Handler) sendOnce(ctx context.Context, q *request, r *repeat.Request, a webpubsub.Audience, m webpubsub.Message) error {
	r.Print = printOf(a, m)
	claim, state, err := h.claim(ctx, *r)
	if err != nil {
		h.repeats.WithLabelValues("failed").Inc()
		if errors.Is(err, repeat.ErrFull) {
			return &problem{status: http.StatusServiceUnavailable, message: err.Error(), target: "Repeatability-Request-ID"}
		}
		return err
	}
	result := q.w.Header()
	result.Set(repeatResult, "accepted")
	switch state {
	case repeat.Done:
		h.repeats.WithLabelValues("repeated").Inc()
		return nil
	case repeat.UnderWay:
		h.repeats.WithLabelValues("busy").Inc()
		return &problem{status: http.StatusServiceUnavailable, message: "the first request of this Repeatability-Request-ID is still under way; ask again"}
	case repeat.Different:
		h.repeats.WithLabelValues("rejected").Inc()
		result.Set(repeatResult, "rejected")
		return badRequest("Repeatability-Request-ID", "this Repeatability-Request-ID has been used for another message; each message needs one of its own")
	}
	return h.carryOut(ctx, claim, state, a, m)
}

// claim claims a request. It waits for another one of the same id that is under way, but not for ever.
func (h *Handler) claim(ctx context.Context, r repeat.Request) (repeat.Claim, repeat.State, error) {
	giveUp := time.Now().Add(repeatWait)
	for {
		claim, state, err := h.options.Repeats.Claim(ctx, r)
		if err != nil || state != repeat.UnderWay || time.Now().After(giveUp) {
			return claim, state, err
		}
		select {
		case <-time.After(repeatPause):
		case <-ctx.Done():
			return claim, state, nil
		}
	}
}

// carryOut sends the message of a claim and notes what has come of it. The caller's leaving does not end it: nobody would know
// whether it was sent.
func (h *Handler) carryOut(ctx context.Context, claim repeat.Claim, state repeat.State, a webpubsub.Audience, m webpubsub.Message) error {
	ctx = context.WithoutCancel(ctx)
	sending, cancel := context.WithTimeout(ctx, repeatSend)
	defer cancel()
	err := h.node.SendRepeatable(sending, a, m, claim.MessageID(), state == repeat.Again)
	outcome := repeat.CarriedOut
	switch {
	case err == nil, errors.Is(err, node.ErrNotFound):
	case errors.Is(err, node.ErrUncertain):
		outcome = repeat.Unknown
	default:
		outcome = repeat.NotDone
	}
	switch {
	case outcome != repeat.CarriedOut:
		h.repeats.WithLabelValues("failed").Inc()
	case state == repeat.Again:
		h.repeats.WithLabelValues("again").Inc()
	default:
		h.repeats.WithLabelValues("sent").Inc()
	}
	if noted := h.options.Repeats.Finish(ctx, claim, outcome); noted != nil {
		h.log.Warn("the outcome of a send with a request id could not be noted; if it is repeated, it is sent again", "error", noted)
	}
	return err
}

// printOf returns what tells a message for an audience from another one.
func printOf(a webpubsub.Audience, m webpubsub.Message) string {
	sum := sha256.New()
	var length [8]byte
	write := func(parts ...string) {
		for _, s := range parts {
			binary.BigEndian.PutUint64(length[:], uint64(len(s)))
			_, _ = sum.Write(length[:]) // never fails
			_, _ = sum.Write([]byte(s))
		}
	}
	write(a.Scope.String(), a.Name, a.Filter, m.Data.Type.String(), m.TTL.String(), string(m.Data.Bytes))
	write(a.Except...)
	for _, x := range m.Data.Metadata {
		write("", x.Key, x.Value)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
