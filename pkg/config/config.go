// Package config fills one struct from defaults, a YAML file, the environment and flags, each over the one before.
//
// A field is the one declaration of a setting, and its path is the setting's one name: Redis.URL is `redis: {url: …}` in
// the file, CHATR_REDIS_URL in the environment and --redis-url as a flag. A name that no field has is an error
// wherever it stands. Tags:
//
//	default:"20s"       the value when nothing sets it
//	min:"1s" max:"10m"  bounds of numbers and durations, and of the length of strings that are not empty
//	unit:"bytes"        what that length is counted in, instead of characters
//	oneof:"info warn"   allowed values of a string, or of the items of a list; case:"any" allows any letter case,
//	                    noun:"level" says in errors what one is
//	help:"…"            what --help and the documentation say
//	example:"['*']"     YAML for the documentation, in lists of mappings
//	old:"redis.uri"     former names, separated by spaces: they still work, and Loaded.Renamed has what used them.
//	                    Within lists of mappings a former name is a key in the same mapping
//	instead:"redis.url" what replaces the setting, which still works; Loaded.Renamed has it, documents leave it out
//	secret:"true"       may hold a secret: also read from the file named by CHATR_…_FILE or --…-file, never printed
//	required:"true"     for schemas, within lists of mappings
//	file:"only"         neither a flag nor in the environment; lists of mappings are so by themselves
//	alone:"true"        a wrong item of this list of mappings stands alone: it goes to Loaded.Wrong and is no error of Load,
//	                    so that the other items can be used
//	yaml:"keysURL"      another key in the file than the field's name in camelCase
//	config:"-"          not a setting
//
// Fields are strings, booleans, integers, durations, lists of strings (comma-separated outside the file), types that
// implement Value, structs of these, and lists of such structs.
//
// The same declarations give the documentation (WriteMarkdown, WriteExample), a JSON schema (Schema), and whatever else
// walks through Describe.
package config

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
)

const envPrefix = "CHATR_"

// Source is where settings come from.
type Source struct {
	Args []string // flags, without the command's name
	Env  []string // as os.Environ gives it

	// Intro says in --help where settings come from, for a command that does not read all of the above.
	Intro string

	// Others points to a struct of settings that other commands have: they may stand in the file and the environment,
	// are not looked at, and are no flags. A file that the environment names need not be there then.
	Others any
	// OwnFile says that a file which the environment names is for other commands when it has settings of Others, and is then
	// not looked at.
	OwnFile bool
}

const defaultIntro = `Each flag can also be set in the environment (--redis-url is CHATR_REDIS_URL) or in the
YAML file (redis: {url: …}). Flags win over environment over file over default.`

// ErrHelp says that --help was asked for and printed.
var ErrHelp = flag.ErrHelp

// Loaded is what is known of settings beside their values.
type Loaded struct {
	// Files are those that settings were read from, those of secrets among them: what to look at for changes.
	Files []string
	// Sums are the SHA-256 sums of what was read from Files.
	Sums map[string][sha256.Size]byte
	// Empty says that there is a file and that it says nothing.
	Empty bool
	// Renamed are the former names that were used.
	Renamed []Renamed
	// Wrong has what is wrong with items of lists that are tagged alone, by their path, such as tenants[2].
	Wrong map[string][]*ItemProblem

	into   any
	places map[string]string // where settings were given, by path
}

// ItemProblem is one thing that is wrong with an item of a list, as it stands in the file.
type ItemProblem struct {
	Path string // of the setting: tenants[2].hosts
	err  error
}

// Error has file and line, the path, and what is wrong.
func (p *ItemProblem) Error() string { return p.err.Error() }

// Renamed is a setting that was given by a former name.
type Renamed struct {
	Old, New string // in the form in which it was given: a path, a variable or a flag
	Place    string // file and line; empty outside of the file
	Path     string // the former path: gateway.proxies
}

// Load fills the struct that into points to. The file is named by --config or CHATR_CONFIG; none is fine. Usage
// goes to out when --help is among the flags, and the error is then ErrHelp. All wrong settings are reported at once, each
// with where it stands. What settings must be together, Loaded.Validate reports. The Loaded is there with an error too,
// but for ErrHelp and flags that cannot be understood.
func Load(into any, name string, s Source, out io.Writer) (*Loaded, error) {
	Defaults(into)
	l := &loader{Loaded: &Loaded{into: into, places: map[string]string{}, Sums: map[string][sha256.Size]byte{}, Wrong: map[string][]*ItemProblem{}}, fields: Fields(into), others: map[string]bool{}}
	if s.Others != nil {
		l.ignore(Describe(reflect.TypeOf(s.Others)))
	}
	given, rest, err := l.parseFlags(name, s, out)
	if err != nil {
		return nil, err
	}
	env := environment(s.Env)
	file, optional := given["config"], false
	if file == "" {
		file, optional = env["CHATR_CONFIG"], s.Others != nil
	}
	if file != "" {
		l.loadFile(file, optional, optional && s.OwnFile)
	}
	l.loadEnv(env)
	l.loadFlags(given)
	if len(rest) > 0 {
		l.problem("", "unexpected argument %q", rest[0])
	}
	return l.Loaded, errors.Join(l.problems...)
}

type loader struct {
	*Loaded
	fields   []Field
	others   map[string]bool // paths of settings that are not looked at
	problems []error
}

// ignore adds settings that are not looked at, by their paths and former paths.
func (l *loader) ignore(settings []Setting) {
	for _, s := range settings {
		l.others[s.Path] = true
		for _, old := range s.Old {
			l.others[old] = true
		}
		if s.Kind == KindGroup {
			l.ignore(s.Members)
		}
	}
}

// problem reports what is wrong at a place: file and line, a variable, or a flag.
func (l *loader) problem(place, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if place != "" {
		err = fmt.Errorf("%s: %w", place, err)
	}
	l.problems = append(l.problems, err)
}

// set parses a text into the field, unless it is out of bounds.
func (f *Field) set(text string) error {
	texts := []string{text}
	if f.Kind == KindList {
		texts = splitList(text)
	}
	return f.setTexts(texts)
}

func (f *Field) setTexts(texts []string) error {
	v := reflect.New(f.value.Type()).Elem()
	if err := f.parse(v, texts); err != nil {
		return err
	}
	if err := f.check(v); err != nil {
		return &outOfBounds{f.Path, err}
	}
	f.value.Set(v)
	return nil
}

// outOfBounds is a value that could be read but is not allowed.
type outOfBounds struct {
	path string
	err  error
}

func (e *outOfBounds) Error() string {
	path := e.path
	if item, ok := e.err.(*itemError); ok {
		path = fmt.Sprintf("%s[%d]", path, item.index)
	}
	return path + " " + e.err.Error()
}

// setFrom sets a field from outside of the file.
func (l *loader) setFrom(f *Field, place, text string) {
	if err := f.set(text); err != nil {
		l.problem(place, "%w", err)
	}
	l.places[f.Path] = place
}

func (l *loader) setFromFile(f *Field, place, file string, alsoSet bool) {
	if alsoSet {
		l.problem(place, "is given both as a value and as a file; keep one")
		return
	}
	l.Files = append(l.Files, file)
	b, err := os.ReadFile(file)
	if err != nil {
		l.problem(place, "%w", err)
		return
	}
	l.Sums[file] = sha256.Sum256(b)
	l.setFrom(f, place, strings.TrimRight(string(b), "\r\n"))
}

// parseFlags returns the flags that are given, and what is no flag.
func (l *loader) parseFlags(name string, source Source, out io.Writer) (given map[string]string, rest []string, err error) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	given = map[string]string{}
	keep := func(flagName string) func(string) error {
		return func(s string) error { given[flagName] = s; return nil }
	}
	set.Func("config", "", keep("config"))
	booleans, names := map[string]bool{"h": true, "help": true}, []string{"config"}
	for _, f := range l.fields {
		if f.FileOnly {
			continue
		}
		for _, flagName := range append([]string{f.Flag}, f.oldFlags()...) {
			if f.Kind == KindBoolean {
				booleans[flagName] = true
				set.BoolFunc(flagName, "", keep(flagName))
			} else {
				set.Func(flagName, "", keep(flagName))
			}
		}
		names = append(names, f.Flag)
		if f.Secret {
			set.Func(f.Flag+"-file", "", keep(f.Flag+"-file"))
			names = append(names, f.Flag+"-file")
		}
	}
	switch err := set.Parse(joinBooleans(source.Args, booleans)); {
	case errors.Is(err, flag.ErrHelp):
		l.printUsage(out, name, source.Intro)
		return nil, nil, ErrHelp
	case err != nil:
		return nil, nil, fmt.Errorf("%s; see chatr %s --help", flagProblem(err, names), name)
	}
	return given, set.Args(), nil
}

// joinBooleans makes --flag=true of --flag true, which package flag takes for an argument.
func joinBooleans(args []string, booleans map[string]bool) (joined []string) {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		name = strings.TrimPrefix(name, "-")
		switch {
		case !isFlag || name == "": // the first argument, or "--", ends the flags
			return append(joined, args[i:]...)
		case strings.Contains(name, "="), i+1 == len(args):
			joined = append(joined, args[i])
		case booleans[name] && (args[i+1] == "true" || args[i+1] == "false"):
			joined = append(joined, args[i]+"="+args[i+1])
			i++
		case booleans[name]:
			joined = append(joined, args[i])
		default: // the next is its value, whatever it looks like
			joined = append(joined, args[i], args[i+1])
			i++
		}
	}
	return joined
}

// oldFlags are the former names of a field's flag.
func (f *Field) oldFlags() (flags []string) {
	for _, old := range f.Old {
		flags = append(flags, dashed(old))
	}
	return flags
}

// flagProblem says what package flag found, with flags written as people write them here.
func flagProblem(err error, names []string) string {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimPrefix(name, "-")
		return fmt.Sprintf("there is no flag --%s%s", name, didYouMean(name, names, "--"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Sprintf("--%s needs a value", name)
	}
	return text
}

func (l *loader) printUsage(out io.Writer, name, intro string) {
	if intro == "" {
		intro = defaultIntro
	}
	fmt.Fprintf(out, "Usage: chatr %s [flags]\n\n%s\n\n  --config FILE\n        YAML file with these settings\n", name, intro)
	for _, f := range l.fields {
		if f.FileOnly || f.Instead != "" {
			continue
		}
		fmt.Fprintf(out, "  --%s %s\n        %s", f.Flag, strings.ToUpper(f.Type), f.documented())
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
func (l *loader) loadEnv(env map[string]string) {
	known, names := map[string]bool{"CHATR_CONFIG": true}, []string{"CHATR_CONFIG"}
	for path := range l.others {
		known[envName(dashed(path))] = true
		known[envName(dashed(path))+"_FILE"] = true
	}
	for i := range l.fields {
		f := &l.fields[i]
		if f.FileOnly {
			continue
		}
		var olds []string
		for _, flagName := range f.oldFlags() {
			olds = append(olds, envName(flagName))
			known[envName(flagName)] = true
		}
		known[f.Env], names = true, append(names, f.Env)
		value, set := env[f.Env]
		if f.Secret {
			known[f.Env+"_FILE"], names = true, append(names, f.Env+"_FILE")
			if file := env[f.Env+"_FILE"]; file != "" {
				l.setFromFile(f, f.Env, file, set)
				continue
			}
		}
		l.setOutside(f, f.Env, olds, value, set, env)
	}
	var unknown []string
	for k := range env {
		if !known[k] && !serviceVariable(k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		l.problem("", "%s is not a setting%s; see chatr COMMAND --help", k, didYouMean(k, names, ""))
	}
}

// setOutside sets a field by its name or a former one, as they are called in the environment or as flags.
func (l *loader) setOutside(f *Field, name string, olds []string, value string, set bool, given map[string]string) {
	for i, old := range olds {
		text, ok := given[strings.TrimPrefix(old, "--")]
		switch {
		case !ok:
			continue
		case set:
			l.problem("", "%s was formerly %s and both are set; remove %s", name, old, old)
			return
		}
		l.Renamed = append(l.Renamed, Renamed{Old: old, New: name, Path: f.Old[i]})
		l.setFrom(f, old, text)
		return
	}
	if !set {
		return
	}
	if f.Instead != "" {
		instead := "--" + dashed(f.Instead)
		if name == f.Env {
			instead = envName(dashed(f.Instead))
		}
		l.Renamed = append(l.Renamed, Renamed{Old: name, New: instead, Path: f.Path})
	}
	l.setFrom(f, name, value)
}

// serviceVariable recognises CHATR_SERVICE_HOST, CHATR_GATEWAY_PORT_8080_TCP_ADDR and their like.
func serviceVariable(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_TCP") && strings.Contains(name, "_PORT_")
}

func (l *loader) loadFlags(given map[string]string) {
	for i := range l.fields {
		f := &l.fields[i]
		if f.FileOnly {
			continue
		}
		value, set := given[f.Flag]
		if file, ok := given[f.Flag+"-file"]; ok && f.Secret {
			l.setFromFile(f, "--"+f.Flag, file, set)
			continue
		}
		var olds []string
		for _, old := range f.oldFlags() {
			olds = append(olds, "--"+old)
		}
		l.setOutside(f, "--"+f.Flag, olds, value, set, given)
	}
}

// Place is where a setting was given, for messages: file and line, variable or flag. It is that of the nearest setting
// around it when it was not given itself, and empty when that was not either.
func (l *Loaded) Place(path string) string {
	for path != "" {
		if place, ok := l.places[path]; ok {
			return place
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

// Used reports whether a former name was used, by its path.
func (l *Loaded) Used(oldPath string) bool {
	return slices.ContainsFunc(l.Renamed, func(r Renamed) bool { return r.Path == oldPath })
}

// Problem is one thing that is wrong with a setting.
type Problem struct {
	Path string // the setting's: the whole path, or the rest of it from the struct whose Validate has found it
	Err  error  // what is wrong, and what would be right, to follow the name of the setting
}

// Errorf returns a Problem with the setting of that path: Errorf("url", "%q has no host", …) reads: redis.url "x" has no host.
func Errorf(path, format string, args ...any) error {
	return &Problem{path, fmt.Errorf(format, args...)}
}

func (p *Problem) Error() string { return p.Path + " " + p.Err.Error() }

// Unwrap gives errors.Is and errors.As what is wrong.
func (p *Problem) Unwrap() error { return p.Err }

// Validate calls Validate() error of the struct that was filled, and of each that it consists of, and returns what they
// report, with where each setting was given. They should report with Errorf, and may join any number of errors.
func (l *Loaded) Validate() error {
	var problems []error
	seen := map[string]bool{}
	validate(reflect.ValueOf(l.into).Elem(), "", func(path string, err error) {
		text := path + " " + err.Error()
		if path == "" {
			text = err.Error()
		}
		if place := l.Place(path); place != "" {
			text = place + ": " + text
		}
		if !seen[text] { // an embedded struct is asked by the one around it too
			problems = append(problems, errors.New(text))
		}
		seen[text] = true
	})
	return errors.Join(problems...)
}

func validate(v reflect.Value, at string, report func(path string, err error)) {
	if validator, ok := v.Addr().Interface().(interface{ Validate() error }); ok {
		for _, err := range flatten(validator.Validate()) {
			var p *Problem
			if errors.As(err, &p) {
				path := p.Path
				if at != "" && !strings.HasPrefix(path, at+".") {
					path = join(at, path)
				}
				report(path, p.Err)
			} else {
				report("", err)
			}
		}
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Type.Kind() != reflect.Struct || f.Tag.Get("config") == "-" || kindOf(f.Type) == KindOther {
			continue
		}
		path := at
		if !f.Anonymous {
			path = join(at, fileName(f))
		}
		validate(v.Field(i), path, report)
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// didYouMean suggests the name that is most like a wrong one, if any is.
func didYouMean(wrong string, names []string, prefix string) string {
	best, least := "", 2 // of three letters one may be wrong, of four two
	if len(wrong) > 3 {
		least = 1 + max(2, len(wrong)/4)
	}
	for _, name := range names {
		d := distance(strings.ToLower(wrong), strings.ToLower(name))
		if swapped(strings.ToLower(wrong), strings.ToLower(name)) {
			d = 1
		}
		if d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, best)
}

// swapped reports whether two words differ in two neighbouring letters that have changed places.
func swapped(a, b string) bool {
	for i := 0; i+1 < len(a); i++ {
		if a[:i]+a[i+1:i+2]+a[i:i+1]+a[i+2:] == b {
			return a != b
		}
	}
	return false
}

// distance counts the letters to be added, removed or replaced between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
