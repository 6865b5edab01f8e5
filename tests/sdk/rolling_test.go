package sdk_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chatr-dev/chatr/tests/nodetest"
	"github.com/chatr-dev/chatr/tests/topology"
)

// Two real gateways are deployed anew, one after the other, whenever the test asks for it, while official clients that know
// nothing of it talk to each other through a front.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	nodetest.Install(t)
	// Clients are asked to leave during the first half, and have much of the second to come back, also on a busy machine.
	top := topology.Gateways(t, topology.Options{Env: []string{"CHATR_GATEWAY_DRAIN_TIME=20s"}})
	deploy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, g := range top.Gateways {
			if err := g.Roll(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
	}))
	defer deploy.Close()
	nodetest.Run(t, []string{"CHATR_HTTP=" + topology.ConnectionString(top.Balanced), "CHATR_DEPLOY=" + deploy.URL}, "rolling.test.mjs")
}
