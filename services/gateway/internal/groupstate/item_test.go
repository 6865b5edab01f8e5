package groupstate

import (
	"encoding/json"
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

// TestWhatTravelsStays has the forms that nodes of other versions know.
func TestWhatTravelsStays(t *testing.T) {
	item := protocol.GroupStateItem{ConnectionID: "c", UserID: "us", UpdatedAt: 150, State: []byte(`{}`)}
	if got, want := string(appendItem(nil, item)), "\x01c\x02us\xac\x02\x02{}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	of := ConnStates{Last: 1, Said: []Said{{[]byte("g"), []byte(`{}`)}}, Wanted: [][]byte{[]byte("g")}}
	b, err := json.Marshal(of)
	if want := `{"last":1,"said":[{"group":"Zw==","state":"e30="}],"wanted":["Zw=="]}`; string(b) != want || err != nil {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
}
