package sdk_test

import (
	"fmt"
	"testing"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/nodetest"
)

// Public samples are built in two shapes: a whiteboard with the official SDKs, and a serverless chat room that speaks the
// ancestor of the protocol. The programs are ours and make the same calls.
func TestSamples(t *testing.T) {
	nodetest.Install(t)
	whiteboard, chatroom := testkit.FreePort(t), testkit.FreePort(t)
	runSamples(t, start(t, fmt.Sprintf(`tenants:
  - name: default
    hosts: ["*"]
    hubs:
      - name: sample_draw
        anonymous: true
        handlers:
          - url: %s
            userEvents: message
            systemEvents: [connect, connected, disconnected]
    upstream:
      - urlTemplate: %s
        hubPattern: advanced_chat_demo, _default
        categoryPattern: "*"
        eventPattern: connect, disconnect, message
`, whiteboardURL(whiteboard), chatroomURL(chatroom))), whiteboard, chatroom)
}

// The samples cannot tell three gateways from one either.
func TestSamplesAcrossGateways(t *testing.T) {
	nodetest.Install(t)
	whiteboard, chatroom := testkit.FreePort(t), testkit.FreePort(t)
	runSamples(t, acrossGateways(t, testkit.Redis(t).URL, tenant.Tenant{
		Hubs: []tenant.Hub{{Name: "sample_draw", Anonymous: true, Handlers: []tenant.Handler{{
			URL: whiteboardURL(whiteboard), UserEvents: "message", SystemEvents: []string{"connect", "connected", "disconnected"},
		}}}},
		Upstream: []tenant.Template{{URLTemplate: chatroomURL(chatroom), HubPattern: "advanced_chat_demo, _default"}},
	}), whiteboard, chatroom)
}

func whiteboardURL(port int) string {
	return fmt.Sprintf("http://127.0.0.1:%d/eventhandler/{event}", port)
}

func chatroomURL(port int) string {
	return fmt.Sprintf("http://127.0.0.1:%d/{hub}/api/{category}/{event}", port)
}

func runSamples(t *testing.T, s service, whiteboard, chatroom int) {
	t.Helper()
	nodetest.Run(t, []string{
		"CHATR_HTTP=" + s.http,
		"CHATR_HTTPS=" + s.https,
		"NODE_EXTRA_CA_CERTS=" + s.authority,
		fmt.Sprintf("CHATR_WHITEBOARD=%d", whiteboard),
		fmt.Sprintf("CHATR_CHATROOM=%d", chatroom),
	}, "whiteboard.test.mjs", "chatroom.test.mjs")
}
