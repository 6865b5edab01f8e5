package main

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed checklist.tsv
var checklist string

// item is a line of the checklist: an id, its priority (1 core, 2 expected, 3 preview or optional) and what it is.
type item struct{ id, priority, what string }

// areas are the checklist's parts by the first letter of an item's id, in the order of the page.
var areas = []struct{ letter, name string }{
	{"C", "Clients: the WebSocket surface and JSON"},
	{"P", "Clients: protobuf"},
	{"A", "Authentication and authorization"},
	{"E", "Event handlers and listeners"},
	{"R", "Data-plane REST API"},
	{"H", "Chat (preview)"},
	{"O", "Operations"},
}

func readChecklist() ([]item, error) {
	var items []item
	for line := range strings.Lines(checklist) {
		part := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(part) != 3 {
			return nil, fmt.Errorf("checklist.tsv: %q has %d columns; id, priority and item are needed", line, len(part))
		}
		items = append(items, item{id: part[0], priority: part[1], what: part[2]})
	}
	return items, nil
}
