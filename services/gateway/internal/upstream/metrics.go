package upstream

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// eventKind is an event as a metric label. User events share one, since clients choose their names.
type eventKind string

const (
	kindConnect      eventKind = "connect"
	kindConnected    eventKind = "connected"
	kindDisconnected eventKind = "disconnected"
	kindUser         eventKind = "user"
	kindJoined       eventKind = "joined"
	kindLeft         eventKind = "left"

	kindBeforePublish eventKind = "beforePublish"
)

// eventType is the ce-type of an event that is no user event.
func (k eventKind) eventType() string {
	if k == kindJoined || k == kindLeft {
		return cloudevents.PresencePrefix + string(k)
	}
	return cloudevents.SystemPrefix + string(k)
}

// isLifecycle reports whether events of that kind are delivered by workers, while no client waits.
func (k eventKind) isLifecycle() bool {
	return k == kindConnected || k == kindDisconnected || k == kindJoined || k == kindLeft
}

type metrics struct {
	duration     *prometheus.HistogramVec
	failures     *prometheus.CounterVec
	dropped      *prometheus.CounterVec
	waiting      prometheus.Gauge
	inFlight     prometheus.Gauge
	slotsAwaited prometheus.Gauge
	durations    map[eventKind]prometheus.Observer // of duration, looked up once

	asked       map[Outcome]prometheus.Counter
	askDuration prometheus.Histogram

	copies   *prometheus.CounterVec
	webhooks *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gateway_upstream_request_duration_seconds",
			Help:    "Time from posting an event to a handler until its answer was read, for each attempt.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100},
		}, []string{"event"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_failures_total", Help: "Attempts to deliver an event that failed.",
		}, []string{"event", "reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_events_dropped_total", Help: "Connected, disconnected, joined and left events that were given up.",
		}, []string{"reason"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_upstream_events_waiting", Help: "Connected, disconnected, joined and left events not yet delivered.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_upstream_requests_in_flight", Help: "Requests to event handlers under way.",
		}),
		slotsAwaited: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_upstream_requests_waiting", Help: "Requests to event handlers that wait because as many as may are under way.",
		}),
		durations: map[eventKind]prometheus.Observer{},

		asked: map[Outcome]prometheus.Counter{},
		askDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_publish_ask_duration_seconds",
			Help:    "Time from a client's message to a group until it was known what becomes of it, in hubs whose handler is asked before.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100},
		}),

		copies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_listener_copies_total", Help: "Attempts to copy an event to the log of an event listener, by result: stored or failed.",
		}, []string{"result"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_webhook_events_total",
			Help: "Events of event listeners for webhooks: delivered, failed (and tried again), or refused (and given up).",
		}, []string{"result"}),
	}
	for _, k := range []eventKind{kindConnect, kindConnected, kindDisconnected, kindUser, kindJoined, kindLeft, kindBeforePublish} {
		m.durations[k] = m.duration.WithLabelValues(string(k))
	}
	asked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_publish_asked_total",
		Help: "Messages to groups that a handler was to be asked about, by outcome: passed, replaced, taken or refused by the handler; " +
			"failed or unchecked (passed nevertheless) when it could not be asked or gave no usable answer.",
	}, []string{"outcome"})
	for _, o := range []Outcome{OutcomePassed, OutcomeReplaced, OutcomeTaken, OutcomeRefused, OutcomeFailed, OutcomeUnchecked} {
		m.asked[o] = asked.WithLabelValues(string(o))
	}
	reg.MustRegister(asked, m.askDuration, m.duration, m.failures, m.dropped, m.waiting, m.inFlight, m.slotsAwaited, m.copies, m.webhooks)
	return m
}

// addAsked counts a message that a handler was to be asked about, and how long it has waited for that.
func (m *metrics) addAsked(o Outcome, d time.Duration) {
	m.asked[o].Inc()
	m.askDuration.Observe(d.Seconds())
}

func (m *metrics) observeDuration(k eventKind, d time.Duration) { m.durations[k].Observe(d.Seconds()) }

func (m *metrics) addFailure(k eventKind, r Reason) {
	m.failures.WithLabelValues(string(k), string(r)).Inc()
}

func (m *metrics) addDropped(r Reason, n int) { m.dropped.WithLabelValues(string(r)).Add(float64(n)) }

func (m *metrics) addCopy(err error) {
	result := "stored"
	if err != nil {
		result = "failed"
	}
	m.copies.WithLabelValues(result).Inc()
}

// addWebhookEvents counts n events by result, as the metric's help has it.
func (m *metrics) addWebhookEvents(result string, n int) {
	m.webhooks.WithLabelValues(result).Add(float64(n))
}
