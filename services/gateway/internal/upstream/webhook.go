package upstream

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Bounds of one batch. A batch has at least one event, however large.
const (
	maxBatch      = 100
	maxBatchBytes = 1 << 20
)

// webhookConsumer is the consumer group by which webhooks read their logs.
const webhookConsumer = "webhook"

// webhookReview is how often the settings are looked at for webhooks that have come or gone.
const webhookReview = 2 * time.Second

// webhookKey says which webhook is meant: that of the listener of a hub with a log. Its address and authorization are looked up
// for each batch, as they may change.
type webhookKey struct {
	hub webpubsub.HubKey
	log string
}

// webhooks posts the events of logs to the webhooks that listeners have.
type webhooks struct{ u *Upstream }

// run reads the logs of listeners with webhooks until the Upstream's life ends. Of all nodes one reads a log at a time.
func (w webhooks) run() {
	running := map[webhookKey]context.CancelFunc{}
	var readers sync.WaitGroup
	defer readers.Wait()
	tick := time.NewTicker(webhookReview)
	defer tick.Stop()
	for {
		wanted := w.wanted()
		for h, stop := range running {
			if !slices.Contains(wanted, h) {
				stop()
				delete(running, h)
			}
		}
		for _, h := range wanted {
			if running[h] == nil {
				ctx, stop := context.WithCancel(w.u.life)
				running[h] = stop
				readers.Go(func() { w.readLog(ctx, h) })
			}
		}
		select {
		case <-tick.C:
		case <-w.u.life.Done():
			for _, stop := range running {
				stop()
			}
			return
		}
	}
}

// wanted returns the webhooks that the settings have now.
func (w webhooks) wanted() (wanted []webhookKey) {
	for _, t := range w.u.tenants.All() {
		for _, h := range t.Hubs {
			for _, l := range h.EventListeners {
				if name, err := webpubsub.ParseHub(h.Name); err == nil && l.Webhook.URL != "" {
					wanted = append(wanted, webhookKey{webpubsub.HubKey{Tenant: t.Name, Hub: name}, l.Log})
				}
			}
		}
	}
	return wanted
}

// readLog hands a log's events to a webhook until ctx ends.
func (w webhooks) readLog(ctx context.Context, h webhookKey) {
	d := &delivery{u: w.u, webhookKey: h}
	err := w.u.messages.Consume(ctx, messagelog.Name(h.hub.Tenant, h.log), webhookConsumer, d.handle)
	if err != nil && ctx.Err() == nil {
		w.u.log.Error("message log cannot be read for a webhook", "tenant", h.hub.Tenant, "log", h.log, "error", err)
	}
}

// delivery hands batches of a log to a webhook. The log calls handle again with the same batch until it is taken, with
// pauses between that grow; what has been delivered of it is not delivered again by this process.
type delivery struct {
	u *Upstream
	webhookKey
	first   string // id of the first entry of the batch at hand
	done    int    // entries of it that are delivered
	failing bool   // the last attempt has failed
}

// handle posts a batch, in as few requests as its size allows. An error has the log call it with the same batch again.
func (d *delivery) handle(ctx context.Context, batch []messagelog.Entry) error {
	if batch[0].ID != d.first {
		d.first, d.done = batch[0].ID, 0
	}
	for d.done < len(batch) {
		n := batchLen(batch[d.done:])
		failure := d.deliver(ctx, batch[d.done:d.done+n])
		if failure != nil && ctx.Err() == nil && !d.failing {
			d.u.log.Warn("webhook does not take events; they are kept in the message log and tried again", "tenant", d.hub.Tenant,
				"hub", d.hub.Hub, "log", d.log, "reason", failure.Reason, "status", failure.Status, "detail", failure.detail)
		}
		d.failing = failure != nil
		if failure != nil {
			return failure
		}
		d.done += n
	}
	return nil
}

// batchLen says how many entries go into one request.
func batchLen(entries []messagelog.Entry) int {
	size := 0
	for n, e := range entries[:min(len(entries), maxBatch)] {
		if size += len(e.Data.Bytes); size > maxBatchBytes && n > 0 {
			return n
		}
	}
	return min(len(entries), maxBatch)
}

// deliver posts entries. A batch that is refused for what it is, and not for the time being, is tried event by event; an
// event that is refused so is given up, since it would hold up all that follow.
func (d *delivery) deliver(ctx context.Context, entries []messagelog.Entry) *Failure {
	failure := d.post(ctx, entries)
	if failure == nil || !refused(failure) {
		return failure
	}
	if len(entries) == 1 {
		d.u.metrics.addWebhookEvents("refused", 1)
		d.u.log.Warn("webhook refuses an event, which is given up", "tenant", d.hub.Tenant, "hub", d.hub.Hub, "log", d.log,
			"connection", entries[0].ConnectionID, "status", failure.Status)
		return nil
	}
	for i := range entries {
		if failure := d.deliver(ctx, entries[i:i+1]); failure != nil {
			return failure
		}
	}
	return nil
}

// refused reports whether a webhook has refused events for what they are: trying again would change nothing.
func refused(f *Failure) bool {
	return f.Status == http.StatusBadRequest || f.Status == http.StatusRequestEntityTooLarge || f.Status == http.StatusUnprocessableEntity
}

// post makes one attempt.
func (d *delivery) post(ctx context.Context, entries []messagelog.Entry) *Failure {
	ctx, cancel := context.WithTimeout(ctx, d.u.cfg.LifecycleTimeout)
	defer cancel()
	to, failure := d.target()
	if failure != nil {
		return failure
	}
	if failure := d.u.consents.consented(ctx, to); failure != nil {
		return failure
	}
	var events []cloudevents.Event
	for _, e := range entries {
		if e.Event != nil {
			events = append(events, eventOf(e))
		}
	}
	if len(events) == 0 { // only messages: the settings have changed, so that the log is read for something else
		return nil
	}
	address, failure := to.address("")
	if failure != nil {
		return failure
	}
	r, err := cloudevents.NewBatch(ctx, address, d.hub.Hub, to.origin, events, to.keys...)
	if err != nil {
		return &Failure{Reason: ReasonNetwork, detail: withoutURL(err)}
	}
	if failure := d.u.tokens.authorize(ctx, to.auth, r); failure != nil {
		return failure
	}
	failure = d.send(ctx, to, r)
	if failure == nil {
		d.u.metrics.addWebhookEvents("delivered", len(events))
	} else if !refused(failure) {
		d.u.metrics.addWebhookEvents("failed", len(events))
	}
	return failure
}

// send posts a request, and drops the token if the webhook does not accept it.
func (d *delivery) send(ctx context.Context, to target, r *http.Request) *Failure {
	resp, err := to.host.client.Do(r)
	if err != nil {
		return requestFailure(ctx, err)
	}
	defer resp.Body.Close()
	_, failure := readResponse(ctx, resp, 0)
	if failure != nil && failure.Status == http.StatusUnauthorized {
		d.u.tokens.drop(to.auth, r)
	}
	return failure
}

// target is where the webhook is now.
func (d *delivery) target() (target, *Failure) {
	t := d.u.tenants.ByName(d.hub.Tenant)
	if t == nil {
		return target{}, &Failure{Reason: ReasonNoHandler}
	}
	for _, l := range t.Hub(d.hub.Hub).EventListeners {
		if l.Log == d.log && l.Webhook.URL != "" {
			return d.targetOf(t, l.Webhook), nil
		}
	}
	return target{}, &Failure{Reason: ReasonNoHandler}
}

// targetOf returns the target that sends the events to w.
func (d *delivery) targetOf(t *tenant.Tenant, w tenant.Webhook) target {
	return target{hub: d.hub, host: d.u.host(t.Name, w.Host()), origin: d.u.origin(t), keys: t.Keys.All(), auth: w.Auth, trusted: w.SkipValidation,
		urlFor: func(string) (string, error) { return w.URLFor(d.hub.Hub) }}
}

// eventOf returns the event that an entry of a log is a copy of, as it is posted.
func eventOf(e messagelog.Entry) cloudevents.Event {
	return cloudevents.Event{
		Type: e.Event.Type, Name: e.Event.Name, Hub: e.Hub.Hub, ConnectionID: e.ConnectionID, ID: e.Event.ID, Time: e.Time,
		UserID: e.FromUserID, Subprotocol: e.Event.Subprotocol, State: e.Event.State, ContentType: contentType(e.Data.Type), Body: e.Data.Bytes,
	}
}
