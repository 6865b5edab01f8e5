package session

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// TestInvocationsAreBounded: the reader waits once as many have no answer as may, by number or by bytes.
func TestInvocationsAreBounded(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": maxInvocationBytes / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var i invocations
				added := 0
				want := min(maxInvocations, maxInvocationBytes/size)
				first := &invocation{size: size}
				go func() {
					i.add("first", first)
					for added = 1; added <= want; added++ {
						i.add(fmt.Sprint(added), &invocation{size: size})
					}
				}()
				synctest.Wait()
				if added != want {
					t.Errorf("got %d let through, want %d", added, want)
				}
				if !i.remove("first", first) || i.remove("first", first) {
					t.Error("got an invocation that has not ended, or has twice")
				}
				synctest.Wait()
				if added != want+1 {
					t.Errorf("got %d let through after one has ended, want one more", added)
				}
			})
		})
	}
}
