package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// schemaMaker makes the schema of the chart's values out of three things that say it already: type values, the product's
// declaration of its settings, and Kubernetes' own types, which become definitions.
type schemaMaker struct {
	comments    map[string]string // of values.yaml, by path
	settings    map[string]any    // schema of the settings file
	definitions map[string]any
	undescribed []string // values without a comment
}

// makeSchema returns the text of values.schema.json, given values.yaml and the schema of the settings file.
func makeSchema(valuesYAML, settingsSchema []byte) (text []byte, undescribed []string, err error) {
	m := &schemaMaker{definitions: map[string]any{}}
	if m.comments, err = comments(valuesYAML); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(settingsSchema, &m.settings); err != nil {
		return nil, nil, err
	}
	schema := m.object("", reflect.TypeFor[values]())
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["definitions"] = m.definitions
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err = e.Encode(schema)
	return b.Bytes(), m.undescribed, err
}

// object is the schema of one of our own structs, at a path of values.yaml.
func (m *schemaMaker) object(path string, t reflect.Type) map[string]any {
	properties := map[string]any{}
	m.addFields(properties, path, t)
	return map[string]any{"type": "object", "additionalProperties": t == reflect.TypeFor[global](), "properties": properties}
}

func (m *schemaMaker) addFields(properties map[string]any, path string, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			at := path
			if f.Type == reflect.TypeFor[ownPods]() { // what it means is said where it is about all pods
				at = "pods"
			}
			m.addFields(properties, at, f.Type)
			continue
		}
		name := strings.TrimPrefix(path+"."+f.Tag.Get("json"), ".")
		schema := m.value(name, f)
		description := m.describe(name)
		if now := f.Tag.Get("old"); now != "" {
			description = "formerly the name of " + now
			schema["deprecated"] = true
		}
		if description == "" {
			m.undescribed = append(m.undescribed, name)
		}
		schema["description"] = description
		properties[f.Tag.Get("json")] = schema
	}
}

// describe returns the comment of a value. Those of which there are several are described where they are first.
func (m *schemaMaker) describe(path string) string {
	if text := m.comments[path]; text != "" {
		return text
	}
	for _, same := range [][2]string{{"events.", "gateway."}, {"api.", "gateway."}, {"postgres.trial.", "gateway."}, {"redis.trial.", "gateway."}} {
		if rest, ok := strings.CutPrefix(path, same[0]); ok {
			return m.comments[same[1]+rest]
		}
	}
	return ""
}

// value is the schema of a field of one of our own structs, as its tags have it.
func (m *schemaMaker) value(path string, f reflect.StructField) map[string]any {
	if name := f.Tag.Get("setting"); name != "" {
		return m.setting(name)
	}
	schema := m.schema(path, f.Type)
	bounded := schema
	if items, ok := schema["items"].(map[string]any); ok {
		bounded = items
	}
	if text := f.Tag.Get("min"); text != "" {
		bounded["minimum"], _ = strconv.Atoi(text)
	}
	if text := f.Tag.Get("pattern"); text != "" {
		bounded["pattern"] = text
	}
	if text := f.Tag.Get("oneOf"); text != "" {
		bounded["enum"] = strings.Split(text, ",")
	}
	return schema
}

// schema is the schema of a type. Kubernetes' own structs are definitions, since some contain others many times.
func (m *schemaMaker) schema(path string, t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[settings]():
		return m.without(m.settings, "tenants")
	case reflect.TypeFor[tenant]():
		return m.tenant()
	case reflect.TypeFor[defaultTenant]():
		schema := m.without(m.tenant(), "name", "limits", "hubs")
		delete(schema, "required")
		return schema
	case reflect.TypeFor[limits]():
		return member(m.tenant(), "limits")
	case reflect.TypeFor[hub]():
		return maps.Clone(member(m.tenant(), "hubs")["items"].(map[string]any))
	case reflect.TypeFor[object]():
		return map[string]any{"type": []any{"object", "string"}}
	case reflect.TypeFor[resource.Quantity]():
		return map[string]any{"type": []any{"string", "number"}}
	case reflect.TypeFor[intstr.IntOrString]():
		return map[string]any{"type": []any{"integer", "string"}}
	case reflect.TypeFor[metav1.Duration](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string"}
	case reflect.TypeFor[metav1.FieldsV1]():
		return map[string]any{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		schema := m.schema(path, t.Elem())
		switch kind := schema["type"].(type) { // nothing at all is a value as well
		case string:
			schema["type"] = []any{kind, "null"}
		case []any:
			schema["type"] = append(kind, "null")
		}
		return schema
	case reflect.Slice:
		return map[string]any{"type": "array", "items": m.schema(path, t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": m.schema(path, t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Struct:
		if t.PkgPath() == reflect.TypeFor[values]().PkgPath() || t.Name() == "" {
			return m.object(path, t)
		}
		return m.reference(t)
	}
	panic(fmt.Sprintf("%s has no schema", t))
}

// reference is a reference to the definition of one of Kubernetes' structs.
func (m *schemaMaker) reference(t reflect.Type) map[string]any {
	parts := strings.Split(t.PkgPath(), "/")
	name := strings.Join(append(parts[len(parts)-2:], t.Name()), ".") // core.v1.Toleration
	if _, ok := m.definitions[name]; !ok {
		properties := map[string]any{}
		m.definitions[name] = map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
		m.addMembers(properties, t)
	}
	return map[string]any{"allOf": []any{map[string]any{"$ref": "#/definitions/" + name}}} // draft 7 ignores what is beside $ref
}

func (m *schemaMaker) addMembers(properties map[string]any, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			m.addMembers(properties, inner)
		default:
			properties[name] = m.schema("", f.Type)
		}
	}
}

// setting is the schema of one of the product's settings.
func (m *schemaMaker) setting(path string) map[string]any {
	schema := m.settings
	for name := range strings.SplitSeq(path, ".") {
		schema = member(schema, name)
	}
	return maps.Clone(schema)
}

func (m *schemaMaker) tenant() map[string]any {
	return maps.Clone(m.setting("tenants")["items"].(map[string]any))
}

// without is an object's schema without some members.
func (m *schemaMaker) without(schema map[string]any, names ...string) map[string]any {
	schema = maps.Clone(schema)
	properties := maps.Clone(schema["properties"].(map[string]any))
	for _, name := range names {
		delete(properties, name)
	}
	schema["properties"] = properties
	delete(schema, "$schema")
	return schema
}

func member(schema map[string]any, name string) map[string]any {
	return maps.Clone(schema["properties"].(map[string]any)[name].(map[string]any))
}

// comments returns what stands before each key of a YAML document, by path.
func comments(text []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	all := map[string]string{}
	var walk func(path string, n *yaml.Node)
	walk = func(path string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			name := strings.TrimPrefix(path+"."+key.Value, ".")
			var lines []string
			for line := range strings.SplitSeq(key.HeadComment, "\n") {
				if line = strings.TrimPrefix(line, "#"); line != "" {
					lines = append(lines, strings.TrimPrefix(line, " "))
				}
			}
			all[name] = strings.Join(lines, "\n")
			walk(name, n.Content[i+1])
		}
	}
	walk("", doc.Content[0])
	return all, nil
}
