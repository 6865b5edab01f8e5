package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// storeMetrics asks the chat's store whether it is ready when somebody asks for the metrics. The store looks at most once
// a second.
type storeMetrics struct {
	store    chat.Store
	notReady *prometheus.Desc
}

// storeTime bounds how long the store is asked, so that the other metrics are had while it hangs.
const storeTime = 2 * time.Second

func newStoreMetrics(reg prometheus.Registerer, store chat.Store) {
	reg.MustRegister(storeMetrics{store, prometheus.NewDesc("chatr_store_not_ready",
		"1 for the reason why the chat's store cannot be used now, 0 for all others; 0 for all when it can.", []string{"reason"}, nil)})
}

func (m storeMetrics) Describe(descs chan<- *prometheus.Desc) { descs <- m.notReady }

func (m storeMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	now := ""
	if err := m.store.Ready(ctx); err != nil {
		now = chat.ReasonFailing
		var why *chat.NotReady
		if errors.As(err, &why) {
			now = why.Reason
		}
	}
	for _, reason := range chat.NotReadyReasons() {
		value := 0.0
		if reason == now {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(m.notReady, prometheus.GaugeValue, value, reason)
	}
}
