//go:build race

package sdk_test

// buildFlags let the service look for races when its tests do.
var buildFlags = []string{"-race"}
