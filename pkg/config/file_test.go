package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// shop is a struct with one setting of each kind.
type shop struct {
	Data  string        `default:"./data"`
	Size  int           `default:"7" min:"1" max:"9"`
	Wait  time.Duration `default:"2s" min:"1s" old:"sign.wait"`
	Open  bool
	Tags  []string `oneof:"red green"`
	Level string   `default:"info" oneof:"info warn" case:"any"`
	Sign  struct {
		Key  string `secret:"true" min:"4"`
		Text string
		Bulb string `instead:"sign.text"`
	}
	Rooms []room `alone:"true"`
}

type room struct {
	Name  string   `yaml:"name" required:"true" example:"blue" help:"of the door"`
	Beds  int      `yaml:"beds" min:"0" max:"6" help:"places to sleep"`
	Doors []string `yaml:"doors" old:"gates"`
	Lamp  struct {
		On bool `yaml:"on"`
	} `yaml:"lamp"`
}

func TestFilesAreReadAsYAML(t *testing.T) {
	initial := shop{Data: "./data", Size: 7, Wait: 2 * time.Second, Level: "info"}
	with := func(change func(*shop)) shop { s := initial; change(&s); return s }
	for text, want := range map[string]shop{
		"":                             initial,
		"---\n":                        initial,
		"# nothing\n":                  initial,
		"{}":                           initial,
		"data: null":                   initial,
		"data:":                        initial,
		"data: ~":                      initial,
		"data: ''":                     with(func(s *shop) { s.Data = "" }),
		"data: 'null'":                 with(func(s *shop) { s.Data = "null" }),
		"sign:":                        initial,
		"sign: {}":                     initial,
		"sign: null\nrooms: null":      initial,
		"rooms: []":                    with(func(s *shop) { s.Rooms = []room{} }),
		"size: 8":                      with(func(s *shop) { s.Size = 8 }),
		"size: 0x8":                    with(func(s *shop) { s.Size = 8 }),
		"size: 8e+0":                   with(func(s *shop) { s.Size = 8 }),
		"open: yes":                    with(func(s *shop) { s.Open = true }),
		"open: True":                   with(func(s *shop) { s.Open = true }),
		"tags: red, green":             with(func(s *shop) { s.Tags = []string{"red", "green"} }),
		"tags: [red]":                  with(func(s *shop) { s.Tags = []string{"red"} }),
		"level: WARN":                  with(func(s *shop) { s.Level = "WARN" }),
		"wait: 1m":                     with(func(s *shop) { s.Wait = time.Minute }),
		"sign: {wait: 1m}":             with(func(s *shop) { s.Wait = time.Minute }),
		"sign: {wait: 1m}\nwait: null": with(func(s *shop) { s.Wait = time.Minute }),
		"data: &d here\nsign: {text: *d}": with(func(s *shop) {
			s.Data, s.Sign.Text = "here", "here"
		}),
		"rooms:\n  - &one {name: a, beds: 2, lamp: {on: true}}\n  - <<: *one\n    name: b\n  - {<<: [{beds: 1}, *one], name: c}\n": with(func(s *shop) {
			s.Rooms = []room{{Name: "a", Beds: 2}, {Name: "b", Beds: 2}, {Name: "c", Beds: 1}}
			for i := range s.Rooms {
				s.Rooms[i].Lamp.On = true
			}
		}),
		"rooms: [{name: 12, gates: [x]}]": with(func(s *shop) { s.Rooms = []room{{Name: "12", Doors: []string{"x"}}} }),
	} {
		var got shop
		loaded, err := Load(&got, "test", Source{Args: []string{"--config", file(t, text)}}, nil)
		if err != nil || len(loaded.Wrong) > 0 {
			t.Errorf("%q: got %v %v", text, err, loaded.Wrong)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
}

func TestMistakesInFilesHaveTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"\nsize: many":                         `line 2: size: "many" is not a whole number`,
		"size: 7.5":                            `line 1: size: "7.5" is not a whole number`,
		"size: 10":                             "line 1: size is 10; it must be from 1 to 9",
		"size: 1e300":                          `line 1: size: "1e300" is not a whole number`,
		"wait: 30":                             `line 1: wait: "30" is not a duration; write it like 30s or 5m`,
		"wait: 1ms":                            "line 1: wait is 1ms; it must be at least 1s",
		"open: maybe":                          `line 1: open: "maybe" is not a boolean; write true or false`,
		"tags:\n  - red\n  - blue":             `line 2: tags[1] "blue" must be one of red, green`,
		"tags: [red, [green]]":                 "line 1: tags[1] must be a text, not a list",
		"tags: [~]":                            "line 1: tags[0] is empty; remove it",
		"tags: {a: b}":                         "line 1: tags must be a list, not a mapping",
		"data: [a]":                            "line 1: data must be a string, not a list",
		"data: a\nsign: text":                  "line 2: sign must be a mapping of settings, such as key: …",
		"sign:\n  key: abc":                    "line 2: sign.key has 3 characters; at least 4 are needed",
		"sign:\n  text: a\n\n  text: b":        "line 4: sign.text is given twice; keep one",
		"sign: {texd: a}":                      "line 1: sign.texd is not a setting; did you mean text?",
		"sing: {text: a}":                      "line 1: sing is not a setting; did you mean sign?",
		"entirely: different":                  "line 1: entirely is not a setting",
		"SIZE: 3":                              "line 1: SIZE is not a setting; did you mean size?",
		"wait: 1m\nsign: {wait: 2m}":           "line 2: wait was formerly sign.wait and both are set; remove sign.wait",
		"sign: {wait: 2m}\nwait: 1m":           "line 2: wait was formerly sign.wait and both are set; remove sign.wait",
		"rooms: {name: a}":                     "line 1: rooms must be a list of mappings, each beginning with - name: …",
		"[a]":                                  "line 1: the file must be a mapping of settings, such as data: …",
		"data: a\nsign: &s {<<: *s, text: a}":  "line 2: sign: << merges a mapping into itself",
		"sign: {<<: 3}":                        "line 1: sign: << must merge a mapping, or a list of mappings",
		"data: a\nsize: *s":                    "line 2: unknown anchor 's' referenced",
		"data: a\nsign: {text: b\nsize: 3":     "line 2: did not find expected ',' or '}'",
		"data: a: b":                           "line 1: mapping values are not allowed in this context",
		"data: a\n---\ndata: b":                "line 2: a second document begins here (---); settings are one document",
		"data: a\nsize: -1\nlevel: loud\n":     "line 2: size is -1; it must be from 1 to 9\nFILE: line 3: level \"loud\" must be one of info, warn",
		"data: a\n? [x]\n: y":                  "line 2: a key must be a name",
		"wait: 0s":                             "line 1: wait is 0s; it must be at least 1s",
		"sign: {key: [hunter2]}":               "line 1: sign.key must be a string, not a list",
		"size: &s many\ndata: x\nopen: *s\n\n": "line 1: size: \"many\" is not a whole number\nFILE: line 3: open: \"many\" is not a boolean; write true or false",
	} {
		var s shop
		name := file(t, text)
		_, err := Load(&s, "test", Source{Args: []string{"--config", name}}, nil)
		if want = strings.ReplaceAll("FILE: "+want, "FILE", name); err == nil || err.Error() != want {
			t.Errorf("%q: got\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestAnItemsMistakeIsNoErrorOfLoad(t *testing.T) {
	var s shop
	name := file(t, "rooms:\n  - name: a\n    beds: many\n    door: x\n  - name: b\n  -\n  - 7\n")
	loaded, err := Load(&s, "test", Source{Args: []string{"--config", name}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for at, problems := range loaded.Wrong {
		for _, p := range problems {
			got[at] += strings.TrimPrefix(p.Error(), name) + "|"
		}
	}
	want := map[string]string{
		"rooms[0]": `: line 3: rooms[0].beds: "many" is not a whole number|: line 4: rooms[0].door is not a setting; did you mean doors?|`,
		"rooms[2]": ": line 6: rooms[2] is empty; remove it|",
		"rooms[3]": ": line 7: rooms[3] must be a mapping of settings, such as name: …|",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(s.Rooms) != 4 || s.Rooms[0].Name != "a" || s.Rooms[1].Name != "b" {
		t.Errorf("got %+v, want all four in their places", s.Rooms)
	}
}

func TestBooleanFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--open":                     "true",
		"--open true":                "true",
		"--open false":               "false",
		"--open=false":               "false",
		"-open false --data x":       "false",
		"--open --data x":            "true",
		"--data --open false":        `unexpected argument "false"`, // --open is what data is
		"--open yes":                 `unexpected argument "yes"`,
		"--open=maybe":               `--open: "maybe" is not a boolean; write true or false`,
		"--open true extra":          `unexpected argument "extra"`,
		"-- --open":                  `unexpected argument "--open"`,
		"--oben":                     "there is no flag --oben; did you mean --open?; see chatr test --help",
		"--sign-wait 1m --wait 1m":   "--wait was formerly --sign-wait and both are set; remove --sign-wait",
		"--sign-wait 1ms":            "--sign-wait: wait is 1ms; it must be at least 1s",
		"--rooms x":                  "there is no flag --rooms; see chatr test --help",
		"--size":                     "--size needs a value",
		"--sign-key abcd --size 1 x": `unexpected argument "x"`,
	} {
		var s shop
		_, err := Load(&s, "test", Source{Args: strings.Fields(args)}, nil)
		got := fmt.Sprint(s.Open)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
}

func TestFormerNames(t *testing.T) {
	var s shop
	name := file(t, "sign: {wait: 3s, bulb: b}\nrooms: [{name: a, gates: [x]}]\n")
	loaded, err := Load(&s, "test", Source{Args: []string{"--config", name}, Env: []string{"CHATR_SIGN_WAIT=4s"}}, nil)
	if err != nil || s.Wait != 4*time.Second || s.Sign.Bulb != "b" {
		t.Fatalf("got %v %+v, want the environment to win over the file", err, s)
	}
	want := []Renamed{
		{Old: "sign.wait", New: "wait", Place: name + ": line 1", Path: "sign.wait"},
		{Old: "sign.bulb", New: "sign.text", Place: name + ": line 1", Path: "sign.bulb"},
		{Old: "rooms[0].gates", New: "rooms[0].doors", Place: name + ": line 2", Path: "rooms[0].gates"},
		{Old: "CHATR_SIGN_WAIT", New: "CHATR_WAIT", Path: "sign.wait"},
	}
	if !reflect.DeepEqual(loaded.Renamed, want) || !loaded.Used("sign.wait") || loaded.Used("wait") {
		t.Errorf("got %+v, want %+v", loaded.Renamed, want)
	}
}

func TestOtherCommandsSettings(t *testing.T) {
	type own struct {
		Data string
		Sign struct{ Text string }
	}
	name := file(t, "data: d\nsize: nonsense\nsign: {text: t, key: k}\nrooms: 7\n")
	var s own
	_, err := Load(&s, "test", Source{Args: []string{"--config", name}, Env: []string{"CHATR_SIZE=x", "CHATR_SIGN_KEY_FILE=/none"}, Others: &shop{}}, nil)
	if err != nil || s.Data != "d" || s.Sign.Text != "t" {
		t.Errorf("got %+v, %v; want what is its own", s, err)
	}
	if _, err := Load(&s, "test", Source{Args: []string{"--config", file(t, "siz: 1")}, Others: &shop{}}, nil); err == nil {
		t.Error("got no error for what nobody has")
	}
	if _, err := Load(&s, "test", Source{Args: []string{"--config", "/none"}, Others: &shop{}}, nil); err == nil {
		t.Error("got no error for a file that is named by a flag and not there")
	}
	s = own{}
	_, err = Load(&s, "test", Source{Env: []string{"CHATR_CONFIG=" + name}, Others: &shop{}, OwnFile: true}, nil)
	if err != nil || s.Data != "" {
		t.Errorf("got %+v, %v; want the file left alone", s, err)
	}
}

func TestSchema(t *testing.T) {
	b, err := json.Marshal(Schema(&shop{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"size":{"default":7,"description":"1 to 9","maximum":9,"minimum":1,"type":["integer","null"]}`,
		`"level":{"anyOf":[{"enum":["",null,"info","warn"]},{"pattern":"^([Ii][Nn][Ff][Oo]|[Ww][Aa][Rr][Nn])$","type":"string"}]`,
		`"tags":{"description":"of red, green","items":{"enum":["red","green"],"type":"string"},"type":["array","string","null"]}`,
		`"gates":{"deprecated":true,"description":"formerly the name of rooms[].doors","items":{"type":"string"},"type":["array","null"]}`,
		`"required":["name"]`,
		`"key":{"description":"at least 4 characters","pattern":"^([\\s\\S]{4,})?$","type":["string","null"]}`,
		`"bulb":{"deprecated":true,"description":"set sign.text instead"`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("got\n%s\nwant it to contain %s", b, want)
		}
	}
}

func TestValidateSaysWhere(t *testing.T) {
	var s validated
	name := file(t, "part:\n\n  low: 5\n")
	loaded, err := Load(&s, "test", Source{Args: []string{"--config", name, "--part-high", "3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := name + ": line 3: part.low is 5; it must be below part.high, which is 3\n--part-high: part.high is odd; write an even number"
	if err := loaded.Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

type validated struct{ Part part }

type part struct{ Low, High int }

func (p *part) Validate() error {
	return errors.Join(Errorf("low", "is %d; it must be below part.high, which is %d", p.Low, p.High), Errorf("high", "is odd; write an even number"))
}

func TestDefaults(t *testing.T) {
	s := shop{Size: 3}
	Defaults(&s)
	if s.Size != 3 || s.Wait != 2*time.Second || s.Level != "info" {
		t.Errorf("got %+v, want defaults where there was nothing", s)
	}
	defer func() {
		if recover() == nil {
			t.Error("got no panic for a default out of bounds")
		}
	}()
	Defaults(&struct {
		Size int `default:"9" max:"8"`
	}{})
}

func TestUnreadableFile(t *testing.T) {
	var s shop
	_, err := Load(&s, "test", Source{Args: []string{"--config", filepath.Join(t.TempDir(), "none.yaml")}}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "read the settings: open ") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}
