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
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// alive is open as long as the test process lives.
var alive io.Closer

// built is the path of a chatr made from these sources, which is removed when the test process ends.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "chatr-under-test-")
	if err != nil {
		return "", err
	}
	keeper := exec.Command("/bin/sh", "-c", `read -r line; rm -rf -- "$1"`, "keeper", folder)
	if alive, err = keeper.StdinPipe(); err != nil {
		return "", err
	}
	if err := keeper.Start(); err != nil {
		return "", err
	}
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "chatr"), "./cmd/chatr")
	build.Dir = filepath.Dir(strings.TrimSpace(string(module)))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return filepath.Join(folder, "chatr"), nil
})
