package topology

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binary is the path of the chatr under test.
func binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("CHATR_BIN"); path != "" {
		return path
	}
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return b.path
}

// executable is a chatr that is removed when the test process ends.
type executable struct {
	path   string
	keeper io.Closer // its end removes the executable; held so that only our end closes it
}

// built is a chatr made from these sources.
var built = sync.OnceValues(func() (b executable, err error) {
	folder, err := os.MkdirTemp("", "chatr-under-test-")
	if err != nil {
		return b, err
	}
	keeper := exec.Command("/bin/sh", "-c", `read -r line; rm -rf -- "$1"`, "keeper", folder)
	if b.keeper, err = keeper.StdinPipe(); err != nil {
		return b, err
	}
	if err := keeper.Start(); err != nil {
		return b, err
	}
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return b, fmt.Errorf("go env GOMOD: %w", err)
	}
	b.path = filepath.Join(folder, "chatr")
	build := exec.Command("go", "build", "-o", b.path, "./cmd/chatr")
	build.Dir = filepath.Dir(strings.TrimSpace(string(module)))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return b, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return b, nil
})
