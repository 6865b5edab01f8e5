package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
)

// version is set by the build (-ldflags -X main.version=…); else the commit that Go recorded stands in.
var version string

func runVersion(_ context.Context, _ []string, out io.Writer) error {
	fmt.Fprintln(out, "chatr", buildVersion())
	return nil
}

func buildVersion() string {
	if version != "" {
		return version
	}
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "dev"
}
