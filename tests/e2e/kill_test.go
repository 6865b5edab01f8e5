package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// standalone is the real binary, in a process of its own.
type standalone struct {
	t      *testing.T
	binary string
	data   string
	port   int
	cmd    *exec.Cmd
}

func newStandalone(t *testing.T) *standalone {
	t.Helper()
	dir := t.TempDir()
	s := &standalone{t: t, binary: filepath.Join(dir, "chatr"), data: filepath.Join(dir, "data"), port: testkit.FreePort(t)}
	if out, err := exec.Command("go", "build", "-o", s.binary, "../../cmd/chatr").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Cleanup(func() { s.kill() })
	return s
}

// start starts the process and returns when it is ready.
func (s *standalone) start() (url string) {
	s.t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", s.port)
	s.cmd = exec.Command(s.binary, "standalone", "--listen", address, "--tls-listen=", "--data", s.data)
	s.cmd.Stderr = s.t.Output()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	testkit.Eventually(s.t, patience, func() bool {
		res, err := http.Get("http://" + address + "/api/config")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, "standalone answers")
	return "http://" + address
}

// kill ends the process without a warning.
func (s *standalone) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(os.Kill)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// TestKilledInTheMiddle kills standalone while two people talk. Nothing that was acknowledged may be missing
// afterwards, nothing may be there twice, and who does not come back goes offline.
func TestKilledInTheMiddle(t *testing.T) {
	s := newStandalone(t)
	w := &world{t: t, urls: []string{s.start()}}
	ada, bob := w.come("Ada"), w.come("Bob")
	ada.do("createChat", object{"id": tea, "name": "Tea"})
	bob.do("joinChat", tea)

	var mu sync.Mutex // guards acked
	acked := map[string]bool{}
	var talk sync.WaitGroup
	for _, p := range []*person{ada, bob} {
		talk.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprint(p.name, " ", i)
				if p.say(tea, key, key) != nil {
					return
				}
				mu.Lock()
				acked[key] = true
				mu.Unlock()
			}
		})
	}
	testkit.Eventually(t, patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > 300 }, "300 messages acked")
	s.kill()
	talk.Wait()

	s.start()
	ada.page = ada.open()
	stored := map[string]int{}
	testkit.Eventually(t, patience, func() bool {
		clear(stored)
		for _, m := range ada.allMessages(tea) {
			stored[m["text"].(string)]++
		}
		for key := range acked {
			if stored[key] == 0 {
				return false
			}
		}
		return true
	}, "every acknowledged message is in the history")
	for key, n := range stored {
		if n != 1 {
			t.Errorf("message %q is there %d times, want once", key, n)
		}
	}
	_, found := ada.call("GET", "/api/chats/"+tea, nil)
	equal(t, "members", len(found["members"].(object)), 2)
	testkit.Eventually(t, 15*time.Second, func() bool {
		_, users := ada.call("GET", "/api/users", nil)
		online := users["users"].(object)
		return online[bob.id] == nil && online[ada.id] != nil
	}, "Bob, who has not come back, is offline, and Ada is not")
}

// allMessages reads a chat's history, page by page.
func (p *person) allMessages(chatID string) []object {
	p.w.t.Helper()
	var all []object
	before := ""
	for {
		status, page := p.call("GET", "/api/chats/"+chatID+"/messages?limit=200"+before, nil)
		if status != http.StatusOK {
			p.w.t.Fatalf("history of %s: got %d %v, want 200", p.name, status, page)
		}
		for _, m := range page["messages"].([]any) {
			all = append(all, m.(object))
		}
		if page["next"] == nil {
			return all
		}
		before = fmt.Sprintf("&before=%.0f", page["next"])
	}
}
