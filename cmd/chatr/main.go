// Command chatr is the whole product in one binary: the gateway, the events and API services, all of them in one
// process, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/chatr-dev/chatr/pkg/config"
)

// command is one subcommand. run returns when ctx ends or its work is done.
type command struct {
	name, help string
	run        func(ctx context.Context, args []string, out io.Writer) error
}

func commands() []command {
	return []command{
		{"standalone", "everything in one process, with data in a folder", standalone},
		{"gateway", "hold WebSockets and serve the data-plane REST API; needs Redis", runGateway},
		{"events", "the chat rules, called by gateways; needs Postgres", runEvents},
		{"api", "users, chats, history, sign-in and the page; needs Postgres", runAPI},
		{"migrate", "bring the database schema up to date", runMigrate},
		{"token", "print a client access URL", runToken},
		{"load", "drive load at an endpoint, measure it, and check that nothing was lost", runLoad},
		{"health", "check that a URL answers 2xx; for container checks", runHealth},
		{"settings", "print every setting as Markdown, or --schema: as a JSON schema", runSettings},
		{"version", "print the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, config.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chatr:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		usage(out)
		return nil
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], out)
		}
	}
	return fmt.Errorf("there is no command %q; see chatr help", args[0])
}

func usage(out io.Writer) {
	fmt.Fprint(out, "Chatr is a self-hosted real-time platform that speaks the Azure Web PubSub surface, and a chat product on it.\n\nUsage: chatr COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-12s %s\n", c.name, c.help)
	}
	fmt.Fprint(out, "\nchatr COMMAND --help lists a command's flags.\n")
}
