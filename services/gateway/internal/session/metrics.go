package session

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

type metrics struct {
	bytesIn   prometheus.Counter
	throttled prometheus.Counter
	requests  []prometheus.Counter // by kind
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{bytesIn: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_received_bytes_total", Help: "Bytes of messages received from clients, decompressed."}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_messages_throttled_total", Help: "Messages of clients that send faster than messagesPerSecond allows, which were handled later."})}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_client_requests_total", Help: "Messages received from clients, by kind."}, []string{"kind"})
	reg.MustRegister(m.bytesIn, m.throttled, requests)
	for kind := protocol.Kind(0); kind <= protocol.UnsubscribeGroupState; kind++ {
		m.requests = append(m.requests, requests.WithLabelValues(kind.String()))
	}
	return m
}
