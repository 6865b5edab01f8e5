// Command peers measures the product beside others on this machine, in one interleaved run, and prints ratios.
//
//	make bench-peers
//	make bench-peers PEERS="chatr floor nats" SCENARIOS="S1 S4" ROUNDS=5
//
// The figure that repeats on a machine that others use as well is processor time of the server per delivery, and even
// that only as a ratio between servers that were measured in turn. So each round measures every server in every scenario,
// and what is printed are the medians of the rounds and their ratios to the first server that is not the product.
//
//	S1  one group of 1,000, one sender outside     S3  5,000 idle connections
//	S2  200 groups of 50 whose members send        S4  1,000 pairs, one to one
//	S5a, S5b, S5c  S1, S2 and S4 over two nodes with Redis between them
//
// "max" is a closed loop, "rate" a fixed rate at which a message counts from when it was due. Servers are the product in
// three subprotocols (chatr, chatr-reliable, chatr-protobuf), a minimal server on the same library (floor), NATS,
// and Node programs on ws and Socket.IO. -reference adds the reference servers of another benchmark.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are what a run may be told.
type options struct {
	chatr     string // the product's binary
	tools     string // folder with floor and nats-server
	scripts   string // folder with the Node programs
	reference string // a server that takes -listen, -kind and -redis; empty: none
	rounds    int
	settle    time.Duration // between start and load
	warm      time.Duration
	phase     time.Duration
	small     bool // everything at a scale that shows only that it works
}

func (o options) tool(name string) string { return filepath.Join(o.tools, name) }

func main() {
	o := options{settle: 500 * time.Millisecond}
	flag.StringVar(&o.chatr, "chatr", "bin/chatr", "the product's binary")
	flag.StringVar(&o.tools, "tools", "bin/peers", "folder with the binaries floor and nats-server")
	flag.StringVar(&o.scripts, "scripts", "tests/peers", "folder with the Node programs")
	flag.StringVar(&o.reference, "reference", "", "binary of reference servers: -kind hybrid-own, hybrid-combine, kernel")
	flag.IntVar(&o.rounds, "rounds", 3, "how many times each server is measured")
	flag.DurationVar(&o.warm, "warm", 700*time.Millisecond, "warm-up before each phase")
	flag.DurationVar(&o.phase, "phase", 3*time.Second, "length of each phase")
	names := flag.String("servers", "", "which servers, separated by spaces or commas; empty: all that are there")
	wanted := flag.String("scenarios", "S1 S2 S3 S4", "which scenarios")
	out := flag.String("json", "", "file to append each result to, as a line of JSON")
	flag.Parse()
	results, err := compare(o, list(*names), list(*wanted), os.Stderr)
	if err == nil && *out != "" {
		err = appendJSON(*out, results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	printTable(os.Stdout, results)
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
}

// compare plays the scenarios against the servers, round by round, and says to log what happens.
func compare(o options, names, wanted []string, log io.Writer) (results []result, err error) {
	var chosen []server
	for _, s := range servers(o) {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if why := s.missing(o); why != "" {
			fmt.Fprintf(log, "%s is left out: %s\n", s.name, why)
			continue
		}
		chosen = append(chosen, s)
	}
	for range o.rounds {
		for _, sc := range scenarios {
			if !slices.Contains(wanted, sc.name) {
				continue
			}
			if o.small {
				sc = sc.shrunk()
			}
			for _, s := range chosen {
				if sc.nodes > s.nodes {
					continue
				}
				report := func(r result) {
					r.Server, r.Scenario = s.name, sc.name
					results = append(results, r)
					fmt.Fprintf(log, "%-15s %-4s %-8s %8.2f µs %6.2f µs Redis %9.0f/s %6.1f KiB p50 %-8v p99 %-8v missing %d\n", r.Server,
						r.Scenario, r.Phase, r.CPU, r.BrokerCPU, r.PerSecond, r.KiB, r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Missing)
				}
				if err := play(o, s, sc, report); err != nil {
					return results, fmt.Errorf("%s, %s: %w", s.name, sc.name, err)
				}
			}
		}
	}
	return results, nil
}

func play(o options, s server, sc scenario, report func(result)) error {
	n, err := s.start(o, sc.nodes)
	if err != nil {
		return err
	}
	defer n.stop()
	return sc.run(s.dialect(o, n.addresses[0]), n, o, report)
}

func appendJSON(file string, results []result) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, r := range results {
		if err := json.NewEncoder(f).Encode(r); err != nil {
			return err
		}
	}
	return f.Close()
}
