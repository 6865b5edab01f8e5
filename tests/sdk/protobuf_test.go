package sdk_test

import (
	"testing"

	"github.com/chatr-dev/chatr/tests/nodetest"
)

// The protobuf subprotocols are spoken with an encoder and a decoder that are not ours.
func TestProtobuf(t *testing.T) {
	nodetest.Install(t)
	ports := handlerPorts(t)
	runNode(t, start(t, config(ports)), ports, "protobuf.test.mjs")
}
