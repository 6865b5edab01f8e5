package cloudevents

import (
	"io"
	"testing"
)

// The form in which listeners' webhooks get events, to the last byte.
//
// checklist:E13
func TestBatch(t *testing.T) {
	connected := aUserEvent()
	connected.Type, connected.Name, connected.UserID, connected.Subprotocol, connected.State = Connected, "connected", "", "", ""
	connected.ContentType, connected.Body = TypeSystem, []byte("{}")
	text, binary, odd := aUserEvent(), aUserEvent(), aUserEvent()
	text.ContentType, text.Body, text.State = TypeText, []byte("<é>"), ""
	binary.ContentType, binary.Body, binary.State = TypeBinary, []byte{0, 255}, ""
	odd.Body, odd.State = []byte("{"), "" // no JSON, whatever it says
	r, err := NewBatch(t.Context(), "http://x/", "chat", "wps.example.com", []Event{connected, aUserEvent(), text, binary, odd}, key, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	const source = `"source":"/hubs/chat/client/c-81f2"`
	user := `{"specversion":"1.0","id":"7",` + source + `,"type":"azure.webpubsub.user.foo","time":"2026-01-31T09:05:07Z","datacontenttype":`
	rest := `,"awpsversion":"1.0","hub":"chat","eventname":"foo","connectionid":"c-81f2","userid":"ana","subprotocol":"json.webpubsub.azure.v1"`
	want := `[{"specversion":"1.0","id":"7",` + source + `,"type":"azure.webpubsub.sys.connected","time":"2026-01-31T09:05:07Z",` +
		`"datacontenttype":"application/json; charset=utf-8","awpsversion":"1.0","hub":"chat","eventname":"connected","connectionid":"c-81f2","data":{}},` +
		user + `"application/json"` + rest + `,"connectionstate":"eyJuIjoxfQ==","data":{"a":1}},` +
		user + `"text/plain"` + rest + `,"data":"<é>"},` +
		user + `"application/octet-stream"` + rest + `,"data_base64":"AP8="},` +
		user + `"application/json"` + rest + `,"data_base64":"ew=="}]` + "\n"
	if string(body) != want {
		t.Errorf("got\n%s\nwant\n%s", body, want)
	}
	for name, value := range map[string]string{"Content-Type": TypeBatch, "WebHook-Request-Origin": "wps.example.com", "ce-awpsversion": "1.0", "ce-hub": "chat"} {
		if got := r.Header.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	for _, tc := range []struct {
		body string
		keys []string
		want bool
	}{
		{string(body), []string{key}, true}, {string(body), []string{"old", otherKey}, true}, {string(body), []string{"another"}, false},
		{string(body), nil, false}, {string(body), []string{""}, false}, {string(body) + " ", []string{key}, false},
	} {
		if got := VerifyBatch([]byte(tc.body), r.Header, tc.keys...); got != tc.want {
			t.Errorf("keys %q: got genuine %v, want %v", tc.keys, got, tc.want)
		}
	}
}
