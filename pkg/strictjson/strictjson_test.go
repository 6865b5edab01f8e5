package strictjson_test

import (
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/strictjson"
)

type line struct {
	Message string   `json:"message"`
	Key     *string  `json:"key"`
	List    []string `json:"list"`
	N       int      `json:"n"`
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ name, data, message, problem string }{
		{"plain", `{"message":"hi","other":{"deep":[1]}}`, "hi", ""},
		{"another case is another name", `{"message":"hi","Message":"evil","KEY":"k"}`, "hi", ""},
		{"only another case", `{"MESSAGE":"evil"}`, "", ""},
		{"twice", `{"message":"a","message":"b"}`, "", `the member "message" is given twice`},
		{"twice, written otherwise", `{"message":"a","m\u0065ssage":"b"}`, "", `the member "message" is given twice`},
		{"twice, in what nobody asked for", `{"message":"a","other":{"x":1,"x":2}}`, "", `the member "x" is given twice`},
		{"NUL", `{"message":"a\u0000b"}`, "", "NUL"},
		{"NUL in a list", `{"list":["\u0000"]}`, "", "NUL"},
		{"NUL in what nobody asked for", `{"message":"a","x":"\u0000"}`, "", "NUL"},
		{"an escaped backslash before u0000", `{"message":"a\\u0000"}`, `a\u0000`, ""},
		{"NUL after a backslash", `{"message":"a\\\u0000"}`, "", "NUL"},
		{"not UTF-8", "{\"message\":\"a\xff\"}", "", "UTF-8"},
		{"half a surrogate", `{"message":"\ud800"}`, "", "UTF-8"},
		{"wrong kind", `{"message":1}`, "", "message must not be a JSON number"},
		{"wrong kind, deep", `{"list":["a",{}]}`, "", "list/1 must not be a JSON object"},
		{"not whole", `{"n":1.5}`, "", "n must not be a JSON number"},
		{"a list", `[]`, "", "a JSON array is not what is expected"},
		{"more", `{} {}`, "", "not valid JSON"},
		{"nothing", ``, "", "not valid JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got line
			err := strictjson.Decode([]byte(tt.data), &got)
			switch {
			case tt.problem == "" && (err != nil || got.Message != tt.message):
				t.Errorf("got %q and error %v, want %q", got.Message, err, tt.message)
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Errorf("got error %v, want one with %q", err, tt.problem)
			}
		})
	}
}

func TestHeard(t *testing.T) {
	var got line
	if err := strictjson.Heard([]byte(`{"message":"a","Message":"evil","message":"b\u0000"}`), &got); err != nil || got.Message != "b\x00" {
		t.Errorf("got %q and error %v, want the last, exact one", got.Message, err)
	}
	if err := strictjson.Heard([]byte(`{"message":`), &got); err == nil {
		t.Error("got no error for what ends early")
	}
}
