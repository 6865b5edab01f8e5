package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// WriteMarkdown prints the settings of the struct that v points to as a Markdown table. Of lists of mappings it has only
// their names; see WriteExample.
func WriteMarkdown(w io.Writer, v any) {
	fmt.Fprintln(w, "| In the file | Flag | Environment | Type | Default | Meaning |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	for _, f := range Fields(v) {
		if f.Instead != "" {
			continue
		}
		if f.FileOnly {
			fmt.Fprintf(w, "| `%s` | | | YAML | | %s |\n", f.Path, cell(f.documented()))
			continue
		}
		env, flag := "`"+f.Env+"`", "`--"+f.Flag+"`"
		if f.Secret {
			env += " or `" + f.Env + "_FILE`"
			flag += " or `--" + f.Flag + "-file`"
		}
		def := ""
		if f.Default != "" {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %s |\n", f.Path, flag, env, f.Type, def, cell(f.documented()))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// column is where the comments of an example begin, for lines that are shorter.
const column = 30

// WriteExample prints the settings of a list of mappings, named by its key in the struct that v points to, as YAML with a
// comment for each: one item that has every member, by the examples in the declarations.
func WriteExample(w io.Writer, v any, name string) {
	for _, s := range Describe(reflect.TypeOf(v)) {
		if s.Name == name && s.Kind == KindItems {
			fmt.Fprintf(w, "%s:\n", name)
			e := example{w, map[reflect.Type]bool{}}
			e.item(s.Members, "  ")
		}
	}
}

type example struct {
	w    io.Writer
	seen map[reflect.Type]bool // of mappings that were written out: the second of a type is {}
}

func (e *example) item(members []Setting, indent string) {
	for i := range members {
		if i == 0 {
			e.member(&members[i], indent+"- ", indent+"  ")
			continue
		}
		e.member(&members[i], indent+"  ", indent+"  ")
	}
}

func (e *example) member(s *Setting, lead, indent string) {
	switch {
	case s.Kind == KindGroup && !e.seen[s.typ]:
		e.seen[s.typ] = true
		e.line(lead+s.Name+":", s)
		for i := range s.Members {
			e.member(&s.Members[i], indent+"  ", indent+"  ")
		}
	case s.Kind == KindItems:
		e.line(lead+s.Name+":", s)
		e.item(s.Members, indent+"  ")
	case s.Example != "":
		e.line(lead+s.Name+": "+s.Example, s)
	default:
		e.line(lead+s.Name+": "+s.zero(), s)
	}
}

func (e *example) line(line string, s *Setting) {
	if comment := s.documented(); comment != "" {
		line += strings.Repeat(" ", max(1, column-utf8.RuneCountInString(line))) + "# " + comment
	}
	fmt.Fprintln(e.w, line)
}

// zero is the value that a setting has when nothing sets it, as YAML.
func (s *Setting) zero() string {
	if s.Default != "" {
		return s.Default
	}
	return map[Kind]string{KindString: `""`, KindBoolean: "false", KindInteger: "0", KindDuration: "0s", KindList: "[]", KindGroup: "{}"}[s.Kind]
}
