package httpx

import (
	"net/url"
	"reflect"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for raw, want := range map[string]url.Values{
		"":                           {},
		"&&":                         {},
		"a=1&b=2&a=3":                {"a": {"1", "3"}, "b": {"2"}},
		"a":                          {"a": {""}},
		"=x":                         {"": {"x"}},
		"a=b=c":                      {"a": {"b=c"}},
		"room=a;b&x=1":               {"room": {"a;b"}, "x": {"1"}},
		"filter=userId+eq+'a%3Bb;c'": {"filter": {"userId eq 'a;b;c'"}},
		"sale=100%":                  {"sale": {"100%"}},
		"x=%zz%4&y=%41%2":            {"x": {"%zz%4"}, "y": {"A%2"}},
		"%61=%C3%A9%2b":              {"a": {"é+"}},
		"a=%ff":                      {"a": {"\xff"}},
		"a=%25":                      {"a": {"%"}},
	} {
		if got := ParseQuery(raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

// What both read they read alike.
func FuzzParseQuery(f *testing.F) {
	for _, raw := range []string{"a=1&b=2", "a=%41;", "%", "a=%C3%A9+b", "=&=;%2"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		want, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		if got := ParseQuery(raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	})
}
