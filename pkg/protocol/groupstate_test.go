package protocol

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestGroupStateExamples compares the whole text of what client-json.md section 7 shows, and reads it again.
//
// checklist:C29
func TestGroupStateExamples(t *testing.T) {
	for _, tt := range []struct {
		snapshot bool
		items    []GroupStateItem
		want     string
		array    string
	}{
		{true, []GroupStateItem{{"c-1", "ana", []byte(`{"status":"typing"}`), 1767225600000}}, "groupStateSnapshot",
			`[{"connectionId":"c-1","userId":"ana","state":{"status":"typing"},"updatedAt":1767225600000}]`},
		{false, []GroupStateItem{{"c-1", "ana", nil, 1767225605000}, {"c-2", "", []byte(`{}`), 7}}, "groupStateUpdate",
			`[{"connectionId":"c-1","userId":"ana","updatedAt":1767225605000},{"connectionId":"c-2","state":{},"updatedAt":7}]`},
		{true, nil, "groupStateSnapshot", `[]`},
	} {
		want := `{"type":"` + tt.want + `","group":"room-7","items":` + tt.array + `}`
		got := JSON.AppendGroupState(nil, "room-7", tt.snapshot, tt.items)
		if string(got) != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
		kind := GroupStateUpdateResponse
		if tt.snapshot {
			kind = GroupStateSnapshotResponse
		}
		var r Response
		if err := JSON.DecodeResponse(false, got, &r); err != nil || !reflect.DeepEqual(r, Response{Kind: kind, Group: "room-7", Items: []byte(tt.array)}) {
			t.Errorf("%s reads as %+v, %v", got, r, err)
		}
		for _, codec := range Codecs[1:] { // what it says is the same in each
			var same Response
			if err := codec.DecodeResponse(codec.Binary(), codec.AppendGroupState(nil, "room-7", tt.snapshot, tt.items), &same); err != nil || !reflect.DeepEqual(same, r) {
				t.Errorf("%s: reads as %+v, %v; want %+v", codec.Name(), same, err, r)
			}
		}
		if got := Simple.AppendGroupState(nil, "room-7", tt.snapshot, tt.items); len(got) != 0 {
			t.Errorf("a simple client would get %q", got)
		}
	}
}

// checklist:C29
func TestGroupStateIsChecked(t *testing.T) {
	set := func(state string) []byte {
		return []byte(`{"type":"setGroupState","group":"g","ackId":1,"state":` + state + `}`)
	}
	for _, state := range []string{`{}`, ` {"a":"b" , "c":"\ud83d"}`, `{"":""}`, `{"a":"b","a":"c"}`} {
		var r Request
		if err := JSON.Decode(false, set(state), &r); err != nil || r.Refusal != "" || string(r.State) != strings.TrimSpace(state) {
			t.Errorf("%s: got %s, %q, %v; want it as it is", state, r.State, r.Refusal, err)
		}
	}
	var r Request
	if err := JSON.Decode(false, set(`null`), &r); err != nil || r.State != nil {
		t.Errorf("null: got %s, %v; want none", r.State, err)
	}
	if err := JSON.Decode(false, set(`{"a":"`+strings.Repeat("x", MaxGroupState)+`"}`), &r); err != nil || !strings.Contains(r.Refusal, "at most 8192") || !r.HasAck {
		t.Errorf("got %q, %v; want a state over the limit refused", r.Refusal, err)
	}
	for _, state := range []string{`"typing"`, `["a"]`, `{"a":1}`, `{"a":null}`, `{"a":{"b":"c"}}`, `{"a":"b","c":true}`} {
		var de *DecodeError
		if err := JSON.Decode(false, set(state), &r); !errors.As(err, &de) || !strings.Contains(de.Text, "object of strings") {
			t.Errorf("%s: got %v, want it refused", state, err)
		}
	}
	for _, state := range []string{`{}`, `{"a":"b","\u00e9":"\n"}`, `{"a":"` + strings.Repeat("x", MaxGroupState-8) + `"}`} {
		if err := CheckGroupState([]byte(state)); err != nil {
			t.Errorf("%.40s: got %v, want it taken", state, err)
		}
	}
	for _, state := range []string{``, ` {}`, `{`, `{}}`, `{"a"}`, `{"a":1}`, `[]`, `null`, `{"a":"b"},"items":[]`, "{\"a\":\"\xff\"}", `{"a":"` + strings.Repeat("x", MaxGroupState) + `"}`} {
		if CheckGroupState([]byte(state)) == nil {
			t.Errorf("%.40s: is taken for a state", state)
		}
	}
	if err := JSON.DecodeResponse(false, []byte(`{"type":"groupStateUpdate","group":"g","items":{}}`), &Response{}); err == nil {
		t.Error("items that are no array are accepted")
	}
}

// TestProtobufGroupState holds both halves against bytes that are computed from the published field numbers.
//
// checklist:C29 P05
func TestProtobufGroupState(t *testing.T) {
	for hex, want := range map[string]Request{
		"7a 0d 0a 01 67 1a 08 0a 06 0a 01 61 12 01 62": {Kind: SetGroupState, Group: "g", State: []byte(`{"a":"b"}`)},
		"7a 07 0a 01 67 10 09 1a 00":                   {Kind: SetGroupState, Group: "g", HasAck: true, AckID: 9, State: []byte(`{}`)},
		"7a 03 0a 01 67":                               {Kind: SetGroupState, Group: "g"},
		"82 01 05 0a 01 67 10 09":                      {Kind: SubscribeGroupState, Group: "g", HasAck: true, AckID: 9},
		"8a 01 03 0a 01 67":                            {Kind: UnsubscribeGroupState, Group: "g"},
	} {
		checkRequestVector(t, hex, want)
	}
	items := []GroupStateItem{{"c", "u", []byte(`{"a":"b"}`), 7}}
	checkResponseVector(t, "4a 17 0a 01 67 12 12 0a 01 63 12 01 75 1a 08 0a 06 0a 01 61 12 01 62 20 07", Protobuf.AppendGroupState(nil, "g", false, items),
		Response{Kind: GroupStateUpdateResponse, Group: "g", Items: []byte(`[{"connectionId":"c","userId":"u","state":{"a":"b"},"updatedAt":7}]`)})
	checkResponseVector(t, "52 03 0a 01 67", Protobuf.AppendGroupState(nil, "g", true, nil),
		Response{Kind: GroupStateSnapshotResponse, Group: "g", Items: []byte(`[]`)})
	checkResponseVector(t, "4a 0a 0a 01 67 12 05 0a 01 63 20 08", Protobuf.AppendGroupState(nil, "g", false, []GroupStateItem{{"c", "", nil, 8}}),
		Response{Kind: GroupStateUpdateResponse, Group: "g", Items: []byte(`[{"connectionId":"c","updatedAt":8}]`)})
}
