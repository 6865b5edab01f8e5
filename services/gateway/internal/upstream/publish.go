package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// GroupMessage is a message that the client of a connection sends to a group.
type GroupMessage struct {
	Group  string
	NoEcho bool
	HasAck bool
	AckID  uint64 // if HasAck
	Data   webpubsub.Data
}

// Outcome says what becomes of a message that a handler was to be asked about.
type Outcome string

// The outcomes.
const (
	OutcomePassed    Outcome = "passed"    // the handler has nothing against it
	OutcomeReplaced  Outcome = "replaced"  // the handler has given other data to publish
	OutcomeTaken     Outcome = "taken"     // the handler has it, and tells others itself
	OutcomeRefused   Outcome = "refused"   // the handler does not want it published
	OutcomeFailed    Outcome = "failed"    // the handler could not be asked, so it must not be published
	OutcomeUnchecked Outcome = "unchecked" // the handler could not be asked, and the settings say to publish it then
)

// Verdict is what becomes of a message.
type Verdict struct {
	Outcome Outcome
	Data    webpubsub.Data // to publish instead, if OutcomeReplaced
	Text    string         // for the client, if OutcomeRefused: what the handler says; empty: nothing that is fit for a client
	Err     error          // why the handler could not be asked, if OutcomeFailed or OutcomeUnchecked; nil: it does not know yet what it is asked
}

// Question is a question to a handler whether a message may be published. Put or GiveUp is to be called, once; Withdraw may be
// called instead. It is for one goroutine at a time.
type Question struct {
	session *Session
	to      target
	timeout time.Duration
	message GroupMessage
	asked   time.Time
	turn    turn
	ended   bool // the connection had ended before, so that there is no turn

	put        bool // Done is to follow
	pass       bool // the message passes when the handler fails
	mayNotKnow bool // the message passes when the handler does not know yet what it is asked
}

// AskBeforePublish prepares the question about a message; nil when no handler wants to be asked. Until it is answered or given up,
// the disconnected event waits.
func (s *Session) AskBeforePublish(m GroupMessage) *Question {
	q := &Question{session: s, message: m, asked: time.Now()}
	to, ok := s.up.choose(s.hub, cloudevents.BeforePublishName, func(h *tenant.Handler) bool {
		if h.BeforePublish.Enabled {
			q.timeout = min(h.BeforePublish.Timeout, s.up.cfg.EventTimeout)
			q.pass = h.BeforePublish.WhenFailing == tenant.PassWhenFailing
			q.mayNotKnow = h.BeforePublish.MayNotKnow
		}
		return h.BeforePublish.Enabled
	})
	if !ok {
		return nil
	}
	q.to, q.to.awaits = to, !q.mayNotKnow
	q.turn, ok = s.takeTurn(amongQuestions)
	q.ended = !ok
	return q
}

// Timeout is how long the message may wait for its turn, and then for the handler's answer.
func (q *Question) Timeout() time.Duration { return q.timeout }

// Put asks the handler, once no other question of the connection is under way, and returns its verdict, at the latest after Timeout. When
// ctx ends, the message must not be published. Done must follow.
func (q *Question) Put(ctx context.Context) Verdict {
	if q.ended {
		return q.failed(&Failure{Reason: ReasonCanceled})
	}
	s := q.session
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	if failure := q.turn.await(ctx, q.to.host); failure != nil {
		s.up.metrics.addFailure(kindBeforePublish, failure.Reason)
		return q.failed(failure)
	}
	q.put = true
	a, failure := s.up.callWithRetries(ctx, ctx, s, q.to, kindBeforePublish, q.event(), maxUserAnswer)
	switch {
	case failure == nil:
	case isRefusal(failure):
		return q.answered(Verdict{Outcome: OutcomeRefused, Text: refusalText(failure)})
	case q.mayNotKnow && isVersionBefore(failure):
		return q.answered(Verdict{Outcome: OutcomeUnchecked})
	default:
		return q.failed(failure)
	}
	v, failure := a.verdict(q.message.Data)
	if failure == nil {
		failure = s.setState(a)
	}
	if failure != nil {
		s.up.metrics.addFailure(kindBeforePublish, failure.Reason)
		return q.failed(failure)
	}
	return q.answered(v)
}

// Done lets the connection's next event go, the end of the connection among them, after Put and when the message has been published or
// not: who hears of the end hears nothing afterwards that the client has said.
func (q *Question) Done() {
	if q.put {
		q.put = false
		q.turn.finish()
	}
}

// GiveUp returns the verdict about a message that has waited too long for its turn.
func (q *Question) GiveUp() Verdict {
	q.Withdraw()
	q.session.up.metrics.addFailure(kindBeforePublish, ReasonBusy)
	return q.failed(&Failure{Reason: ReasonBusy})
}

// Withdraw ends a question that need not be put any more.
func (q *Question) Withdraw() {
	if !q.ended {
		q.turn.giveUp()
	}
}

// event is the event that brings the question to the handler.
func (q *Question) event() cloudevents.Event {
	m := &q.message
	e := q.session.event(cloudevents.BeforePublish, cloudevents.BeforePublishName, q.turn.id, q.asked)
	e.Group, e.NoEcho = m.Group, m.NoEcho
	if m.HasAck {
		e.AckID = strconv.FormatUint(m.AckID, 10)
	}
	e.ContentType, e.Body, e.Metadata = contentType(m.Data.Type), m.Data.Bytes, m.Data.Metadata
	return e
}

// answered counts the verdict.
func (q *Question) answered(v Verdict) Verdict {
	q.session.up.metrics.addAsked(v.Outcome, time.Since(q.asked))
	return v
}

// failed returns the verdict when there is no answer. A message is not published when the connection or the process has ended,
// whatever the settings say.
func (q *Question) failed(failure *Failure) Verdict {
	v := Verdict{Outcome: OutcomeFailed, Err: failure}
	if q.pass && failure.Reason != ReasonCanceled {
		v.Outcome = OutcomeUnchecked
	}
	return q.answered(v)
}

// verdict reads an answer to the question about a message with data sent. What the answer says nothing of stays as it was sent.
func (a answer) verdict(sent webpubsub.Data) (Verdict, *Failure) {
	switch {
	case a.status == http.StatusAccepted:
		return Verdict{Outcome: OutcomeTaken}, nil
	case a.status == http.StatusNoContent, a.status == http.StatusOK && len(a.body) == 0:
		return Verdict{Outcome: OutcomePassed}, nil
	case a.status != http.StatusOK:
		return Verdict{}, unusable("the answer has status %d; it must be 200, 202, 204 or 4xx", a.status)
	}
	d, failure := a.data(false)
	if failure != nil {
		return Verdict{}, failure
	}
	if d.Metadata == nil {
		d.Metadata = sent.Metadata
	}
	return Verdict{Outcome: OutcomeReplaced, Data: *d}, nil
}

// isUnknownEvent reports whether a handler says that it does not know the event that asks about messages. That says nothing of the
// message.
func isUnknownEvent(f *Failure) bool {
	return f.Status == http.StatusNotFound || f.Status == http.StatusMethodNotAllowed || isVersionBefore(f)
}

// isVersionBefore reports whether a handler is an events service of the version before, which did not know the event yet.
func isVersionBefore(f *Failure) bool {
	return f.Status == http.StatusBadRequest && bytes.HasPrefix(f.Body, []byte("ce-type must be "))
}

// isRefusal reports whether a handler refuses the message: by status 4xx, but for those that are about the request that asks.
func isRefusal(f *Failure) bool {
	return f.Status >= 400 && f.Status <= 499 && f.Status != http.StatusUnauthorized && f.Status != http.StatusRequestTimeout && !isUnknownEvent(f)
}

// maxRefusalText bounds in bytes how much of a handler's refusal a client gets to see.
const maxRefusalText = 1024

// refusalText is what a client gets to see of a handler's refusal: a text, or the message of an error in JSON, on one line. Anything
// else, such as a page, is not for clients.
func refusalText(f *Failure) string {
	media, _, err := mime.ParseMediaType(f.ContentType)
	text := ""
	switch {
	case f.ContentType == "", err == nil && media == cloudevents.TypeText:
		text = string(f.Body)
	case err == nil && (media == cloudevents.TypeJSON || media == "application/problem+json"):
		var body struct{ Message, Detail string }
		if json.Unmarshal(f.Body, &body) != nil {
			return ""
		}
		if text = body.Message; text == "" {
			text = body.Detail
		}
	}
	if !utf8.ValidString(text) {
		return ""
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }), " ")
	if len(text) > maxRefusalText {
		cut := maxRefusalText
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return text
}
