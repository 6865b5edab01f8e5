// Package histories holds tests that let people do what they like in a chat, at random, while its processes die and its
// calls fail, and look afterwards whether there is one truth: every client has what the store has.
//
// A History is drawn from a seed. It runs in one process and in the time of testing/synctest: the real events service,
// once or twice, over a real store, and gateways that are played here. Every call of the store and of the gateways takes
// a time that comes from the seed, so that the same history runs in the same order. Calls are counted, and a Fault says
// what happens at which: the process dies before or after it, or the call fails. What does not hold is shrunk to as few
// steps as possible and printed as it is written in Go.
//
// The same people meet in a town, too: on real processes, over WebSockets and HTTP, one history after the other. There an
// Outage says which process is killed, or hangs, and when; what happens at which moment is different each time.
package histories
