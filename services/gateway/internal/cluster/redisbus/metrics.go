package redisbus

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	published  prometheus.Counter
	failed     prometheus.Counter
	reconnects prometheus.Counter
	readUp     prometheus.Counter
	restored   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, b *Bus) *metrics {
	auto := promauto.With(reg)
	auto.NewCounterFunc(prometheus.CounterOpts{
		Name: "gateway_bus_received_total", Help: "Payloads and confirmations received from the message bus.",
	}, func() float64 { return float64(b.received.Load()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_bus_queue_length", Help: "Payloads waiting to be published.",
	}, func() float64 {
		s, err := b.current()
		if err != nil {
			return 0
		}
		waiting := 0
		for _, l := range s.links {
			waiting += l.posts.len()
		}
		return float64(waiting)
	})
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_bus_topics", Help: "Topics this node subscribes to.",
	}, func() float64 { return float64(b.topics.len()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_bus_ready", Help: "1 when publishing and all subscriptions work, else 0.",
	}, func() float64 {
		if b.Ready() != nil {
			return 0
		}
		return 1
	})
	auto.NewCounterFunc(prometheus.CounterOpts{
		Name: "gateway_bus_gaps_total", Help: "Times when the message bus was back and not all that was missed could be read up.",
	}, func() float64 { return float64(b.gaps.Load()) })
	return &metrics{
		readUp: auto.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bus_read_up_total", Help: "Payloads read from the backlog after the message bus was lost, those heard before included.",
		}),
		restored: auto.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bus_restored_total", Help: "Payloads published again because Redis had lost them after answering, as in a failover.",
		}),
		published: auto.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bus_published_total", Help: "Payloads published.",
		}),
		failed: auto.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bus_publish_failures_total", Help: "Payloads that were not published, because of a broken connection or a full queue.",
		}),
		reconnects: auto.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bus_reconnects_total", Help: "Attempts to connect to the message bus again.",
		}),
	}
}
