package httproute

import (
	"errors"
	"net/url"
	"slices"
	"testing"
)

type operation struct{ method, path, name string }

var table = New([]operation{
	{"GET", "{hub}/groups/{group}", "read"},
	{"PUT", "{hub}/groups/{group}", "write"},
	{"GET", "{hub}/groups/all", "never"}, // the first that matches is taken
	{"POST", "{hub}/:send", "send"},
	{"POST", "{hub}/", "root"},
}, func(o *operation) (string, string) { return o.method, o.path })

func TestFind(t *testing.T) {
	for path, want := range map[string]struct {
		method, name string
		params       Params
	}{
		"chat/groups/a":        {"GET", "read", Params{{"hub", "chat"}, {"group", "a"}}},
		"chat/groups/a%2Fb":    {"PUT", "write", Params{{"hub", "chat"}, {"group", "a/b"}}},
		"chat/groups/%2541":    {"PUT", "write", Params{{"hub", "chat"}, {"group", "%41"}}}, // decoded once
		"chat/groups/":         {"GET", "read", Params{{"hub", "chat"}, {"group", ""}}},
		"chat/groups/..":       {"GET", "read", Params{{"hub", "chat"}, {"group", ".."}}}, // nothing is cleaned
		"chat/groups/all":      {"GET", "read", Params{{"hub", "chat"}, {"group", "all"}}},
		"chat/gr%6Fups/a%20+b": {"GET", "read", Params{{"hub", "chat"}, {"group", "a +b"}}},
		"chat/:send":           {"POST", "send", Params{{"hub", "chat"}}},
		"chat/%3Asend":         {"POST", "send", Params{{"hub", "chat"}}},
		"chat/":                {"POST", "root", Params{{"hub", "chat"}}},
	} {
		op, params, err := table.Find(want.method, path)
		if err != nil || op.name != want.name || !slices.Equal(params, want.params) {
			t.Errorf("%s %s: got %v, %v, %v, want %s, %v", want.method, path, op, params, err, want.name, want.params)
		}
	}
}

func TestFindNothing(t *testing.T) {
	for _, path := range []string{"", "chat", "chat/groups", "chat/groups/a/b", "chat/groups/a/", "/chat/groups/a", "chat//groups/a", "chat/Groups/a"} {
		if op, params, err := table.Find("GET", path); op != nil || params != nil || !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: got %v, %v, %v", path, op, params, err)
		}
	}
	var escape url.EscapeError
	if _, _, err := table.Find("GET", "chat/groups/%zz"); !errors.As(err, &escape) {
		t.Errorf("escape: got %v", err)
	}
	var method *MethodError
	op, params, err := table.Find("DELETE", "chat/groups/a")
	if op != nil || !errors.As(err, &method) || !slices.Equal(method.Allow, []string{"GET", "PUT"}) || method.Method != "DELETE" || params.Get("hub") != "chat" {
		t.Errorf("method: got %v, %v, %v", op, params, err)
	}
	if _, _, err := table.Find("DELETE", "chat/groups/all"); !errors.As(err, &method) || !slices.Equal(method.Allow, []string{"GET", "PUT"}) {
		t.Errorf("a path of two operations: got %v, want each method once", err)
	}
}

func TestParams(t *testing.T) {
	p := Params{{"hub", "chat"}, {"group", "a"}}
	if p.Get("group") != "a" || p.Get("user") != "" {
		t.Errorf("got %q, %q", p.Get("group"), p.Get("user"))
	}
}
