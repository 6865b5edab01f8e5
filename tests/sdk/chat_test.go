package sdk_test

import (
	"testing"

	"github.com/chatr-dev/chatr/tests/nodetest"
	"github.com/chatr-dev/chatr/tests/topology"
)

// The chat protocol works against one process, and against two gateways in front of events and API services, with the
// clients spread over both.
func TestChatClient(t *testing.T) {
	nodetest.Install(t)
	for name, start := range map[string]func(testing.TB, topology.Options) *topology.Topology{
		"standalone": topology.Standalone, "services": topology.Services,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := start(t, topology.Options{})
			nodetest.Run(t, []string{
				"CHATR_CHAT_A=" + topology.ConnectionString(top.A),
				"CHATR_CHAT_B=" + topology.ConnectionString(top.B),
			}, "chat.test.mjs")
		})
	}
}
