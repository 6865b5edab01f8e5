// Package config fills one struct from defaults, a YAML file, the environment and flags, each over the one before.
//
// A field's path is its one name: Redis.URL is `redis: {url: …}` in the file, CHATR_REDIS_URL in the environment
// and --redis-url as a flag. A name that no field has is an error wherever it stands. Tags:
//
//	default:"20s"    the value when nothing sets it
//	help:"…"         one line for --help and the documentation
//	secret:"true"    may hold a secret: also read from the file named by CHATR_…_FILE or --…-file, never printed
//	file:"only"      read from the YAML file alone, by yaml's own rules (for lists and maps)
//	config:"-"       not a setting
//
// Fields are strings, booleans, integers, durations, lists of strings (comma-separated outside the file) and
// structs of these.
package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

const envPrefix = "CHATR_"

// Source is where settings come from.
type Source struct {
	Args []string // flags, without the command's name
	Env  []string // as os.Environ gives it

	// Intro says in --help where settings come from, for a command that does not read all of the above.
	Intro string
}

const defaultIntro = `Each flag can also be set in the environment (--redis-url is CHATR_REDIS_URL) or in the
YAML file (redis: {url: …}). Flags win over environment over file over default.`

// ErrHelp says that --help was asked for and printed.
var ErrHelp = flag.ErrHelp

// Load fills the struct that into points to. The file is named by --config or CHATR_CONFIG; none is fine. Usage
// goes to out when --help is among the flags, and the error is then ErrHelp. All wrong settings are reported at once.
// It returns the files that settings were read from, those of secrets among them: what to look at for changes.
func Load(into any, name string, s Source, out io.Writer) (files []string, err error) {
	fields := Fields(into)
	for _, f := range fields {
		if d := f.tag.Get("default"); d != "" {
			if err := f.set(d); err != nil {
				panic(fmt.Sprintf("default of %s: %v", f.Name, err))
			}
		}
	}
	flags, given, err := parseFlags(fields, name, s, out)
	if err != nil {
		return nil, err
	}
	env := environment(s.Env)
	file := given["config"]
	if file == "" {
		file = env["CHATR_CONFIG"]
	}
	var problems []error
	if file != "" {
		files = append(files, file)
		problems = append(problems, loadFile(fields, file)...)
	}
	problems = append(problems, loadEnv(fields, env)...)
	problems = append(problems, loadFlags(fields, given)...)
	if rest := flags.Args(); len(rest) > 0 {
		problems = append(problems, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	return append(files, secretFiles(fields, env, given)...), errors.Join(problems...)
}

// secretFiles are the files that hold secrets, by environment and flags.
func secretFiles(fields []Field, env, given map[string]string) (files []string) {
	for _, f := range fields {
		if !f.Secret {
			continue
		}
		for _, file := range []string{env[f.Env+"_FILE"], given[f.Flag+"-file"]} {
			if file != "" {
				files = append(files, file)
			}
		}
	}
	return files
}

// Field is one setting.
type Field struct {
	Name     string // its path, as in the file: redis.url
	Flag     string // without the dashes
	Env      string
	Type     string
	Default  string
	Help     string
	Secret   bool
	FileOnly bool

	value reflect.Value
	tag   reflect.StructTag
}

// Fields lists the settings of the struct that v points to, in order of declaration.
func Fields(v any) []Field { return appendFields(nil, nil, reflect.ValueOf(v).Elem()) }

func appendFields(list []Field, path []string, v reflect.Value) []Field {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if !sf.IsExported() || sf.Tag.Get("config") == "-" {
			continue
		}
		words := splitWords(sf.Name)
		fieldPath := append(slices.Clone(path), strings.Join(words, "-"))
		fileOnly := sf.Tag.Get("file") == "only"
		if sf.Type.Kind() == reflect.Struct && !fileOnly {
			if sf.Anonymous {
				fieldPath = path
			}
			list = appendFields(list, fieldPath, v.Field(i))
			continue
		}
		list = append(list, newField(fieldPath, sf, v.Field(i), fileOnly))
	}
	return list
}

func newField(path []string, sf reflect.StructField, v reflect.Value, fileOnly bool) Field {
	names := make([]string, len(path))
	for i, p := range path {
		names[i] = camel(p)
	}
	joined := strings.Join(path, "-")
	f := Field{
		Name: strings.Join(names, "."), Default: sf.Tag.Get("default"), Help: sf.Tag.Get("help"),
		Secret: sf.Tag.Get("secret") == "true", FileOnly: fileOnly, value: v, tag: sf.Tag,
	}
	if fileOnly {
		f.Type = "YAML"
		return f
	}
	f.Flag = joined
	f.Env = envPrefix + strings.ToUpper(strings.ReplaceAll(joined, "-", "_"))
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		f.Type = "duration"
	case v.Kind() == reflect.Slice:
		f.Type = "list"
	case v.CanInt():
		f.Type = "integer"
	case v.Kind() == reflect.Bool:
		f.Type = "boolean"
	default:
		f.Type = v.Kind().String()
	}
	return f
}

// splitWords cuts a Go name into lower-case words: TLSListen is tls, listen.
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

// set parses s into the field.
func (f Field) set(s string) error {
	switch {
	case f.value.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%s is not a duration; write it like 30s or 5m", f.quote(s))
		}
		f.value.SetInt(int64(d))
	case f.value.Kind() == reflect.String:
		f.value.SetString(s)
	case f.value.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%s is not a boolean; write true or false", f.quote(s))
		}
		f.value.SetBool(b)
	case f.value.CanInt():
		n, err := strconv.ParseInt(s, 10, f.value.Type().Bits())
		if err != nil {
			return fmt.Errorf("%s is not a whole number", f.quote(s))
		}
		f.value.SetInt(n)
	case f.value.Kind() == reflect.Slice:
		var list []string
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		f.value.Set(reflect.ValueOf(list))
	default:
		panic("config: field " + f.Name + " has an unsupported type " + f.value.Type().String())
	}
	return nil
}

func (f Field) quote(s string) string {
	if f.Secret {
		return "the value"
	}
	return strconv.Quote(s)
}

func parseFlags(fields []Field, name string, source Source, out io.Writer) (*flag.FlagSet, map[string]string, error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	given := map[string]string{}
	keep := func(flagName string) func(string) error {
		return func(s string) error { given[flagName] = s; return nil }
	}
	fs.Func("config", "YAML file with these settings", keep("config"))
	for _, f := range fields {
		switch {
		case f.FileOnly:
			continue
		case f.Type == "boolean":
			fs.BoolFunc(f.Flag, f.Help, keep(f.Flag))
		default:
			fs.Func(f.Flag, f.Help, keep(f.Flag))
		}
		if f.Secret {
			fs.Func(f.Flag+"-file", "file that holds "+f.Flag, keep(f.Flag+"-file"))
		}
	}
	if err := fs.Parse(source.Args); errors.Is(err, flag.ErrHelp) {
		printUsage(out, name, source.Intro, fields)
		return fs, nil, ErrHelp
	} else if err != nil {
		return fs, nil, fmt.Errorf("%s; see chatr %s --help", flagProblem(err), name)
	}
	return fs, given, nil
}

// flagProblem says what package flag found, with flags written as people write them here.
func flagProblem(err error) string {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return fmt.Sprintf("there is no flag --%s", name)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Sprintf("--%s needs a value", name)
	}
	return text
}

func printUsage(out io.Writer, name, intro string, fields []Field) {
	if intro == "" {
		intro = defaultIntro
	}
	fmt.Fprintf(out, "Usage: chatr %s [flags]\n\n%s\n\n  --config FILE\n        YAML file with these settings\n", name, intro)
	for _, f := range fields {
		if f.FileOnly {
			continue
		}
		fmt.Fprintf(out, "  --%s %s\n        %s", f.Flag, strings.ToUpper(f.Type), f.Help)
		if f.Default != "" {
			fmt.Fprintf(out, " (default %s)", f.Default)
		}
		if f.Secret {
			fmt.Fprintf(out, "; or --%s-file FILE", f.Flag)
		}
		fmt.Fprintln(out)
	}
}

func environment(list []string) map[string]string {
	env := map[string]string{}
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, envPrefix) {
			env[k] = v
		}
	}
	return env
}

// loadEnv refuses unknown CHATR_ names but for those that Kubernetes makes for a Service called chatr.
func loadEnv(fields []Field, env map[string]string) (problems []error) {
	known := map[string]bool{"CHATR_CONFIG": true}
	for _, f := range fields {
		if f.FileOnly {
			continue
		}
		known[f.Env] = true
		value, set := env[f.Env]
		if f.Secret {
			known[f.Env+"_FILE"] = true
			if file, ok := env[f.Env+"_FILE"]; ok {
				problems = append(problems, f.setFromFile(file, set, f.Env)...)
				continue
			}
		}
		if set {
			if err := f.set(value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", f.Env, err))
			}
		}
	}
	for k := range env {
		if !known[k] && !serviceVariable(k) {
			problems = append(problems, fmt.Errorf("%s is not a setting; see chatr COMMAND --help", k))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// serviceVariable recognises CHATR_SERVICE_HOST, CHATR_GATEWAY_PORT_8080_TCP_ADDR and their like.
func serviceVariable(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_TCP") && strings.Contains(name, "_PORT_")
}

func loadFlags(fields []Field, given map[string]string) (problems []error) {
	for _, f := range fields {
		if f.FileOnly {
			continue
		}
		value, set := given[f.Flag]
		if file, ok := given[f.Flag+"-file"]; ok && f.Secret {
			problems = append(problems, f.setFromFile(file, set, "--"+f.Flag)...)
			continue
		}
		if set {
			if err := f.set(value); err != nil {
				problems = append(problems, fmt.Errorf("--%s: %w", f.Flag, err))
			}
		}
	}
	return problems
}

func (f Field) setFromFile(file string, alsoSet bool, name string) []error {
	if alsoSet {
		return []error{fmt.Errorf("%s is given both as a value and as a file; keep one", name)}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	if err := f.set(strings.TrimRight(string(b), "\r\n")); err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

func loadFile(fields []Field, file string) []error {
	b, err := os.ReadFile(file)
	if err != nil {
		return []error{fmt.Errorf("read the configuration: %w", err)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return []error{fmt.Errorf("%s: %w", file, err)}
	}
	if len(doc.Content) == 0 {
		return nil
	}
	byName := map[string]Field{}
	for _, f := range fields {
		byName[f.Name] = f
	}
	var problems []error
	for _, err := range walk(byName, "", doc.Content[0]) {
		problems = append(problems, fmt.Errorf("%s: %w", file, err))
	}
	return problems
}

func walk(fields map[string]Field, prefix string, n *yaml.Node) (problems []error) {
	if n.Kind != yaml.MappingNode {
		return []error{fmt.Errorf("line %d: expected a mapping of settings", n.Line)}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		f, known := fields[name]
		var err error
		switch {
		case seen[name]:
			err = fmt.Errorf("%s is given twice", name)
		case known:
			err = f.setNode(value)
		case isParent(fields, name):
			problems = append(problems, walk(fields, name+".", value)...)
		default:
			err = fmt.Errorf("%s is not a setting", name)
		}
		seen[name] = true
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", key.Line, err))
		}
	}
	return problems
}

func isParent(fields map[string]Field, name string) bool {
	for n := range fields {
		if strings.HasPrefix(n, name+".") {
			return true
		}
	}
	return false
}

func (f Field) setNode(n *yaml.Node) error {
	switch {
	case f.FileOnly:
		return decodeStrict(n, f.value.Addr().Interface())
	case n.Kind == yaml.SequenceNode && f.Type == "list":
		var list []string
		if err := n.Decode(&list); err != nil {
			return fmt.Errorf("%s must be a list of strings", f.Name)
		}
		f.value.Set(reflect.ValueOf(list))
		return nil
	case n.Kind != yaml.ScalarNode:
		return fmt.Errorf("%s must be a %s", f.Name, f.Type)
	}
	if err := f.set(n.Value); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

// decodeStrict decodes n, refusing unknown members, which yaml does only from text.
func decodeStrict(n *yaml.Node, into any) error {
	b, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	return d.Decode(into)
}
