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

// reviewEvery is how often the settings are looked at for webhooks that have come or gone.
const reviewEvery = 2 * time.Second

// hook is a webhook's place: the hub and the log that a listener with a webhook has. Which address it has, and what
// authorization, is looked up for each batch.
type hook struct {
	hub webpubsub.HubKey
	log string
}

// runWebhooks reads the logs of listeners with webhooks until life ends. Of all nodes one reads a log at a time.
func (u *Upstream) runWebhooks() {
	running := map[hook]context.CancelFunc{}
	var readers sync.WaitGroup
	defer readers.Wait()
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	for {
		wanted := u.hooks()
		for h, stop := range running {
			if !slices.Contains(wanted, h) {
				stop()
				delete(running, h)
			}
		}
		for _, h := range wanted {
			if running[h] == nil {
				ctx, stop := context.WithCancel(u.life)
				running[h] = stop
				readers.Go(func() { u.readFor(ctx, h) })
			}
		}
		select {
		case <-tick.C:
		case <-u.life.Done():
			for _, stop := range running {
				stop()
			}
			return
		}
	}
}

func (u *Upstream) hooks() (wanted []hook) {
	for _, t := range u.tenants.All() {
		for _, h := range t.Hubs {
			for _, l := range h.EventListeners {
				if name, err := webpubsub.ParseHub(h.Name); err == nil && l.Webhook.URL != "" {
					wanted = append(wanted, hook{webpubsub.HubKey{Tenant: t.Name, Hub: name}, l.Log})
				}
			}
		}
	}
	return wanted
}

// readFor hands a log's events to a webhook until ctx ends.
func (u *Upstream) readFor(ctx context.Context, h hook) {
	d := &delivery{u: u, hook: h}
	err := u.messages.Consume(ctx, messagelog.Name(h.hub.Tenant, h.log), webhookConsumer, d.handle)
	if err != nil && ctx.Err() == nil {
		u.log.Error("message log cannot be read for a webhook", "tenant", h.hub.Tenant, "log", h.log, "error", err)
	}
}

// delivery hands batches of a log to a webhook. The log calls handle again with the same batch until it is taken, with
// pauses between that grow; what has been delivered of it is not delivered again by this process.
type delivery struct {
	u *Upstream
	hook
	first   string // id of the first entry of the batch at hand
	done    int    // entries of it that are delivered
	failing bool   // the last attempt has failed
}

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
		d.u.metrics.hooked("refused", 1)
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
	if failure := d.u.consented(ctx, to); failure != nil {
		return failure
	}
	var events []cloudevents.Event
	for _, e := range entries {
		if e.Event != nil {
			events = append(events, eventOf(e))
		}
	}
	if len(events) == 0 { // of settings that have changed
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
	if failure := d.u.authorize(ctx, to.auth, r); failure != nil {
		return failure
	}
	failure = d.send(ctx, to, r)
	if failure == nil {
		d.u.metrics.hooked("delivered", len(events))
	} else if !refused(failure) {
		d.u.metrics.hooked("failed", len(events))
	}
	return failure
}

func (d *delivery) send(ctx context.Context, to target, r *http.Request) *Failure {
	resp, err := d.u.client.Do(r)
	if err != nil {
		return requestFailure(ctx, err)
	}
	defer resp.Body.Close()
	_, failure := read(ctx, resp, 0)
	if failure != nil && failure.Status == http.StatusUnauthorized {
		d.u.distrust(to.auth, r)
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
			return d.u.hookTarget(d.hub, t, l.Webhook), nil
		}
	}
	return target{}, &Failure{Reason: ReasonNoHandler}
}

func (u *Upstream) hookTarget(hub webpubsub.HubKey, t *tenant.Tenant, w tenant.Webhook) target {
	return target{hub: hub, host: u.host(w.Host()), origin: u.origin(t), keys: t.Keys.All(), auth: w.Auth, trusted: w.SkipValidation,
		urlFor: func(string) (string, error) { return w.URLFor(hub.Hub) }}
}

func eventOf(e messagelog.Entry) cloudevents.Event {
	return cloudevents.Event{
		Type: e.Event.Type, Name: e.Event.Name, Hub: e.Hub.Hub, ConnectionID: e.ConnectionID, ID: e.Event.ID, Time: e.Time,
		UserID: e.FromUserID, Subprotocol: e.Event.Subprotocol, State: e.Event.State, ContentType: contentType(e.Data.Type), Body: e.Data.Bytes,
	}
}
