package gateway

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	mourned prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{mourned: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_orphans_reported_total", Help: "Connections of dead nodes whose disconnected event this node has sent."})}
	reg.MustRegister(m.mourned)
	return m
}
