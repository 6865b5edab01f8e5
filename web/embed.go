// Package web holds the built page: what Vite writes to dist is part of the binary.
//
// The folder is kept in the repository with nothing but a marker, so that Go builds without Node; then the page has
// no index.html, and whoever serves it has to say so.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Dist returns the built page: index.html and assets/, whose names carry a hash of their content and may be cached
// for good. There is no index.html if the page was not built before the binary.
func Dist() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a valid path
	}
	return sub
}
