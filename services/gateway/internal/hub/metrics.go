package hub

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of a registry. What is delivered is counted once for all jobs that a writer takes: see writer.doTaken.
type metrics struct {
	connections prometheus.Gauge
	delivered   prometheus.Counter
	bytesOut    prometheus.Counter
	dropped     *prometheus.CounterVec
	expired     prometheus.Counter // of dropped
	closed      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_connections", Help: "Connections on this node, also reliable ones that have no socket at the moment."}),
		delivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_messages_delivered_total", Help: "Copies of messages given to connections."}),
		bytesOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_sent_bytes_total", Help: "Bytes of frames given to connections."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_messages_dropped_total", Help: "Copies of messages that their connection did not get, by reason."},
			[]string{"reason"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_connections_closed_total",
			Help: "Connections that ended for good, by reason, and by what the cloud service's metrics call it."},
			[]string{"reason", "category"}),
	}
	m.expired = m.dropped.WithLabelValues("expired")
	reg.MustRegister(m.connections, m.delivered, m.bytesOut, m.dropped, m.closed)
	return m
}
