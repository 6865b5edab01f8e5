package session

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

type metrics struct {
	bytesIn   prometheus.Counter
	throttled prometheus.Counter
	requests  []prometheus.Counter // by kind

	eventsWaiting prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		bytesIn: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_received_bytes_total", Help: "Bytes of messages received from clients, decompressed."}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_messages_throttled_total", Help: "Messages of clients that send faster than messagesPerSecond allows, which were handled later."}),
		eventsWaiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_client_events_waiting", Help: "Events and invocations of clients that wait for the application, those included that are with it."}),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_client_requests_total", Help: "Messages received from clients, by kind."}, []string{"kind"})
	reg.MustRegister(m.bytesIn, m.throttled, m.eventsWaiting, requests)
	for kind := protocol.Kind(0); kind <= protocol.UnsubscribeGroupState; kind++ {
		m.requests = append(m.requests, requests.WithLabelValues(kind.String()))
	}
	return m
}
