package hub

// Reason says why a connection ended or was refused. It is the metric label and log value.
type Reason string

// The reasons why connections end.
const (
	ReasonClient         Reason = "client"      // the client closed it
	ReasonLost           Reason = "lost"        // the socket went away and, if reliable, was not recovered in time
	ReasonPing           Reason = "ping"        // no answer to pings
	ReasonSlow           Reason = "slow"        // more waited for the client than an outbox holds
	ReasonUnacked        Reason = "unacked"     // more is unacknowledged than is kept for a reliable connection
	ReasonMessagesMissed Reason = "missed"      // messages may have been missed while the bus was away
	ReasonHandedOver     Reason = "handed_over" // it was handed over to another node
	ReasonRequested      Reason = "requested"   // the application closed it
	ReasonRemoved        Reason = "removed"     // its tenant is not among the settings any more
	ReasonDrain          Reason = "drain"       // the node shuts down
	ReasonCutOff         Reason = "cut_off"     // the node was cut off from the others, who take it for dead
	ReasonProtocol       Reason = "protocol"    // what the client sent is not the protocol
	ReasonForbidden      Reason = "forbidden"   // a simple client may not send to its group
	ReasonUpstream       Reason = "upstream"    // the event handler failed a simple client
	ReasonHandshake      Reason = "handshake"   // accepted, but the upgrade failed
	ReasonUnavailable    Reason = "unavailable" // a simple client's message could not be sent
	ReasonOverload       Reason = "overload"    // the node has nearly as much memory in use as it may
	ReasonThrottled      Reason = "throttled"   // the client left while it was slowed down, as it had sent faster than it may
	ReasonRecovery       Reason = "recovery"    // a recovery was refused; ends a socket, not a connection
)

// Category returns the reason as the service's own metrics call it (service-limits-and-ops.md section 3).
func (r Reason) Category() string {
	switch r {
	case ReasonClient, ReasonHandedOver:
		return "Normal"
	case ReasonRequested, ReasonRemoved:
		return "ClosedByAppServer"
	case ReasonPing:
		return "PingTimeout"
	case ReasonSlow, ReasonUnacked:
		return "SlowClient"
	case ReasonDrain, ReasonCutOff:
		return "ServiceReload"
	case ReasonProtocol:
		return "BadRequest"
	case ReasonThrottled:
		return "Throttled"
	case ReasonForbidden:
		return "Unauthorized"
	case ReasonUpstream:
		return "SendEventFailed"
	}
	return "ServiceTransientError"
}

// Close codes (client-json.md section 9).
const (
	CodeNormal    = 1000
	CodeGoingAway = 1001
	CodePolicy    = 1008 // tells SDKs not to recover
	CodeInternal  = 1011
)

// Closing says how a connection ends.
type Closing struct {
	Reason Reason
	Code   int    // of the close frame; 0 means that none is sent
	Text   string // for the client and for the event handler
}

// Closing returns the closing that the service begins for reason, with the code that makes clients do what is right.
func (r Reason) Closing(text string) Closing {
	c := Closing{Reason: r, Code: CodeNormal, Text: text}
	switch r {
	case ReasonSlow, ReasonUnacked, ReasonMessagesMissed, ReasonForbidden, ReasonRecovery, ReasonRemoved:
		c.Code = CodePolicy
	case ReasonDrain, ReasonCutOff, ReasonOverload:
		c.Code = CodeGoingAway
	case ReasonUpstream, ReasonUnavailable:
		c.Code = CodeInternal
	case ReasonPing, ReasonLost, ReasonThrottled, ReasonHandshake:
		c.Code = 0
	}
	return c
}
