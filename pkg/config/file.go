package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder puts a YAML document into a struct. Null sets nothing, wherever it stands.
type decoder struct {
	*loader
	file string
	old  map[string]*Field // by former path

	given map[string]string // by which name each setting was given, by its path
	item  string            // path of the item that is being read, in a list tagged alone
}

// loadFile reads a file; an optional one need not be there, and own says that it is not looked at when it has settings of
// other commands.
func (l *loader) loadFile(file string, optional, own bool) {
	b, err := os.ReadFile(file)
	if optional && missing(err) {
		return
	}
	l.Files = append(l.Files, file)
	if err != nil {
		l.problem("", "read the settings: %w", err)
		return
	}
	l.Sums[file] = sha256.Sum256(b)
	root, err := parseYAML(b)
	switch {
	case own && err == nil && root != nil && l.isForOthers(root, ""):
		return
	case err != nil:
		l.problem(file, "%w", err)
		return
	case root == nil:
		l.Empty = true
		return
	}
	d := &decoder{loader: l, file: file, old: map[string]*Field{}, given: map[string]string{}}
	for i := range l.fields {
		for _, old := range l.fields[i].Old {
			d.old[old] = &l.fields[i]
		}
	}
	d.mapping(Describe(reflect.TypeOf(l.into)), reflect.ValueOf(l.into).Elem(), root, "")
}

// isForOthers reports whether a mapping has a setting of other commands that is none of this one.
func (l *loader) isForOthers(n *yaml.Node, at string) bool {
	n = resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		path := join(at, n.Content[i].Value)
		mine := slices.ContainsFunc(l.fields, func(f Field) bool { return f.Path == path })
		parent := slices.ContainsFunc(l.fields, func(f Field) bool { return strings.HasPrefix(f.Path, path+".") })
		switch {
		case parent && l.isForOthers(n.Content[i+1], path), !mine && !parent && l.others[path]:
			return true
		}
	}
	return false
}

// parseYAML returns the one document of a file; nil when it is empty.
func parseYAML(b []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if err = d.Decode(&second); err == nil && len(second.Content) > 0 && !isNull(second.Content[0]) {
			return nil, fmt.Errorf("line %d: a second document begins here (---); settings are one document", second.Line)
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		return nil, syntaxError(b, err)
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

var syntaxLine = regexp.MustCompile(`^line (\d+): (.*)`)

// syntaxError says where a file is no YAML. The library counts the lines of its parser, in contrast to those of its scanner,
// from nought, leaves out the first, and does not say where an anchor is missing.
func syntaxError(file []byte, err error) error {
	line, text := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
		if strings.HasPrefix(text, "did not find expected") {
			line++
		}
	}
	if anchor, ok := strings.CutPrefix(text, "unknown anchor '"); ok {
		anchor, _, _ = strings.Cut(anchor, "'")
		line = 1 + bytes.Count(file[:max(0, bytes.Index(file, []byte("*"+anchor)))], []byte("\n"))
	}
	return fmt.Errorf("line %d: %s", line, text)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (d *decoder) place(n *yaml.Node) string { return fmt.Sprintf("%s: line %d", d.file, n.Line) }

// wrong reports a problem with the setting of a path, at a node. Within a list tagged alone it is a problem of the item that is being
// read. The format is what follows the path.
func (d *decoder) wrong(n *yaml.Node, path, format string, args ...any) {
	if path == "" {
		format = strings.TrimPrefix(format, ": ")
	}
	if d.item == "" {
		d.problem(d.place(n), "%s%w", path, fmt.Errorf(format, args...))
		return
	}
	p := &ItemProblem{Path: path, err: fmt.Errorf("%s: %s%w", d.place(n), path, fmt.Errorf(format, args...))}
	d.Loaded.Wrong[d.item] = append(d.Loaded.Wrong[d.item], p)
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// pair is a member of a mapping.
type pair struct{ key, value *yaml.Node }

// pairs lists the members of a mapping, merged ones (<<) after those that it has itself. Members that are there twice are
// reported.
func (d *decoder) pairs(n *yaml.Node, at string, merging []*yaml.Node) (list []pair) {
	seen := map[string]bool{}
	var merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
			merged = append(merged, d.merged(value, at, append(merging, n))...)
		case resolve(key).Kind != yaml.ScalarNode:
			d.wrong(key, at, ": a key must be a name")
		case seen[resolve(key).Value]:
			d.wrong(key, join(at, resolve(key).Value), " is given twice; keep one")
		default:
			seen[resolve(key).Value] = true
			list = append(list, pair{resolve(key), value})
		}
	}
	for _, p := range merged { // the first of those merged wins
		if !seen[p.key.Value] {
			seen[p.key.Value] = true
			list = append(list, p)
		}
	}
	return list
}

func (d *decoder) merged(value *yaml.Node, at string, merging []*yaml.Node) (list []pair) {
	n := resolve(value)
	switch {
	case slices.Contains(merging, n):
		d.wrong(value, at, ": << merges a mapping into itself")
	case n.Kind == yaml.MappingNode:
		return d.pairs(n, at, merging)
	case n.Kind == yaml.SequenceNode && !slices.Contains(merging, n):
		for _, item := range n.Content {
			list = append(list, d.merged(item, at, append(merging, n))...)
		}
	default:
		d.wrong(value, at, ": << must merge a mapping, or a list of mappings")
	}
	return list
}

// mapping reads the members of a struct.
func (d *decoder) mapping(members []Setting, v reflect.Value, n *yaml.Node, at string) {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		what := at
		if what == "" {
			what = "the file"
		}
		d.wrong(n, what, " must be a mapping of settings, such as %s: …", members[0].Name)
		return
	}
	for _, p := range d.pairs(n, at, nil) {
		path := join(at, p.key.Value)
		s, field, old := d.find(members, p.key.Value, path)
		switch {
		case s == nil && d.others[path]:
		case s == nil:
			d.wrong(p.key, path, " is not a setting%s", didYouMean(p.key.Value, namesOf(members), ""))
		case isNull(resolve(p.value)):
		case d.given[s.current(at)] != "":
			former := path
			if !old {
				former = d.given[s.current(at)]
			}
			d.wrong(p.key, s.current(at), " was formerly %s and both are set; remove %s", former, former)
		default:
			d.given[s.current(at)] = path
			target := v
			if field == nil {
				target = v.FieldByIndex(s.index)
			} else {
				target = field.value
			}
			if now := s.Instead; old || now != "" {
				if now == "" {
					now = s.current(at)
				}
				d.Renamed = append(d.Renamed, Renamed{Old: path, New: now, Place: d.place(p.key), Path: path})
			}
			d.setting(s, target, p.key, p.value, path, s.current(at))
		}
	}
}

// current is the path of a setting by its present name; within lists, with the items' indexes.
func (s *Setting) current(at string) string {
	if s.FileOnly {
		return join(at, s.Name)
	}
	return s.Path
}

// find returns the setting that a key means, and whether by a former name. field is there when the setting is not one of
// the members.
func (d *decoder) find(members []Setting, key, path string) (s *Setting, field *Field, old bool) {
	for i := range members {
		if members[i].Name == key {
			return &members[i], nil, false
		}
	}
	if f := d.old[path]; f != nil {
		return &f.Setting, f, true
	}
	for i := range members {
		if members[i].FileOnly && slices.Contains(members[i].Old, key) {
			return &members[i], nil, true
		}
	}
	return nil, nil, false
}

func namesOf(members []Setting) (names []string) {
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// setting reads value into v. key is the node to name in errors; path is what the file calls the setting, which may be a former name, and
// name its present path.
func (d *decoder) setting(s *Setting, v reflect.Value, key, value *yaml.Node, path, name string) {
	d.places[name] = d.place(key)
	n := resolve(value)
	switch {
	case s.Kind == KindGroup:
		d.mapping(s.Members, v, value, path)
	case s.Kind == KindItems:
		d.items(s, v, n, path)
	case n.Kind == yaml.MappingNode, n.Kind == yaml.SequenceNode && s.Kind != KindList && s.Kind != KindOther:
		d.wrong(key, path, " must be a %s, not a %s", s.Type, kindName(n))
	case n.Kind == yaml.SequenceNode:
		d.texts(s, v, n, path, name)
	case s.Kind == KindList && s.FileOnly:
		d.wrong(key, path, " must be a list, such as [%s]", s.shown(n.Value))
	case s.Kind == KindList:
		d.set(s, v, key, splitList(n.Value), path)
	default:
		d.set(s, v, key, []string{plain(s, n)}, path)
	}
}

// plain is a scalar's text; a number that YAML writes in another way is made decimal.
func plain(s *Setting, n *yaml.Node) string {
	var i int64
	if s.Kind == KindInteger && n.ShortTag() == "!!int" && n.Decode(&i) == nil {
		return fmt.Sprint(i)
	}
	return n.Value
}

func (s *Setting) shown(text string) string {
	if s.Secret || text == "" {
		return "…"
	}
	return text
}

func kindName(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		return "mapping"
	}
	return "list"
}

// texts reads a list of texts.
func (d *decoder) texts(s *Setting, v reflect.Value, n *yaml.Node, path, name string) {
	var list []string
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.places[fmt.Sprintf("%s[%d]", name, i)] = d.place(item)
		switch r := resolve(item); {
		case r.Kind != yaml.ScalarNode:
			d.wrong(item, at, " must be a text, not a %s", kindName(r))
			return
		case isNull(r):
			d.wrong(item, at, " is empty; remove it")
			return
		default:
			list = append(list, r.Value)
		}
	}
	d.set(s, v, n, list, path)
}

// set gives a setting its value. Bounds within lists of mappings are not looked at here: Check does that.
func (d *decoder) set(s *Setting, v reflect.Value, n *yaml.Node, texts []string, path string) {
	fresh := reflect.New(v.Type()).Elem()
	if err := s.parse(fresh, texts); err != nil {
		d.wrong(n, path, ": %w", err)
		return
	}
	if !s.FileOnly {
		if err := s.check(fresh); err != nil {
			d.wrong(n, "", "%w", &outOfBounds{path, err})
			return
		}
	}
	v.Set(fresh)
}

// items reads a list of mappings. An item that is wrong stays in the list, so that the others keep their places.
func (d *decoder) items(s *Setting, v reflect.Value, n *yaml.Node, path string) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, path, " must be a list of mappings, each beginning with - %s: …", s.Members[0].Name)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.places[at] = d.place(item)
		if s.Alone {
			d.item = at
		}
		if isNull(resolve(item)) {
			d.wrong(item, at, " is empty; remove it")
		} else {
			d.mapping(s.Members, list.Index(i), item, at)
		}
		if s.Alone {
			d.item = ""
		}
	}
	v.Set(list)
}
