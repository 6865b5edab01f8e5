package groupstate

import (
	"encoding/binary"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// items are what connections say of themselves in one group, by their ids. One without state says nothing any more.
type items map[string]protocol.GroupStateItem

// add adds an item unless a newer one of the same connection is there.
func (all items) add(item protocol.GroupStateItem) {
	if item.UpdatedAt >= all[item.ConnectionID].UpdatedAt {
		all[item.ConnectionID] = item
	}
}

// list returns the items in no order, those without state only if they are asked for.
func (all items) list(withoutState bool) []protocol.GroupStateItem {
	list := make([]protocol.GroupStateItem, 0, len(all))
	for _, item := range all {
		if withoutState || item.State != nil {
			list = append(list, item)
		}
	}
	return list
}

func appendItem(dst []byte, i protocol.GroupStateItem) []byte {
	dst = wire.AppendString(wire.AppendString(dst, i.ConnectionID), i.UserID)
	dst = binary.AppendVarint(dst, i.UpdatedAt)
	return wire.AppendString(dst, string(i.State)) // never empty unless there is none
}

// read adds the items in b to those that are there.
func (all items) read(b []byte) error {
	r := wire.Reader{Rest: b}
	for len(r.Rest) > 0 && !r.Failed {
		i := protocol.GroupStateItem{ConnectionID: r.String(), UserID: r.String(), UpdatedAt: r.Varint()}
		if state := r.String(); state != "" {
			i.State = []byte(state)
			r.Failed = r.Failed || protocol.CheckGroupState(i.State) != nil // it goes into frames as it is
		}
		if !r.Failed {
			all.add(i)
		}
	}
	return r.Err()
}
