// Package fault lets parts of a running Chatr fail under load, and counts what was promised and not kept.
//
// Each row of the table is an incident: three gateways, real processes, each with a link of its own to a real Redis, an
// application that gets their events, and some 150 clients of all four subprotocols that send 200 messages a second to
// groups. Everybody writes down what they see; package facts judges it. CONTRIBUTING.md says how to run it, rows_test.go
// is where a row is added.
package fault
