package gateway

import (
	"net/http"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/orphans"
)

// BusPath is the path of ServeBus.
const BusPath = orphans.BusPath

// ServeBus tells other gateways, that are cut off from Redis, whether this one is not. It belongs on the operations listener.
func (g *Gateway) ServeBus(w http.ResponseWriter, r *http.Request) { g.orphans.ServeBus(w, r) }

// closeCutOff closes the doors and the sockets of a node that is cut off from the others, who tell event handlers the ends of its connections.
// Reliable connections wait for their clients, who are sent elsewhere, in case that nobody has claimed them when the node is back.
func (g *Gateway) closeCutOff() {
	g.front.Close()
	for _, c := range g.conns.Conns() {
		g.conns.AskToReconnect(c, hub.ReasonCutOff.Closing("The service cannot be reached here; please reconnect."))
	}
}
