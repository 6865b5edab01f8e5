package jsonscan

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var samples = []string{
	`{}`, `[]`, `null`, `true`, `-0.5e+3`, `"a"`, `{"a":1,"a":[2,{}]}`, ` [1 , "x" ] `, "\"\xff\"", `"\ud800"`, `"😀\/\n"`, `{"a" : "b"}`,
	``, ` `, `{`, `[`, `[1,]`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `[1 2]`, `01`, `1.`, `-`, `1e`, `tru`, `"a`, `"\x"`, `"\u12"`, "\"\n\"", `1 2`, `{}}`, "\ufeff1",
}

func TestCheckIsAsStrictAsItShouldBe(t *testing.T) {
	for _, text := range samples {
		if got, want := Check([]byte(text), 0) == nil, json.Valid([]byte(text)) && utf8.ValidString(text); got != want {
			t.Errorf("%q: accepted: %v, want %v", text, got, want)
		}
	}
	nested := func(depth int) []byte { return []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth)) }
	if err := Check(nested(MaxDepth), 0); err != nil {
		t.Errorf("%d levels: %v", MaxDepth, err)
	}
	if err := Check(nested(MaxDepth), 1); !errors.Is(err, ErrDepth) {
		t.Errorf("%d levels below another: %v, want %v", MaxDepth, err, ErrDepth)
	}
	if err := Check([]byte("\"\xff\""), 0); !errors.Is(err, ErrUTF8) {
		t.Errorf("a byte that is no UTF-8: %v, want %v", err, ErrUTF8)
	}
}

func TestMembersAndElements(t *testing.T) {
	b := []byte(` {"a" : [1, "\u0062", {"x":"]"}] ,"\u0061":null,"":"t\\"} `)
	s := New(b)
	s.Space()
	var got []string
	err := s.EachMember(func(name, value Value) error {
		got = append(got, string(name.Text(b)), string(value.Of(b)))
		return nil
	})
	if want := []string{"a", `[1, "\u0062", {"x":"]"}]`, "a", "null", "", `"t\\"`}; err != nil || !s.Done() || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	array := []byte(got[1])
	s, got = New(array), nil
	err = s.EachElement(func(v Value) { got = append(got, string(v.Kind)+string(v.Of(array))) })
	if want := []string{"01", `""\u0062"`, `{{"x":"]"}`}; err != nil || !s.Done() || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	stop := errors.New("stop")
	s = New([]byte(`{"a":1,"b"`))
	if err := s.EachMember(func(_, _ Value) error { return stop }); err != stop {
		t.Errorf("got %v, want what the function returned", err)
	}
}

func TestAbsent(t *testing.T) {
	for text, want := range map[string]bool{"null": true, "0": false, `""`: false, "false": false} {
		s := New([]byte(text))
		if v, err := s.Value(); err != nil || v.Absent() != want {
			t.Errorf("%s: got %v, %v, want %v", text, v.Absent(), err, want)
		}
	}
	if !(Value{}).Absent() {
		t.Error("the zero value is not absent")
	}
}

// FuzzLenient holds the lenient scanner against encoding/json: what is accepted, and what texts mean.
func FuzzLenient(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewLenient(b)
		s.Space()
		v, err := s.Value()
		accepted := err == nil && s.Done()
		if want := json.Valid(b); accepted != want {
			t.Fatalf("%q: accepted: %v (%v), want %v", b, accepted, err, want)
		}
		if !accepted || v.Kind != '"' {
			return
		}
		var want string
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if got := string([]rune(string(v.Text(b)))); got != want {
			t.Errorf("%q: got %q, want %q", b, got, want)
		}
	})
}
