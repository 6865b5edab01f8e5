package team

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

type outcome struct {
	result *result.Result
	err    error
}

// build is that of Chatr in these tests.
const build = "1.2"

// newTeam makes a coordinator of n workers, whose signs of life nobody waits for.
func newTeam(t *testing.T, n int) (*coordinator, *scenario.Scenario) {
	t.Helper()
	s := &scenario.Scenario{}
	if _, err := config.Load(s, "load", config.Source{Args: []string{"--connections=10", "--endpoint=http://127.0.0.1:1"}}, io.Discard); err != nil {
		t.Fatal(err)
	}
	c, err := newCoordinator(t.Context(), build, s, []string{"http://127.0.0.1:1/metrics"}, n, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	c.silence = time.Hour
	return c, s
}

// coordinate starts a coordinator of n workers, and returns its address.
func coordinate(t *testing.T, n int) (address string, c *coordinator, done <-chan outcome) {
	t.Helper()
	c, s := newTeam(t, n)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := c.run(t.Context(), l, s)
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
		if err := call(t.Context(), http.MethodPost, address+"/join?build="+build, nil, &workers[i].job); err != nil {
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
	address, _, done := coordinate(t, 2)
	workers := joined(t, address, 2)
	one, two := workers[0].job, workers[1].job
	if one.Share != (scenario.Share{Index: 0, Of: 2}) || two.Share != (scenario.Share{Index: 1, Of: 2}) || one.Run != two.Run || len(one.Watch) != 1 || len(two.Watch) != 0 {
		t.Errorf("jobs: got %+v and %+v", one, two)
	}
	if !reflect.DeepEqual(one.Scenario, two.Scenario) || one.Scenario.Connections != 10 {
		t.Errorf("got the scenarios %+v and %+v, want the whole one for both", one.Scenario, two.Scenario)
	}
	if status, text := answer(t, address+"/join?build="+build, ""); status != http.StatusConflict {
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
	if want := (result.Worker{Connections: 5, Offset: -3, ClockError: 1}); len(o.result.Workers) != 2 || o.result.Workers[1] != want {
		t.Errorf("workers: got %+v, want two like %+v", o.result.Workers, want)
	}
}

// TestMeetWaitsForAll asks with one worker of two.
func TestMeetWaitsForAll(t *testing.T) {
	address, _, _ := coordinate(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := call(ctx, http.MethodPost, address+"/meet?index=0&at=begin", nil, nil); err == nil {
		t.Error("a worker was let go before the other had come")
	}
}

// TestAllBeginAtOneMoment compares what the workers are told.
func TestAllBeginAtOneMoment(t *testing.T) {
	address, _, _ := coordinate(t, 3)
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
	address, _, done := coordinate(t, 2)
	o := drive.Options{Key: strings.Repeat("k", 40)}
	errs := make([]error, 2)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() { _, errs[i] = Work(t.Context(), build, address, o) })
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
		name  string
		leave func(t *testing.T, c *coordinator, w *worker)
		want  string
	}{
		{"silent", func(t *testing.T, c *coordinator, w *worker) {
			body, _ := io.Pipe()          // nothing ever comes
			c.members[1].silence.Reset(0) // an hour is over
			answer, err := http.Post(w.url("alive"), "", body)
			if err != nil {
				t.Error(err)
				return
			}
			if err := read(answer, nil); err == nil || !strings.Contains(err.Error(), "no sign of life") {
				t.Errorf("the silent one: got %v, want that it was given up", err)
			}
		}, "it gave no sign of life for 1h0m0s"},
		{"never heard of", func(_ *testing.T, c *coordinator, _ *worker) { c.members[1].silence.Reset(0) }, "it gave no sign of life for 1h0m0s"},
		{"broken connection", func(t *testing.T, _ *coordinator, w *worker) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.coordinator, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "POST /alive?index=1 HTTP/1.1\r\nHost: coordinator\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n")
			_ = conn.Close()
		}, "its connection broke"},
		{"ended", func(t *testing.T, _ *coordinator, w *worker) { answer(t, w.url("alive"), "...") }, "it ended without a result"},
		{"failed", func(t *testing.T, _ *coordinator, w *worker) { answer(t, w.url("result", "error", "no memory"), "") }, "no memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, c, done := coordinate(t, 3)
			workers := joined(t, address, 3)
			told := make(chan struct{}) // what the lost one wants to know; the last report ends the coordinator
			var working sync.WaitGroup
			for _, w := range []*worker{workers[0], workers[2]} {
				working.Go(func() {
					if _, err := w.meet(t.Context(), drive.Settled); err != nil {
						t.Errorf("settled: %v", err)
					}
					accounts := 0
					if err := w.exchange(t.Context(), []byte{}, func([]byte, time.Duration) error { accounts++; return nil }); err != nil || accounts != 1 {
						t.Errorf("exchange: got %v and the accounts of %d, want one", err, accounts)
					}
					<-told
					if status, text := answer(t, w.url("result"), aResult); status != http.StatusNoContent {
						t.Errorf("result: got %d %q", status, text)
					}
				})
			}
			tt.leave(t, c, workers[1])
			<-c.members[1].done
			if _, err := workers[1].meet(t.Context(), drive.Settled); err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the lost one comes back: got %v, want to hear that it was given up", err)
			}
			if status, _ := answer(t, workers[1].url("result"), aResult); status != http.StatusConflict {
				t.Errorf("the lost one has a result: got %d, want 409", status)
			}
			close(told)
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

// TestOnlyWhoHoldsTheOthersUpIsGivenUp lets the second of three hang at each step after the load has begun, though it lives.
func TestOnlyWhoHoldsTheOthersUpIsGivenUp(t *testing.T) {
	settle := func(w *worker) error {
		_, err := w.meet(t.Context(), drive.Settled)
		return err
	}
	exchange := func(w *worker) error {
		return w.exchange(t.Context(), []byte{}, func([]byte, time.Duration) error { return nil })
	}
	tests := []struct {
		hangs   string
		comesTo func(w *worker) error
		waiting func(c *coordinator, i int) bool // whether another worker has come as far as it can
	}{
		{"before it settles", func(*worker) error { return nil }, func(c *coordinator, i int) bool { return c.points[drive.Settled].here[i] }},
		{"before it tells", settle, func(c *coordinator, i int) bool { return isClosed(c.members[i].accounted) }},
		{"before it reports", func(w *worker) error { return errors.Join(settle(w), exchange(w)) }, func(c *coordinator, i int) bool { return isClosed(c.members[i].done) }},
	}
	for _, tt := range tests {
		t.Run(tt.hangs, func(t *testing.T) {
			t.Parallel()
			c, s := newTeam(t, 3)
			server := httptest.NewServer(c.handler())
			defer server.Close()
			workers := joined(t, server.URL, 3)
			if err := c.ready(0); err != nil {
				t.Errorf("ready: %v", err)
			}
			var working sync.WaitGroup
			working.Go(func() {
				if err := tt.comesTo(workers[1]); err != nil {
					t.Errorf("the second: %v", err)
				}
			})
			for _, w := range []*worker{workers[0], workers[2]} {
				working.Go(func() {
					if err := errors.Join(settle(w), exchange(w)); err != nil {
						t.Errorf("settle and exchange: %v", err)
					}
					if status, text := answer(t, w.url("result"), aResult); status != http.StatusNoContent {
						t.Errorf("result: got %d %q", status, text)
					}
				})
			}
			testkit.Eventually(t, time.Minute, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return tt.waiting(c, 0) && tt.waiting(c, 2)
			}, "the others wait for the second")
			if err := c.collect(0); err != nil {
				t.Fatal(err)
			}
			working.Wait()
			r, err := c.merge(s)
			if err != nil || r.Missing() != 1 || r.Workers[1].Fate != "it did not finish in time" {
				t.Errorf("got %+v and %v, want the second missing", r, err)
			}
		})
	}
}

// TestUnreadyWorkerEndsTheRun tells which of two has not come to the load's beginning in time.
func TestUnreadyWorkerEndsTheRun(t *testing.T) {
	c, _ := newTeam(t, 2)
	c.points[drive.Begin].here[0] = true
	if err := c.ready(0); err == nil || err.Error() != "worker 2: it did not finish in time" {
		t.Errorf("got %v, want that the second held the first up", err)
	}
}

// TestDeadBeforeItsFirstSign lets a worker join and say no more, while the other one has not come.
func TestDeadBeforeItsFirstSign(t *testing.T) {
	address, c, done := coordinate(t, 2)
	if status, text := answer(t, address+"/join?build="+build, ""); status != http.StatusOK {
		t.Fatalf("join: got %d %q", status, text)
	}
	c.members[0].silence.Reset(0) // an hour is over
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), "1 of 2 came: worker 1: it gave no sign of life for 1h0m0s") {
		t.Errorf("got %v, want that the first is gone", o.err)
	}
}

func TestOtherBuildsAreRefused(t *testing.T) {
	address, c, _ := coordinate(t, 1)
	_, err := Work(t.Context(), "1.3", address, drive.Options{})
	if err == nil || !strings.Contains(err.Error(), `the worker is chatr "1.3" and the coordinator chatr "1.2"`) {
		t.Errorf("got %v, want both versions", err)
	}
	if got := c.here(); got != 0 {
		t.Errorf("%d workers joined, want none", got)
	}
}

func TestMissingKeyIsTold(t *testing.T) {
	address, _, done := coordinate(t, 1)
	if _, err := Work(t.Context(), build, address, drive.Options{}); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v, want ErrNoKey", err)
	}
	if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), ErrNoKey.Error()) {
		t.Errorf("the coordinator: got %v, want the worker's own words", o.err)
	}
}

func TestNobodyIsLeft(t *testing.T) {
	address, _, done := coordinate(t, 1)
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
			c, err := newCoordinator(t.Context(), build, &scenario.Scenario{Endpoint: "http://127.0.0.1:1", Hub: "bench", Connections: 2, Subprotocols: []string{"json"},
				Publish: scenario.Publish{Sizes: []string{"128"}}, Event: scenario.Event{Name: "e"}, Slow: scenario.Slow{Rate: 1}, Storm: scenario.Storm{Share: 1}, Duration: time.Second}, nil, 2, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewServer(c.handler())
			defer s.Close()
			done := make(chan error, 1)
			go func() {
				_, err := Work(t.Context(), build, s.URL, drive.Options{Key: strings.Repeat("k", 40)})
				done <- err
			}()
			for here := false; !here; { // it waits for the other to begin
				c.mu.Lock()
				here = c.points[drive.Begin].here[0]
				c.mu.Unlock()
				select {
				case err := <-done:
					t.Fatalf("the worker ended before it had begun: %v", err)
				case <-time.After(time.Millisecond):
				}
			}
			end(c, s)
			why := []string{"enough", "EOF", "coordinator is gone", "its connection broke"} // as the worker or its pulse hears first
			err = <-done
			if err == nil || !slices.ContainsFunc(why, func(s string) bool { return strings.Contains(err.Error(), s) }) {
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
	if _, err := Coordinate(t.Context(), build, l, s, nil, 11, func(string) {}); err == nil || !strings.Contains(err.Error(), "connections is 0") {
		t.Errorf("got %v", err)
	}
}
