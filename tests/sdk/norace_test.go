//go:build !race

package sdk_test

var buildFlags []string
