package team

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
)

type outcome struct {
	result *result.Result
	err    error
}

// coordinate starts a coordinator of n workers, and returns its address.
func coordinate(t *testing.T, n int) (address string, done <-chan outcome) {
	t.Helper()
	var s scenario.Scenario
	if _, err := config.Load(&s, "load", config.Source{Args: []string{"--connections=10", "--endpoint=http://127.0.0.1:1"}}, io.Discard); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := Coordinate(t.Context(), l, &s, []string{"http://127.0.0.1:1/metrics"}, n, func(string) {})
		ended <- outcome{r, err}
	}()
	return "http://" + l.Addr().String(), ended
}

func answer(t *testing.T, url, body string) (status int, text string) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

func TestResultsOfAllAreMerged(t *testing.T) {
	address, done := coordinate(t, 2)
	var one, two job
	for _, j := range []*job{&one, &two} {
		if err := call(t.Context(), address+"/join", nil, j); err != nil {
			t.Fatal(err)
		}
	}
	if one.Index != 0 || two.Index != 1 || one.Scenario.Connections+two.Scenario.Connections != 10 || len(one.Watch) != 1 || len(two.Watch) != 0 {
		t.Errorf("jobs: got %+v and %+v", one, two)
	}
	if status, text := answer(t, address+"/join", ""); status != http.StatusConflict {
		t.Errorf("a third worker: got %d %q, want 409", status, text)
	}
	var waiting sync.WaitGroup
	for _, index := range []string{"0", "1"} {
		waiting.Go(func() {
			if err := call(t.Context(), address+"/ready?index="+index, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	waiting.Wait()
	for _, bad := range []string{"/result", "/result?index=2", "/ready?index=-1", "/result?index=x"} {
		if status, _ := answer(t, address+bad, "{}"); status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", bad, status)
		}
	}
	if status, _ := answer(t, address+"/result?index=0", "nonsense"); status != http.StatusBadRequest {
		t.Errorf("nonsense as a result: got %d, want 400", status)
	}
	for _, index := range []string{"0", "1"} {
		if status, text := answer(t, address+"/result?index="+index, `{"rates":{"sent":5},"started":"2026-01-01T00:00:00Z"}`); status != http.StatusNoContent {
			t.Errorf("result: got %d %q, want 204", status, text)
		}
	}
	if o := <-done; o.err != nil || o.result.Rates.Sent != 10 || o.result.Name != "load" || o.result.Scenario.Connections != 10 {
		t.Errorf("got %+v, %v, want the sum under the whole scenario's name", o.result, o.err)
	}
}

// TestReadyWaitsForAll asks with one worker of two.
func TestReadyWaitsForAll(t *testing.T) {
	address, _ := coordinate(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := call(ctx, address+"/ready?index=0", nil, nil); err == nil {
		t.Error("a worker was let go before the other was ready")
	}
}

func TestFailureOfOneIsTold(t *testing.T) {
	address, done := coordinate(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Work(ctx, address, drive.Options{Key: strings.Repeat("k", 40)}); err == nil {
		t.Error("a worker without a server had a result")
	}
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), "worker 1: scrape") {
		t.Errorf("got %v, want the worker's own words", o.err)
	}
}

func TestScenarioThatCannotBeShared(t *testing.T) {
	_, done := coordinate(t, 11)
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), "11 processes need at least one each") {
		t.Errorf("got %v", o.err)
	}
}
