package team

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
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
	address, _, done = coordinateWith(t, n, silence)
	return address, done
}

func coordinateWith(t *testing.T, n int, silence time.Duration) (address string, c *coordinator, done <-chan outcome) {
	t.Helper()
	var s scenario.Scenario
	if _, err := config.Load(&s, "load", config.Source{Args: []string{"--connections=10", "--endpoint=http://127.0.0.1:1"}}, io.Discard); err != nil {
		t.Fatal(err)
	}
	c, err := newCoordinator(t.Context(), &s, []string{"http://127.0.0.1:1/metrics"}, n, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	c.silence = silence
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := c.run(t.Context(), l, &s)
		ended <- outcome{r, err}
	}()
	return "http://" + l.Addr().String(), c, ended
}

// joined lets all workers of a coordinator join and come to the points up to the load's beginning.
func joined(t *testing.T, address string, n int) []*worker {
	t.Helper()
	workers := make([]*worker, n)
	var meeting sync.WaitGroup
	for i := range workers {
		workers[i] = &worker{coordinator: address, clock: newClock()}
		if err := call(t.Context(), http.MethodPost, address+"/join", nil, &workers[i].job); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range workers {
		meeting.Go(func() {
			for _, p := range []drive.Point{drive.Begin, drive.Ready} {
				if _, err := w.meet(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	meeting.Wait()
	return workers
}

const aResult = `{"rates":{"sent":5},"started":"2026-01-01T00:00:00Z"}`

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
	workers := joined(t, address, 2)
	one, two := workers[0].job, workers[1].job
	if one.Share != (scenario.Share{Index: 0, Of: 2}) || two.Share != (scenario.Share{Index: 1, Of: 2}) || one.Run != two.Run || len(one.Watch) != 1 || len(two.Watch) != 0 {
		t.Errorf("jobs: got %+v and %+v", one, two)
	}
	if !reflect.DeepEqual(one.Scenario, two.Scenario) || one.Scenario.Connections != 10 {
		t.Errorf("got the scenarios %+v and %+v, want the whole one for both", one.Scenario, two.Scenario)
	}
	if status, text := answer(t, address+"/join", ""); status != http.StatusConflict {
		t.Errorf("a third worker: got %d %q, want 409", status, text)
	}
	for _, bad := range []string{"/result", "/result?index=2", "/meet?index=-1&at=begin", "/meet?index=0&at=noon", "/result?index=x", "/alive?index=2", "/sent?index=9", "/sent?index=0&offset=1s"} {
		if status, _ := answer(t, address+bad, "{}"); status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", bad, status)
		}
	}
	if status, _ := answer(t, address+"/result?index=0", "nonsense"); status != http.StatusBadRequest {
		t.Errorf("nonsense as a result: got %d, want 400", status)
	}
	for i, w := range workers {
		if status, text := answer(t, w.url("sent", "offset", "-3ms", "apart", "1ms"), "sent"); status != http.StatusNoContent {
			t.Errorf("what was sent: got %d %q, want 204", status, text)
		}
		if status, text := answer(t, w.url("result"), aResult); status != http.StatusNoContent {
			t.Errorf("result: got %d %q, want 204", status, text)
		}
		if i > 0 {
			break // the run is over, and so is the coordinator
		}
		if status, text := answer(t, w.url("result"), aResult); status != http.StatusConflict {
			t.Errorf("result again: got %d %q, want 409", status, text)
		}
	}
	o := <-done
	if o.err != nil || o.result.Rates.Sent != 10 || o.result.Name != "load" || o.result.Scenario.Connections != 10 {
		t.Fatalf("got %+v, %v, want the sum under the whole scenario's name", o.result, o.err)
	}
	if want := (result.Worker{Connections: 5, Offset: -3, Apart: 1}); len(o.result.Workers) != 2 || o.result.Workers[1] != want {
		t.Errorf("workers: got %+v, want two like %+v", o.result.Workers, want)
	}
}

// TestMeetWaitsForAll asks with one worker of two.
func TestMeetWaitsForAll(t *testing.T) {
	address, _ := coordinate(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := call(ctx, http.MethodPost, address+"/meet?index=0&at=begin", nil, nil); err == nil {
		t.Error("a worker was let go before the other had come")
	}
}

// TestAllBeginAtOneMoment compares what the workers are told.
func TestAllBeginAtOneMoment(t *testing.T) {
	address, _ := coordinate(t, 3)
	told := make([]moment, 3)
	var meeting sync.WaitGroup
	for i := range told {
		meeting.Go(func() {
			if err := call(t.Context(), http.MethodPost, address+"/meet?at=ready&index="+strconv.Itoa(i), nil, &told[i]); err != nil {
				t.Error(err)
			}
		})
	}
	meeting.Wait()
	if told[0] != told[1] || told[0] != told[2] || told[0].At == 0 {
		t.Errorf("got %v, want one moment", told)
	}
}

// TestFailureBeforeTheLoadEndsTheRun: the one that watches fails, and the other one ends too.
func TestFailureBeforeTheLoadEndsTheRun(t *testing.T) {
	address, done := coordinate(t, 2)
	o := drive.Options{Key: strings.Repeat("k", 40)}
	errs := make([]error, 2)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() { _, errs[i] = Work(t.Context(), address, o) })
	}
	working.Wait()
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), "worker 1: scrape") {
		t.Errorf("got %v, want the worker's own words", o.err)
	}
	for _, err := range errs {
		if err == nil {
			t.Error("a worker had a result")
		}
	}
}

// TestLostWorkersAreTold loses the second of three under load, in several ways.
func TestLostWorkersAreTold(t *testing.T) {
	tests := []struct {
		name    string
		silence time.Duration
		leave   func(t *testing.T, w *worker)
		want    string
	}{
		{"silent", 50 * time.Millisecond, func(t *testing.T, w *worker) {
			body, _ := io.Pipe() // nothing ever comes
			answer, err := http.Post(w.url("alive"), "", body)
			if err != nil {
				t.Error(err)
				return
			}
			if err := read(answer, nil); err == nil || !strings.Contains(err.Error(), "no sign of life") {
				t.Errorf("the silent one: got %v, want that it was given up", err)
			}
		}, "it gave no sign of life for 50ms"},
		{"broken connection", silence, func(t *testing.T, w *worker) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.coordinator, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "POST /alive?index=1 HTTP/1.1\r\nHost: coordinator\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n")
			_ = conn.Close()
		}, "its connection broke"},
		{"ended", silence, func(t *testing.T, w *worker) { answer(t, w.url("alive"), "...") }, "it ended without a result"},
		{"failed", silence, func(t *testing.T, w *worker) { answer(t, w.url("result", "error", "no memory"), "") }, "no memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, c, done := coordinateWith(t, 3, tt.silence)
			workers := joined(t, address, 3)
			var working sync.WaitGroup
			for _, w := range []*worker{workers[0], workers[2]} {
				working.Go(func() {
					if _, err := w.meet(t.Context(), drive.Settled); err != nil {
						t.Errorf("settled: %v", err)
					}
					told := 0
					if err := w.exchange(t.Context(), []byte{}, func([]byte, time.Duration) error { told++; return nil }); err != nil || told != 1 {
						t.Errorf("exchange: got %v and the accounts of %d, want one", err, told)
					}
					if status, text := answer(t, w.url("result"), aResult); status != http.StatusNoContent {
						t.Errorf("result: got %d %q", status, text)
					}
				})
			}
			tt.leave(t, workers[1])
			<-c.members[1].done
			if _, err := workers[1].meet(t.Context(), drive.Settled); err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the lost one comes back: got %v, want to hear that it was given up", err)
			}
			if status, _ := answer(t, workers[1].url("result"), aResult); status != http.StatusConflict {
				t.Errorf("the lost one has a result: got %d, want 409", status)
			}
			working.Wait()
			o := <-done
			if o.err != nil {
				t.Fatal(o.err)
			}
			if o.result.Missing() != 1 || o.result.Workers[1].Fate != tt.want || o.result.Workers[1].Connections != 3 || o.result.Rates.Sent != 10 {
				t.Errorf("got %+v, want the second missing because %s", o.result.Workers, tt.want)
			}
			if o.result.Errors["worker 2 is missing: "+tt.want] != 1 {
				t.Errorf("errors: got %v, want also the missing worker", o.result.Errors)
			}
		})
	}
}

func TestNobodyIsLeft(t *testing.T) {
	address, done := coordinate(t, 1)
	w := joined(t, address, 1)[0]
	answer(t, w.url("result", "error", "no memory"), "")
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), "no memory") {
		t.Errorf("got %v, want an error with the worker's words", o.err)
	}
}

func TestWorkersEndWithTheirCoordinator(t *testing.T) {
	for name, end := range map[string]func(*coordinator, *httptest.Server){
		"it ends the run": func(c *coordinator, _ *httptest.Server) { c.end(errors.New("enough")) },
		"it is gone":      func(_ *coordinator, s *httptest.Server) { s.CloseClientConnections() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := newCoordinator(t.Context(), &scenario.Scenario{Endpoint: "http://127.0.0.1:1", Hub: "bench", Connections: 2, Subprotocols: []string{"json"},
				Publish: scenario.Publish{Sizes: []string{"128"}}, Event: scenario.Event{Name: "e"}, Slow: scenario.Slow{Rate: 1}, Storm: scenario.Storm{Share: 1}, Duration: time.Second}, nil, 2, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewServer(c.handler())
			defer s.Close()
			done := make(chan error, 1)
			go func() {
				_, err := Work(t.Context(), s.URL, drive.Options{Key: strings.Repeat("k", 40)})
				done <- err
			}()
			for here := false; !here; { // it waits for the other to begin
				c.mu.Lock()
				here = c.points[drive.Begin].here[0]
				c.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
			end(c, s)
			if err := <-done; err == nil || !strings.Contains(err.Error(), "enough") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "coordinator is gone") {
				t.Errorf("got %v, want why it ended", err)
			}
		})
	}
}

func TestScenarioThatCannotBeShared(t *testing.T) {
	s := &scenario.Scenario{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Coordinate(t.Context(), l, s, nil, 11, func(string) {}); err == nil || !strings.Contains(err.Error(), "connections is 0") {
		t.Errorf("got %v", err)
	}
}
