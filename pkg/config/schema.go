package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// Schema returns a JSON schema (draft 07) of the settings file whose declarations are those of v, a struct or a pointer
// to one: types, bounds, allowed values, defaults and descriptions, and no other members at any depth. It takes what
// Load takes, but for numbers and booleans where text is meant: text is quoted there. Former names are in it, marked
// "deprecated". Bounds of durations stand in descriptions alone, for want of a keyword.
func Schema(v any) map[string]any {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	settings := Describe(t)
	schema := objectSchema(settings)
	for i := range settings {
		addOld(schema, &settings[i])
	}
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["type"] = "object"
	return schema
}

func objectSchema(members []Setting) map[string]any {
	properties, required := map[string]any{}, []any{}
	schema := map[string]any{"type": []any{"object", "null"}, "additionalProperties": false, "properties": properties}
	for i := range members {
		s := &members[i]
		properties[s.Name] = s.schema()
		if s.FileOnly { // elsewhere a former name is a whole path, and is added at the root
			for _, old := range s.Old {
				properties[old] = s.formerSchema()
			}
		}
		if s.Required {
			required = append(required, s.Name)
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// addOld adds the former names of a setting, and of those in it, to the schema of the root.
func addOld(schema map[string]any, s *Setting) {
	for _, old := range s.Old {
		at, parts := schema, strings.Split(old, ".")
		for _, parent := range parts[:len(parts)-1] {
			at = at["properties"].(map[string]any)[parent].(map[string]any)
		}
		at["properties"].(map[string]any)[parts[len(parts)-1]] = s.formerSchema()
	}
	if s.Kind == KindGroup && !s.FileOnly {
		for i := range s.Members {
			addOld(schema, &s.Members[i])
		}
	}
}

func (s *Setting) formerSchema() map[string]any {
	schema := s.typeSchema()
	schema["deprecated"] = true
	schema["description"] = "formerly the name of " + s.Path
	delete(schema, "default")
	return schema
}

// durationForm is what time.ParseDuration reads.
const durationForm = `[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+`

func (s *Setting) schema() map[string]any {
	schema := s.typeSchema()
	if s.Instead != "" {
		schema["deprecated"] = true
		schema["description"] = "set " + s.Instead + " instead"
	} else if text := s.documented(); text != "" {
		schema["description"] = text
	}
	return schema
}

func (s *Setting) typeSchema() map[string]any {
	schema := map[string]any{}
	switch s.Kind {
	case KindOther:
		return reflect.New(s.typ).Interface().(Value).SettingSchema()
	case KindGroup:
		return objectSchema(s.Members)
	case KindItems:
		return map[string]any{"type": []any{"array", "null"}, "items": objectSchema(s.Members)}
	case KindList:
		schema["type"] = []any{"array", "null"}
		if !s.FileOnly { // commas, as in the environment
			schema["type"] = []any{"array", "string", "null"}
		}
		item := map[string]any{"type": "string"}
		s.addChoices(item)
		schema["items"] = item
	case KindBoolean:
		schema["type"] = []any{"boolean", "null"}
		if s.Default != "" {
			schema["default"], _ = parseBool(s.Default)
		}
	case KindInteger:
		schema["type"] = []any{"integer", "null"}
		for keyword, text := range map[string]string{"minimum": s.Min, "maximum": s.Max, "default": s.Default} {
			if n := s.bound(text); n != nil {
				schema[keyword] = *n
			}
		}
	case KindDuration:
		schema["type"], schema["pattern"] = []any{"string", "null"}, "^("+durationForm+"|0)$"
		if s.Default != "" {
			schema["default"] = s.Default
		}
	case KindString:
		schema["type"] = []any{"string", "null"}
		if s.Default != "" {
			schema["default"] = s.Default
		}
		s.addChoices(schema)
		s.addLength(schema)
	}
	return schema
}

// addChoices says which texts are allowed; an empty one, which is none, is too.
func (s *Setting) addChoices(schema map[string]any) {
	if len(s.OneOf) == 0 {
		return
	}
	var choices []any
	if s.Kind == KindString && !s.Required {
		choices = append(choices, "", nil)
	}
	var inAnyCase []string
	for _, o := range s.OneOf {
		choices = append(choices, o)
		inAnyCase = append(inAnyCase, anyCase(o))
	}
	if !s.AnyCase {
		schema["enum"] = choices
		return
	}
	schema["anyOf"] = []any{map[string]any{"enum": choices}, map[string]any{"type": "string", "pattern": "^(" + strings.Join(inAnyCase, "|") + ")$"}}
}

// anyCase is a regular expression for a word in any letter case, in the syntax that JSON schemas have.
func anyCase(word string) string {
	var b strings.Builder
	for _, r := range word {
		lower, upper := strings.ToLower(string(r)), strings.ToUpper(string(r))
		if lower == upper {
			b.WriteString(regexp.QuoteMeta(lower))
			continue
		}
		b.WriteString("[" + upper + lower + "]")
	}
	return b.String()
}

// addLength bounds a text; an empty one, which is none, is allowed. Bytes are counted as characters: at most as many.
func (s *Setting) addLength(schema map[string]any) {
	low, high := s.bound(s.Min), s.bound(s.Max)
	if high != nil {
		schema["maxLength"] = *high
	}
	if low != nil && s.Unit != "bytes" {
		schema["pattern"] = fmt.Sprintf(`^([\s\S]{%d,})?$`, *low)
	}
	if low != nil && s.Unit == "bytes" { // a character has up to four
		schema["pattern"] = fmt.Sprintf(`^([\s\S]{%d,})?$`, (*low+3)/4)
	}
}
