package main

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPrivateAuthority: the chart adds authorities by SSL_CERT_DIR, in a folder as Kubernetes mounts ConfigMaps, and those of the
// image's file go on counting. The system's authorities are read once in a process, so that this needs one of its own.
func TestPrivateAuthority(t *testing.T) {
	if url := os.Getenv("TEST_PRIVATE_AUTHORITY_URL"); url != "" {
		if err := runHealth(t.Context(), []string{url}, io.Discard); err != nil {
			t.Error(err)
		}
		return
	}
	server := func() (*httptest.Server, []byte) {
		s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(s.Close)
		return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	}
	s, certificate := server()
	folder := t.TempDir()
	mounted, public := filepath.Join(folder, "mounted"), filepath.Join(folder, "public.crt")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(mounted, "..2026"), 0o755),
		os.WriteFile(filepath.Join(mounted, "..2026", "ca.crt"), certificate, 0o644),
		os.Symlink("..2026", filepath.Join(mounted, "..data")),
		os.Symlink("..data/ca.crt", filepath.Join(mounted, "ca.crt")),
		os.WriteFile(public, certificate, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	nowhere := filepath.Join(folder, "nowhere")
	for name, c := range map[string]struct {
		file, folders string
		good          bool
	}{
		"private":          {nowhere, nowhere + ":" + mounted, true},
		"public beside it": {public, nowhere + ":" + folder, true},
		"neither":          {nowhere, nowhere, false},
	} {
		again := exec.Command(os.Args[0], "-test.run=^TestPrivateAuthority$")
		again.Env = append(os.Environ(), "TEST_PRIVATE_AUTHORITY_URL="+s.URL, "SSL_CERT_FILE="+c.file, "SSL_CERT_DIR="+c.folders)
		if out, err := again.CombinedOutput(); (err == nil) != c.good {
			t.Errorf("%s: got %v, want success %v\n%s", name, err, c.good, out)
		}
	}
}
