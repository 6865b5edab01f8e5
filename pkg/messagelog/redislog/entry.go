package redislog

import (
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// The fields of a stream entry. They stay as they are: entries outlive releases.
const (
	fieldTenant     = "tenant"
	fieldHub        = "hub"
	fieldGroup      = "group"
	fieldConnection = "connection"
	fieldUser       = "user"
	fieldTime       = "time" // RFC 3339
	fieldType       = "type"
	fieldData       = "data"

	// Of events only.
	fieldEvent       = "event" // its type
	fieldName        = "name"
	fieldID          = "id"
	fieldSubprotocol = "subprotocol"
	fieldState       = "state"
)

func encode(e messagelog.Entry) []any {
	values := []any{
		fieldTenant, e.Hub.Tenant, fieldHub, e.Hub.Hub, fieldGroup, e.Group,
		fieldConnection, e.ConnectionID, fieldUser, e.FromUserID,
		fieldTime, e.Time.UTC().Format(time.RFC3339Nano),
		fieldType, e.Data.Type.String(), fieldData, e.Data.Bytes,
	}
	if v := e.Event; v != nil {
		values = append(values, fieldEvent, v.Type, fieldName, v.Name, fieldID, v.ID, fieldSubprotocol, v.Subprotocol, fieldState, v.State)
	}
	return values
}

func decode(m redis.XMessage) (messagelog.Entry, error) {
	field := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	at, err := time.Parse(time.RFC3339Nano, field(fieldTime))
	if err != nil {
		return messagelog.Entry{}, fmt.Errorf("entry %s has no valid time", m.ID)
	}
	kind, ok := webpubsub.ParseDataType(field(fieldType))
	if !ok {
		return messagelog.Entry{}, fmt.Errorf("entry %s has no valid data type", m.ID)
	}
	e := messagelog.Entry{
		ID:           m.ID,
		Hub:          webpubsub.HubKey{Tenant: field(fieldTenant), Hub: field(fieldHub)},
		Group:        field(fieldGroup),
		ConnectionID: field(fieldConnection),
		FromUserID:   field(fieldUser),
		Time:         at,
		Data:         webpubsub.Data{Type: kind, Bytes: []byte(field(fieldData))},
	}
	if eventType := field(fieldEvent); eventType != "" {
		id, err := strconv.ParseUint(field(fieldID), 10, 64)
		if err != nil {
			return messagelog.Entry{}, fmt.Errorf("entry %s has no valid event id", m.ID)
		}
		e.Event = &messagelog.Event{Type: eventType, Name: field(fieldName), ID: id, Subprotocol: field(fieldSubprotocol), State: field(fieldState)}
	}
	return e, nil
}
