package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

type metrics struct {
	opened    prometheus.Counter
	recovered prometheus.Counter
	taken     prometheus.Counter
	mourned   prometheus.Counter
	refused   *prometheus.CounterVec
	answered  *prometheus.CounterVec
	bytesIn   prometheus.Counter
	requests  []prometheus.Counter // by kind
}

func newMetrics(reg prometheus.Registerer, quota func() float64, watching func() int) metrics {
	m := metrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_opened_total", Help: "Connections that were opened."}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_recovered_total", Help: "Reliable connections that got a new socket."}),
		taken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_taken_over_total", Help: "Reliable connections that this node has taken over from another one."}),
		mourned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_orphans_reported_total", Help: "Connections of dead nodes whose disconnected event this node has sent."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_handshakes_refused_total", Help: "Handshakes that were refused, by status; 101 is a refused recovery."},
			[]string{"status"}),
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_client_handshakes_total", Help: "Requests to open a connection, by kind of client and status; 101 is a connection."},
			[]string{"client_type", "status"}),
		bytesIn: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_received_bytes_total", Help: "Bytes of messages received from clients, decompressed."}),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_client_requests_total", Help: "Messages received from clients, by kind."}, []string{"kind"})
	reg.MustRegister(m.opened, m.recovered, m.taken, m.mourned, m.refused, m.answered, m.bytesIn, requests)
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_connection_quota_utilization_ratio", Help: "Connections as a share of what their tenant may have on this node; that of the tenant which is nearest to it."},
		quota), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_trace_clients", Help: "Clients that are connected to the live trace."},
		func() float64 { return float64(watching()) }))
	for kind := protocol.Kind(0); kind <= protocol.UnsubscribeGroupState; kind++ {
		m.requests = append(m.requests, requests.WithLabelValues(kind.String()))
	}
	return m
}
