package events

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	history  *prometheus.CounterVec
	ghosts   prometheus.Counter
	untold   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "events_handled_total",
			Help: "Events answered, by event and result: ok, refused (the sender's to correct) or failed (ours).",
		}, []string{"event", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "events_duration_seconds",
			Help:    "Time from taking an event to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 11),
		}, []string{"event"}),
		history: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "events_history_messages_total",
			Help: "Group messages read from the message log, by result: stored, known (seen before), or the reason why they are not in the history.",
		}, []string{"result"}),
		ghosts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "events_stale_connections_total",
			Help: "Connections that had ended without a disconnected event and were found by looking for them.",
		}),
		untold: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "events_unsent_messages_total",
			Help: "Messages that are in the history and could not be sent to the connections of their room.",
		}),
	}
	reg.MustRegister(m.events, m.duration, m.history, m.ghosts, m.untold)
	return m
}

func (m *metrics) handled(event string, status int, d time.Duration) {
	result := "ok"
	switch {
	case status >= 500:
		result = "failed"
	case status >= 400:
		result = "refused"
	}
	m.events.WithLabelValues(event, result).Inc()
	m.duration.WithLabelValues(event).Observe(d.Seconds())
}
