package config

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown prints the settings of the struct that v points to as a Markdown table.
func WriteMarkdown(w io.Writer, v any) {
	fmt.Fprintln(w, "| In the file | Flag | Environment | Type | Default | Meaning |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	for _, f := range Fields(v) {
		if f.FileOnly {
			fmt.Fprintf(w, "| `%s` | | | %s | | %s |\n", f.Name, f.Type, cell(f.Help))
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
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, flag, env, f.Type, def, cell(f.Help))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
