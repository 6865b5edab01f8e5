// Package team lets several processes, on one machine or many, carry out one load scenario together.
//
// A coordinator waits until as many workers as it wants have come, gives each its part, lets all begin to measure at
// the same moment, and merges what they found. Workers need nothing but the coordinator's address and the key that
// signs tokens; the key never travels. The coordinator trusts whoever reaches it, so it belongs on a private network.
package team

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
)

const (
	comeTime    = 5 * time.Minute // that workers may take to come
	finishTime  = 2 * time.Minute // beyond the scenario's own times that they may take to finish
	retryPeriod = time.Second     // of a worker whose coordinator is not there yet
	maxResult   = 256 << 20       // bytes
	closeTime   = 5 * time.Second
)

// job is what a worker is to do.
type job struct {
	Index    int               `json:"index"`
	Scenario scenario.Scenario `json:"scenario"`
	Watch    []string          `json:"watch"` // measure.Target
}

// coordinator is the coordinator's side of a run.
type coordinator struct {
	jobs    []job
	results chan reported

	mu     sync.Mutex // guards the following
	joined int
	ready  map[int]bool
	come   chan struct{} // closed when all have joined
	start  chan struct{} // closed when all are ready
}

type reported struct {
	index  int
	result *result.Result
	err    string
}

// Coordinate runs a scenario with n workers, who come to the listener, and returns the merged result. One of them
// watches the targets, so these should be URLs.
func Coordinate(ctx context.Context, l net.Listener, s *scenario.Scenario, watch []string, n int, note func(string)) (*result.Result, error) {
	parts, err := s.Split(n)
	if err != nil {
		return nil, err
	}
	c := &coordinator{results: make(chan reported, n), ready: map[int]bool{}, come: make(chan struct{}), start: make(chan struct{})}
	for i, part := range parts {
		c.jobs = append(c.jobs, job{Index: i, Scenario: part})
	}
	c.jobs[0].Watch = watch
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", c.join)
	mux.HandleFunc("POST /ready", c.wait)
	mux.HandleFunc("POST /result", c.report)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		_ = server.Shutdown(closing) // answers the last worker
	}()
	note(fmt.Sprintf("waiting at %s for %d workers", l.Addr(), n))
	if err := within(ctx, comeTime, c.come); err != nil {
		return nil, fmt.Errorf("wait for workers: %d of %d came: %w", c.here(), n, err)
	}
	note("all workers are here")
	merged, err := c.collect(ctx, n, s.Ramp+s.Warmup+s.Duration+s.Settle+finishTime)
	if err != nil {
		return nil, err
	}
	merged.Name, merged.Scenario = s.Name, *s
	return merged, nil
}

// within waits for done.
func within(ctx context.Context, limit time.Duration, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *coordinator) here() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined
}

// collect waits for every worker's result. A merged result lacks nobody's: half of the load is not the load.
func (c *coordinator) collect(ctx context.Context, n int, limit time.Duration) (*result.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts := make([]*result.Result, n)
	for range n {
		select {
		case r := <-c.results:
			if r.err != "" {
				return nil, fmt.Errorf("worker %d: %s", r.index+1, r.err)
			}
			parts[r.index] = r.result
		case <-ctx.Done():
			var missing []string
			for i, p := range parts {
				if p == nil {
					missing = append(missing, strconv.Itoa(i+1))
				}
			}
			return nil, fmt.Errorf("wait for the results of workers %v: %w", missing, ctx.Err())
		}
	}
	return result.Merge(parts), nil
}

// join gives a worker its part.
func (c *coordinator) join(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	i := c.joined
	if i >= len(c.jobs) {
		c.mu.Unlock()
		http.Error(w, fmt.Sprintf("there are %d workers already", len(c.jobs)), http.StatusConflict)
		return
	}
	c.joined++
	if c.joined == len(c.jobs) {
		close(c.come)
	}
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(c.jobs[i]) // a worker that is gone is missed later
}

// wait answers when every worker is ready to begin.
func (c *coordinator) wait(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	c.mu.Lock()
	if !c.ready[i] {
		c.ready[i] = true
		if len(c.ready) == len(c.jobs) {
			close(c.start)
		}
	}
	c.mu.Unlock()
	select {
	case <-c.start:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// report takes a worker's result, or why it has none.
func (c *coordinator) report(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	got := reported{index: i, err: r.URL.Query().Get("error")}
	if got.err == "" {
		got.result = &result.Result{}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxResult)).Decode(got.result); err != nil {
			http.Error(w, "this is not a result: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	select {
	case c.results <- got:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "every worker has reported", http.StatusConflict)
	}
}

func (c *coordinator) index(w http.ResponseWriter, r *http.Request) (int, bool) {
	i, err := strconv.Atoi(r.URL.Query().Get("index"))
	if err != nil || i < 0 || i >= len(c.jobs) {
		http.Error(w, "index must be that of a job", http.StatusBadRequest)
		return 0, false
	}
	return i, true
}

// Work does one part of a coordinator's scenario, waiting for the coordinator to be there.
func Work(ctx context.Context, coordinator string, o drive.Options) (*result.Result, error) {
	var j job
	if err := call(ctx, coordinator+"/join", nil, &j); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	query := "?index=" + strconv.Itoa(j.Index)
	r, err := do(ctx, coordinator, query, j, o)
	if err != nil {
		said := call(context.WithoutCancel(ctx), coordinator+"/result"+query+"&error="+url.QueryEscape(err.Error()), nil, nil)
		return nil, errors.Join(err, said)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := call(context.WithoutCancel(ctx), coordinator+"/result"+query, b, nil); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return r, nil
}

func do(ctx context.Context, coordinator, query string, j job, o drive.Options) (*result.Result, error) {
	o.Prefix = "w" + strconv.Itoa(j.Index+1) + "-"
	for _, text := range j.Watch {
		t, err := measure.ParseTarget(text)
		if err != nil {
			return nil, err
		}
		o.Targets = append(o.Targets, t)
	}
	o.Barrier = func(ctx context.Context) error { return call(ctx, coordinator+"/ready"+query, nil, nil) }
	return drive.Run(ctx, &j.Scenario, o)
}

// call makes a POST. It tries again as long as nobody answers, until comeTime is over.
func call(ctx context.Context, target string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, comeTime)
	defer cancel()
	for {
		answer, err := post(ctx, target, body)
		if err == nil {
			defer answer.Body.Close()
			if answer.StatusCode/100 != 2 {
				text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
				return fmt.Errorf("the coordinator answered %d: %s", answer.StatusCode, bytes.TrimSpace(text))
			}
			if into == nil {
				return nil
			}
			return json.NewDecoder(answer.Body).Decode(into)
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" { // it may have been done
			return err
		}
		select {
		case <-time.After(retryPeriod):
		case <-ctx.Done():
			return err
		}
	}
}

func post(ctx context.Context, target string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
