package orphans

import (
	"context"
	"errors"
	"testing"

	redisclient "github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// scriptsLost is a hook of a client that loses scripts on their way to Redis, or their answers on the way back.
type scriptsLost struct{ requests, answers bool }

var errLost = errors.New("lost on the way")

func (s *scriptsLost) DialHook(next redisclient.DialHook) redisclient.DialHook { return next }

func (s *scriptsLost) ProcessPipelineHook(next redisclient.ProcessPipelineHook) redisclient.ProcessPipelineHook {
	return next
}

func (s *scriptsLost) ProcessHook(next redisclient.ProcessHook) redisclient.ProcessHook {
	return func(ctx context.Context, cmd redisclient.Cmder) error {
		script := cmd.Name() == "eval" || cmd.Name() == "evalsha"
		err := error(errLost)
		if !script || !s.requests {
			err = next(ctx, cmd)
		}
		if script && s.answers && err == nil {
			err = errLost
		}
		cmd.SetErr(err)
		return err
	}
}

// TestClaimWhoseAnswerIsLost: what it has claimed is reported, once, and not taken for something that is too much in the list;
// what it has not claimed is claimed later.
//
// checklist:O06
func TestClaimWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	l := idle(t, testkit.Redis(t).URL, "a")
	mustDo(t, l.renewOnce)
	l.mustRewrite = false
	lost := &scriptsLost{}
	l.client.AddHook(lost)
	rewrite := func() {
		t.Helper()
		l.mustRewrite = true // every sees to it after an error
		defer l.endWrite()
		if _, err := l.write(t.Context(), nil, func(func(string, []byte) bool) {}); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(want error) {
		t.Helper()
		if _, err := l.claimFrom(t.Context(), "dead"); !errors.Is(err, want) {
			t.Fatalf("got %v from a claim, want %v", err, want)
		}
	}
	handedOut := func(want ...string) {
		t.Helper()
		mustDo(t, l.claimOnce)
		if len(l.orphans) != len(want) {
			t.Fatalf("got %d orphans, want %q", len(l.orphans), want)
		}
		for _, id := range want {
			if o := <-l.orphans; o.Node != "dead" || o.ConnID != id || string(o.Entry) != "entry" {
				t.Errorf("got orphan %q of %q with %q, want %q of the dead node with its entry", o.ConnID, o.Node, o.Entry, id)
			}
		}
	}
	listed := func(want ...string) {
		t.Helper()
		got := l.client.HKeys(t.Context(), l.heldKey("a")).Val()
		if len(got) != len(want) || len(want) > 0 && got[0] != want[0] {
			t.Errorf("got %q in the node's list, want %q", got, want)
		}
	}

	l.leave(t, "dead", "c1", 1)
	claim(nil) // also so that the server knows the script
	handedOut("c1")
	l.leave(t, "dead", "c2", 1)
	if err := l.client.HSet(t.Context(), l.heldKey("a"), "over", "entry").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.write(t.Context(), map[string][]byte{"c1": nil}, nil); err != nil {
		t.Fatal(err)
	}
	lost.answers = true
	claim(errLost)
	lost.answers = false
	rewrite()
	listed("c2")
	handedOut("c2")
	rewrite()
	listed("c2")
	handedOut()

	if _, err := l.write(t.Context(), map[string][]byte{"c2": nil}, nil); err != nil {
		t.Fatal(err)
	}
	l.leave(t, "dead", "c3", 1)
	lost.requests = true
	claim(errLost)
	lost.requests = false
	rewrite()
	handedOut()
	listed()
	claim(nil)
	handedOut("c3")
}
