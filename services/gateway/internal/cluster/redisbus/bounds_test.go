package redisbus

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// What waits to be published is bounded by number and by bytes; beyond, posts are refused. What has been taken counts
// no more.
func TestQueueIsBounded(t *testing.T) {
	for name, tt := range map[string]struct{ size, want int }{
		"by number": {0, maxPosts},
		"by bytes":  {1 << 20, maxPostBytes >> 20},
	} {
		t.Run(name, func(t *testing.T) {
			q := newPosts(new(atomic.Uint64))
			p := post{channel: "c", payload: make([]byte, tt.size)}
			if err := q.add(p, nil); !errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("closed: got %v, want %v", err, cluster.ErrUnavailable)
			}
			q.accept()
			for round := range 2 {
				n := 0
				var err error
				for ; err == nil && n <= 2*maxPosts; n++ {
					err = q.add(p, nil)
				}
				if n-1 != tt.want || !errors.Is(err, cluster.ErrUnavailable) {
					t.Errorf("round %d: got %d posts of %d bytes in and then %v, want %d and %v", round, n-1, tt.size, err, tt.want, errFull)
				}
				if got := len(q.takeAll(nil)); got != tt.want {
					t.Errorf("round %d: took %d, want %d", round, got, tt.want)
				}
			}
		})
	}
}

func TestPipelineIsBounded(t *testing.T) {
	for name, tt := range map[string]struct{ posts, size, want int }{
		"few":             {3, 10, 3},
		"by number":       {2 * maxPipeline, 1, maxPipeline},
		"by bytes":        {8, maxPipelineBytes / 4, 4},
		"a large one":     {3, 2 * maxPipelineBytes, 1},
		"one more at all": {2, maxPipelineBytes, 1},
	} {
		list := make([]post, tt.posts)
		for i := range list {
			list[i].payload = make([]byte, tt.size)
		}
		if got := pipelineLen(list); got != tt.want {
			t.Errorf("%s: %d posts of %d bytes: got a pipeline of %d, want %d", name, tt.posts, tt.size, got, tt.want)
		}
	}
}
