package protocol

import "github.com/chatr-dev/chatr/pkg/webpubsub"

// ResponseKind says what a server message is.
type ResponseKind uint8

// The server messages of client-json.md section 5. UnknownResponse is to be ignored.
const (
	UnknownResponse            ResponseKind = iota
	AckResponse                             // AckID, Failure
	MessageResponse                         // Group, FromUserID, Data, SequenceID, Stream
	ConnectedResponse                       // Connected
	DisconnectedResponse                    // Reason
	PongResponse                            //
	InvokeResponse                          // InvocationID, Failure, Data if there is any
	StreamAckResponse                       // StreamID, Expected
	StreamNackResponse                      // StreamID, Expected, Failure
	StreamClosedResponse                    // StreamID, Failure
	GroupStateSnapshotResponse              // Group, Items
	GroupStateUpdateResponse                // Group, Items
)

// Response is one message from the server, as a client sees it.
type Response struct {
	Kind         ResponseKind
	AckID        uint64
	Failure      *Failure // nil on success
	Group        string   // empty: from the server
	FromUserID   string
	Data         webpubsub.Data
	SequenceID   uint64 // zero: not numbered
	Connected    Connected
	Reason       string
	InvocationID string
	StreamID     string
	Expected     uint64      // number of the fragment that the server expects next
	Stream       *StreamInfo // nil: not of a stream
	Items        []byte      // a JSON array of what connections say of themselves
}
