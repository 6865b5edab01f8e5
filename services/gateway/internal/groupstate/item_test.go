package groupstate

import (
	"maps"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// FuzzItems has no payload crash a node; what can be read is written as it was.
func FuzzItems(f *testing.F) {
	f.Add(appendItem(appendItem(nil, protocol.GroupStateItem{ConnectionID: "c", UserID: "u", UpdatedAt: 9, State: []byte(`{"a":"b"}`)}),
		protocol.GroupStateItem{ConnectionID: "d", UpdatedAt: 1 << 50}))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, again := items{}, items{}
		if err := all.read(b); err != nil {
			return
		}
		var written []byte
		for _, item := range all {
			written = appendItem(written, item)
		}
		same := func(a, b protocol.GroupStateItem) bool {
			return a.ConnectionID == b.ConnectionID && a.UserID == b.UserID && a.UpdatedAt == b.UpdatedAt && string(a.State) == string(b.State)
		}
		if err := again.read(written); err != nil || !maps.EqualFunc(all, again, same) {
			t.Errorf("got %+v, %v; want %+v", again, err, all)
		}
	})
}
