package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Kind is what a setting holds.
type Kind string

// The kinds of settings. A setting whose type implements Value has KindOther.
const (
	KindString   Kind = "string"
	KindBoolean  Kind = "boolean"
	KindInteger  Kind = "integer"
	KindDuration Kind = "duration"
	KindList     Kind = "list"             // of strings
	KindGroup    Kind = "mapping"          // has Members
	KindItems    Kind = "list of mappings" // has Members, those of an item
	KindOther    Kind = "other"
)

// Value is a setting with a form of its own. It is implemented by the pointer to a setting's type.
type Value interface {
	// SetSetting takes what stands in the file, the environment or a flag: the texts of a list, or one text when there is
	// no list. An error says what would be right, so that it can follow the setting's name and a colon.
	SetSetting(texts []string) error
	// SettingType names the form in documents, such as "list or integer".
	SettingType() string
	// SettingSchema is the form as a JSON schema (draft 07).
	SettingSchema() map[string]any
}

// Setting is the declaration of one setting: what its field's name, type and tags say.
type Setting struct {
	Name     string   // its key in the file, in the mapping that it stands in
	Path     string   // the keys from the root on: redis.url, tenants[].hubs[].name
	Kind     Kind     //
	Type     string   // as documents call it; the Kind, but for KindOther
	Default  string   // empty: the zero value
	Min, Max string   // bounds, in the form of the value: 1, 10m; of a string: its length. Empty: none
	Unit     string   // of a string's length: characters or bytes
	OneOf    []string // allowed values, of a string or of each item of a list; empty: any
	Noun     string   // what one of OneOf is, for errors; may be empty
	AnyCase  bool     // OneOf holds in any letter case
	Help     string
	Example  string    // YAML, for the documents
	Old      []string  // former names, which still work: whole paths of settings, keys beside Name within lists
	Instead  string    // the setting that replaces this one, which still works; empty: none does
	Secret   bool      // never printed; also read from a file
	Required bool      // within the item of a list
	FileOnly bool      // neither a flag nor in the environment: lists of mappings, and what is in them
	Alone    bool      // of KindItems: a wrong item goes to Loaded.Wrong and is no error of Load
	Members  []Setting // of KindGroup and KindItems

	index []int // of the field, in the struct that it stands in
	typ   reflect.Type
}

// Describe returns the declarations of a struct's settings, in the order of the fields. Members of embedded structs stand
// among those of the struct around them.
func Describe(t reflect.Type) []Setting { return describe(t, "", false) }

func describe(t reflect.Type, prefix string, fileOnly bool) (list []Setting) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Tag.Get("config") == "-" {
			continue
		}
		if f.Anonymous {
			for _, s := range describe(f.Type, prefix, fileOnly) {
				s.index = append([]int{i}, s.index...)
				list = append(list, s)
			}
			continue
		}
		list = append(list, newSetting(f, prefix, fileOnly))
	}
	return list
}

func newSetting(f reflect.StructField, prefix string, fileOnly bool) Setting {
	s := Setting{
		Name: fileName(f), Default: f.Tag.Get("default"), Min: f.Tag.Get("min"), Max: f.Tag.Get("max"), Unit: f.Tag.Get("unit"),
		OneOf: strings.Fields(f.Tag.Get("oneof")), Noun: f.Tag.Get("noun"), AnyCase: f.Tag.Get("case") == "any",
		Help: f.Tag.Get("help"), Example: f.Tag.Get("example"), Old: strings.Fields(f.Tag.Get("old")), Instead: f.Tag.Get("instead"),
		Secret: f.Tag.Get("secret") == "true", Required: f.Tag.Get("required") == "true",
		Alone: f.Tag.Get("alone") == "true", FileOnly: fileOnly || f.Tag.Get("file") == "only", index: []int{f.Index[0]}, typ: f.Type,
	}
	s.Path = prefix + s.Name
	if s.Unit == "" {
		s.Unit = "characters"
	}
	s.Kind = kindOf(f.Type)
	s.Type = string(s.Kind)
	switch s.Kind {
	case KindOther:
		s.Type = reflect.New(f.Type).Interface().(Value).SettingType()
	case KindGroup:
		s.Members = describe(f.Type, s.Path+".", s.FileOnly)
	case KindItems:
		s.FileOnly = true
		s.Members = describe(f.Type.Elem(), s.Path+"[].", true)
	}
	return s
}

func kindOf(t reflect.Type) Kind {
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[Value]()):
		return KindOther
	case t == reflect.TypeFor[time.Duration]():
		return KindDuration
	case t.Kind() == reflect.String:
		return KindString
	case t.Kind() == reflect.Bool:
		return KindBoolean
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return KindInteger
	case t.Kind() == reflect.Struct:
		return KindGroup
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return KindList
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return KindItems
	}
	panic("config: a field has the unsupported type " + t.String())
}

// fileName is a field's key in the file: what its yaml tag says, else its name as camelCase.
func fileName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" {
		return name
	}
	return camel(strings.Join(splitWords(f.Name), "-"))
}

// dashed is a path as a flag: redis.url is redis-url, tlsListen is tls-listen.
func dashed(path string) string {
	var words []string
	for part := range strings.SplitSeq(path, ".") {
		words = append(words, splitWords(part)...)
	}
	return strings.Join(words, "-")
}

// splitWords cuts a Go or camelCase name into lower-case words: TLSListen is tls, listen.
func splitWords(name string) []string {
	var words []string
	r := []rune(name)
	start := 0
	for i := 1; i < len(r); i++ {
		begins := unicode.IsUpper(r[i]) && (unicode.IsLower(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1]))
		if begins {
			words = append(words, strings.ToLower(string(r[start:i])))
			start = i
		}
	}
	return append(words, strings.ToLower(string(r[start:])))
}

func camel(dashed string) string {
	words := strings.Split(dashed, "-")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}

// Field is one setting of a struct at hand: a Setting that has a flag and stands in the environment, or FileOnly.
type Field struct {
	Setting
	Flag string // without the dashes
	Env  string

	value reflect.Value
}

// Fields lists the settings of the struct that v points to, in order of declaration. What is within lists of mappings
// is not among them.
func Fields(v any) []Field {
	return appendFields(nil, Describe(reflect.TypeOf(v)), reflect.ValueOf(v).Elem())
}

func appendFields(list []Field, settings []Setting, v reflect.Value) []Field {
	for _, s := range settings {
		value := v.FieldByIndex(s.index)
		switch {
		case s.Kind == KindGroup:
			list = appendFields(list, s.Members, value)
		case s.FileOnly:
			list = append(list, Field{Setting: s, value: value})
		default:
			flag := dashed(s.Path)
			list = append(list, Field{Setting: s, Flag: flag, Env: envName(flag), value: value})
		}
	}
	return list
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Defaults gives each setting of the struct that v points to its default if it is zero. It is for those who fill a
// struct by hand: tests, and programs that embed a service. It panics when a default is not what its own bounds allow.
func Defaults(v any) {
	for _, f := range Fields(v) {
		if f.Default != "" && f.value.IsZero() {
			if err := f.set(f.Default); err != nil {
				panic(fmt.Sprintf("default of %s: %v", f.Path, err))
			}
		}
	}
}

// Bounds says in words what values a setting may have; it is empty when any will do.
func (s *Setting) Bounds() string {
	one, many := "", ""
	if s.Kind == KindString {
		one = " " + s.Unit
	}
	switch {
	case len(s.OneOf) > 0:
		many = "one of " + strings.Join(s.OneOf, ", ")
		if s.Kind == KindList {
			many = "of " + strings.Join(s.OneOf, ", ")
		}
		return many
	case s.Min != "" && s.Max != "":
		return s.Min + " to " + s.Max + one
	case s.Min != "":
		return "at least " + s.Min + one
	case s.Max != "":
		return "at most " + s.Max + one
	}
	return ""
}

// documented is the help with the bounds that it does not name itself.
func (s *Setting) documented() string {
	limits := append([]string{s.Min, s.Max}, s.OneOf...)
	named := !slices.ContainsFunc(limits, func(l string) bool { return l != "0" && !strings.Contains(s.Help, l) })
	switch {
	case named:
		return s.Help
	case s.Help == "":
		return s.Bounds()
	}
	return s.Help + " (" + s.Bounds() + ")"
}
