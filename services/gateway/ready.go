package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/services/gateway/internal/overload"
)

// Reasons why a gateway should get no new clients.
const (
	notReadyDraining = "draining" // it stops
	notReadyCutOff   = "cut-off"  // it alone does not reach Redis, so that others take it for dead
	notReadyBus      = "bus"      // it does not reach the other gateways
	notReadyLog      = "log"      // the message log takes nothing
)

// NotReadyReasons are all reasons that errors of Gateway.Ready have.
func NotReadyReasons() []string {
	return []string{notReadyDraining, notReadyCutOff, notReadyBus, notReadyLog, overload.ReasonMemory, overload.ReasonDescriptors}
}

// Ready returns nil, or an *obs.NotReady that says why the gateway should get no new clients now.
func (g *Gateway) Ready(ctx context.Context) error {
	if g.front.Draining() {
		return &obs.NotReady{Reason: notReadyDraining, Err: errors.New("draining")}
	}
	if g.front.Closed() {
		return &obs.NotReady{Reason: notReadyCutOff, Err: errors.New("cut off from Redis, while other gateways are not")}
	}
	if err := g.guard.Ready(); err != nil {
		return err
	}
	if err := g.node.Ready(); err != nil {
		return &obs.NotReady{Reason: notReadyBus, Err: fmt.Errorf("bus: %w", err)}
	}
	if g.messages != nil {
		if err := g.messages.Ready(ctx); err != nil {
			return &obs.NotReady{Reason: notReadyLog, Err: fmt.Errorf("message log: %w", err)}
		}
	}
	return nil
}
