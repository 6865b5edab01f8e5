package front

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	opened    prometheus.Counter
	recovered prometheus.Counter
	taken     prometheus.Counter
	refused   *prometheus.CounterVec
	answered  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, quota func() float64) metrics {
	m := metrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_opened_total", Help: "Connections that were opened."}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_recovered_total", Help: "Reliable connections that got a new socket."}),
		taken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_connections_taken_over_total", Help: "Reliable connections that this node has taken over from another one."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_handshakes_refused_total", Help: "Handshakes that were refused, by status; 101 is a refused recovery."},
			[]string{"status"}),
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_client_handshakes_total", Help: "Requests to open a connection, by kind of client and status; 101 is a connection."},
			[]string{"client_type", "status"}),
	}
	reg.MustRegister(m.opened, m.recovered, m.taken, m.refused, m.answered, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_connection_quota_utilization_ratio",
		Help: "Connections as a share of what their tenant may have on this node; that of the tenant which is nearest to it."},
		quota))
	return m
}
