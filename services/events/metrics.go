package events

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events   *prometheus.CounterVec
	duration *prometheus.HistogramVec
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
	}
	reg.MustRegister(m.events, m.duration)
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
