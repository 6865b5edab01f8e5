package together_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/together"
)

// TestWhatWaitsIsCarriedOutTogether: the first call is carried out at once, those that come meanwhile as one, up to what is
// allowed, and each has its own answer.
func TestWhatWaitsIsCarriedOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		calls := &together.Calls[int, int]{Most: 4, AtOnce: 1, Time: time.Minute, Do: func(_ context.Context, in []int) ([]int, error) {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, len(in))
			out := make([]int, len(in))
			for i, n := range in {
				out[i] = n * n
			}
			return out, nil
		}}
		var all sync.WaitGroup
		for n := range 7 {
			all.Go(func() {
				if got, err := calls.Call(t.Context(), n); got != n*n || err != nil {
					t.Errorf("call %d: got %d and error %v, want %d", n, got, err, n*n)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if len(sizes) != 3 || sizes[0] != 1 || sizes[1] != 4 || sizes[2] != 2 {
			t.Errorf("carried out together: got %v, want 1, 4 and 2", sizes)
		}
	})
}

func TestErrorsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		calls := &together.Calls[int, int]{Most: 4, AtOnce: 1, Time: time.Second, Do: func(ctx context.Context, in []int) ([]int, error) {
			<-ctx.Done()
			return nil, broken
		}}
		if _, err := calls.Call(t.Context(), 1); !errors.Is(err, broken) {
			t.Errorf("got %v, want the error of all", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := calls.Call(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the caller's time is over", err)
		}
		time.Sleep(time.Minute) // lets what is under way end
	})
}
