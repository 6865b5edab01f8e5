package cloudevents

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// TypeBatch is the content type of a batch of events.
const TypeBatch = "application/cloudevents-batch+json; charset=utf-8"

// structured is an event in the JSON form of CloudEvents, with the attributes that event listeners get (event-handler.md
// section 10).
type structured struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	AwpsVersion     string `json:"awpsversion"`
	Hub             string `json:"hub"`
	EventName       string `json:"eventname"`
	ConnectionID    string `json:"connectionid"`
	UserID          string `json:"userid,omitempty"`
	Subprotocol     string `json:"subprotocol,omitempty"`
	State           string `json:"connectionstate,omitempty"`
	Data            any    `json:"data,omitempty"` // a text, or JSON as it is
	Base64          []byte `json:"data_base64,omitempty"`
}

// NewBatch returns the POST that brings events of a hub to url. The header chatr-signature is the signature of the body, as
// ce-signature is of a connection id.
func NewBatch(ctx context.Context, url, hub, origin string, events []Event, keys ...string) (*http.Request, error) {
	all := make([]structured, len(events))
	for i, e := range events {
		all[i] = structure(e)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(all); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body.Bytes()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", TypeBatch)
	r.Header.Set("WebHook-Request-Origin", origin)
	r.Header.Set("ce-awpsversion", "1.0")
	r.Header.Set("ce-hub", hub)
	r.Header.Set("chatr-signature", Signature(body.String(), keys...))
	return r, nil
}

func structure(e Event) structured {
	s := structured{
		SpecVersion: "1.0", ID: strconv.FormatUint(e.ID, 10), Source: source(e), Type: e.Type, Time: e.Time.UTC().Format(time.RFC3339Nano),
		DataContentType: e.ContentType, AwpsVersion: "1.0", Hub: e.Hub, EventName: e.Name, ConnectionID: e.ConnectionID,
		UserID: e.UserID, Subprotocol: e.Subprotocol, State: e.State,
	}
	media, _, _ := mime.ParseMediaType(e.ContentType)
	switch {
	case media == TypeJSON && json.Valid(e.Body):
		s.Data = json.RawMessage(e.Body)
	case media == TypeText:
		s.Data = string(e.Body)
	default:
		s.Base64 = e.Body
	}
	return s
}

// VerifyBatch reports whether a batch is signed with one of the keys.
func VerifyBatch(body []byte, h http.Header, keys ...string) bool {
	return genuine(string(body), h.Values("chatr-signature"), keys)
}
