// Command image puts released binaries into one image for several architectures, as an OCI image layout: a folder that
// registries, containerd, Podman and Docker read. It needs no engine, and the same binaries give the same bytes.
//
// An image is what the Dockerfile's last stage makes: nothing but the binary and the certificates by which it knows
// others over TLS. The certificates are Mozilla's, at the version that go.mod names, so that they do not depend on the
// machine of whoever makes the release.
//
//	image -version 1.2.3 -time 1700000000 -out FOLDER amd64=BINARY arm64=BINARY
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// As in the Dockerfile, which scripts/release_test.go compares with these.
const (
	user         = "65532:65532"
	certificates = "etc/ssl/certs/ca-certificates.crt"
	binary       = "chatr"
)

var ports = []string{"8080/tcp", "9090/tcp"}

func main() {
	version := flag.String("version", "", "the version, which is also the image's tag")
	seconds := flag.Int64("time", 0, "when the image was made, in seconds since 1970")
	source := flag.String("source", "", "URL of the repository")
	revision := flag.String("revision", "", "the commit")
	out := flag.String("out", "", "the folder to make")
	flag.Parse()
	labels := map[string]string{
		"org.opencontainers.image.title":    "Chatr",
		"org.opencontainers.image.version":  *version,
		"org.opencontainers.image.source":   *source,
		"org.opencontainers.image.revision": *revision,
		"org.opencontainers.image.licenses": "MIT",
	}
	if err := write(*out, *version, time.Unix(*seconds, 0).UTC(), labels, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// write makes the layout: one entry, which is the index of the images of all architectures.
func write(out, version string, made time.Time, labels map[string]string, binaries []string) error {
	roots, err := layer(made, file{certificates, 0o644, rootCertificates()})
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	for _, b := range binaries {
		arch, path, ok := strings.Cut(b, "=")
		if !ok {
			return fmt.Errorf("%q is not ARCHITECTURE=BINARY", b)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		chatr, err := layer(made, file{binary, 0o755, content})
		if err != nil {
			return err
		}
		image, err := image(arch, made, labels, roots, chatr)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	folder, err := layout.Write(out, empty.Index)
	if err != nil {
		return err
	}
	return folder.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

func image(arch string, made time.Time, labels map[string]string, layers ...v1.Layer) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	base, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, err
	}
	config, err := base.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: made}
	config.Config = v1.Config{User: user, Entrypoint: []string{"/" + binary}, WorkingDir: "/", Labels: labels, ExposedPorts: map[string]struct{}{}}
	for _, p := range ports {
		config.Config.ExposedPorts[p] = struct{}{}
	}
	for i := range config.History {
		config.History[i] = v1.History{Created: v1.Time{Time: made}, CreatedBy: "scripts/release"}
	}
	return mutate.ConfigFile(base, config)
}

type file struct {
	path    string
	mode    int64
	content []byte
}

// layer packs one file and the folders above it, owned by root.
func layer(made time.Time, f file) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for i, c := range f.path {
		if c == '/' {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: f.path[:i+1], Mode: 0o755, ModTime: made}); err != nil {
				return nil, err
			}
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: f.path, Mode: f.mode, Size: int64(len(f.content)), ModTime: made}); err != nil {
		return nil, err
	}
	if _, err := w.Write(f.content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// rootCertificates are those of the library, in the form in which Go and all others look for them. Conditions that
// Mozilla sets on some (such as "nothing signed after a date") cannot be written in this form; distributions leave them out, too.
func rootCertificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // memory takes everything
	}
	return out.Bytes()
}
