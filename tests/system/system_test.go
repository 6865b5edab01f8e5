// Package system_test takes a running Chatr apart: real processes are killed, stopped, hung and fed with bad input
// while people use them, and what was promised to the people is counted.
package system_test

import (
	"net/url"
	"time"
)

// presenceTime is how soon people who are gone are shown as gone, and how soon history is complete after a crash (design, section
// 4). Only there a limit is a promise; elsewhere tests wait longer.
const presenceTime = 15 * time.Second

// hostOf is the host and port of an address.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // made by package topology
	}
	return u.Host
}
