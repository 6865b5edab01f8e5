package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// printTable writes a Markdown table for each scenario and phase: medians, and ratios to the baseline, which is the first
// server that is not the product.
func printTable(w io.Writer, results []result) {
	baseline := ""
	for _, r := range results {
		if !strings.HasPrefix(r.Server, "chatr") {
			baseline = r.Server
			break
		}
	}
	var done []string
	for _, r := range results {
		title := r.Scenario + " " + r.Phase
		if slices.Contains(done, title) {
			continue
		}
		done = append(done, title)
		section(w, title, baseline, slices.DeleteFunc(slices.Clone(results), func(x result) bool {
			return x.Scenario != r.Scenario || x.Phase != r.Phase
		}))
	}
}

func section(w io.Writer, title, baseline string, results []result) {
	fmt.Fprintf(w, "\n### %s\n\n| server | µs | min–max | / %s | Redis µs | per s | KiB | p50 | p99 | missing |\n|---|---|---|---|---|---|---|---|---|---|\n", title, baseline)
	cost := func(r result) float64 {
		if r.Phase == "idle" {
			return r.KiB
		}
		return r.CPU
	}
	byServer := map[string][]result{}
	var order []string
	for _, r := range results {
		if byServer[r.Server] == nil {
			order = append(order, r.Server)
		}
		byServer[r.Server] = append(byServer[r.Server], r)
	}
	for _, name := range order {
		rs := byServer[name]
		ratio := "–"
		if base := byServer[baseline]; base != nil {
			ratio = fmt.Sprintf("%.2f", median(rs, cost)/median(base, cost))
		}
		missing := int64(0)
		for _, r := range rs {
			missing += r.Missing
		}
		cpu := func(r result) float64 { return r.CPU }
		least, most := slices.MinFunc(rs, byCPU), slices.MaxFunc(rs, byCPU)
		fmt.Fprintf(w, "| %s | %.2f | %.2f–%.2f | %s | %.2f | %.0f | %.1f | %v | %v | %d |\n", name, median(rs, cpu), least.CPU, most.CPU, ratio,
			median(rs, func(r result) float64 { return r.BrokerCPU }), median(rs, func(r result) float64 { return r.PerSecond }),
			median(rs, func(r result) float64 { return r.KiB }),
			duration(median(rs, func(r result) float64 { return float64(r.P50) })), duration(median(rs, func(r result) float64 { return float64(r.P99) })), missing)
	}
}

func byCPU(a, b result) int {
	switch {
	case a.CPU < b.CPU:
		return -1
	case a.CPU > b.CPU:
		return 1
	}
	return 0
}

func duration(ns float64) time.Duration { return time.Duration(ns).Round(10 * time.Microsecond) }

// median returns the middle of what f says of the results.
func median(results []result, f func(result) float64) float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = f(r)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
