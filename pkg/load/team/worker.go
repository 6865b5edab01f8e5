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
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
)

// worker is a worker's side of a run.
type worker struct {
	job
	coordinator string
	clock       *clock
	estimate    estimate // of the coordinator's clock
}

// ErrNoKey says that a worker's part cannot be done without a key.
var ErrNoKey = errors.New("the scenario's clients need tokens, and this worker has no access key to sign them")

// Work does one part of a coordinator's scenario, waiting for the coordinator to be there. The build of Chatr must be the
// coordinator's. Options need a key unless the scenario is of people who chat; without it the error is ErrNoKey.
func Work(ctx context.Context, build, coordinator string, o drive.Options) (*result.Result, error) {
	w := &worker{coordinator: coordinator, clock: newClock()}
	join := coordinator + "/join?" + url.Values{"build": {build}}.Encode()
	if err := untilReachable(ctx, func() error { return call(ctx, http.MethodPost, join, nil, &w.job) }); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	wanted, cancel := context.WithCancelCause(ctx)
	living, die := context.WithCancel(context.WithoutCancel(ctx))
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		if err := w.live(living); living.Err() == nil {
			cancel(err)
		}
	}()
	defer func() { die(); <-dead }()

	r, err := w.run(wanted, o)
	reporting, stop := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer stop()
	if err != nil {
		if wanted.Err() == nil || ctx.Err() != nil { // the coordinator knows why it wants no more
			err = errors.Join(err, call(reporting, http.MethodPost, w.url("result", "error", err.Error()), nil, nil))
		}
		return nil, err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := call(reporting, http.MethodPost, w.url("result"), b, nil); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return r, nil
}

// run drives the worker's share.
func (w *worker) run(ctx context.Context, o drive.Options) (*result.Result, error) {
	if o.Key == "" && !w.Scenario.Chat.Journeys {
		return nil, ErrNoKey
	}
	for _, text := range w.Watch {
		t, err := measure.ParseTarget(text)
		if err != nil {
			return nil, err
		}
		o.Targets = append(o.Targets, t)
	}
	var err error
	if w.estimate, err = w.clock.compare(ctx, w.ask); err != nil {
		return nil, fmt.Errorf("compare clocks: %w", err)
	}
	o.Team = &drive.Team{Share: w.Share, Run: w.Run, Rooms: w.Rooms, Meet: w.meet, Exchange: w.exchange}
	s := w.Scenario
	s.Name = fmt.Sprintf("%s, worker %d", s.Name, w.Share.Index+1)
	return drive.Run(ctx, &s, o)
}

func (w *worker) ask(ctx context.Context) (r reading, err error) {
	return r, call(ctx, http.MethodGet, w.coordinator+"/clock", nil, &r)
}

// live gives signs of life until ctx ends, and returns an error when the coordinator wants no more of them or is gone.
func (w *worker) live(ctx context.Context) error {
	body, signs := io.Pipe()
	defer body.Close()
	go func() {
		defer signs.Close()
		for {
			if _, err := signs.Write([]byte{'.'}); err != nil {
				return
			}
			if backoff.Sleep(ctx, alivePeriod) != nil {
				return
			}
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url("alive"), body)
	if err != nil {
		return err
	}
	answer, err := direct.Do(request)
	if err != nil {
		return fmt.Errorf("the coordinator is gone: %w", err)
	}
	return read(answer, nil)
}

// meet waits for the other workers.
func (w *worker) meet(ctx context.Context, p drive.Point) (time.Time, error) {
	var m moment
	if err := call(ctx, http.MethodPost, w.url("meet", "at", string(p)), nil, &m); err != nil {
		return time.Time{}, err
	}
	return w.clock.when(m.At - int64(w.estimate.offset)), nil
}

// exchange tells the coordinator what this worker has sent, and gets what the other workers have sent.
func (w *worker) exchange(ctx context.Context, sent []byte, take func([]byte, time.Duration) error) error {
	later, err := w.clock.compare(ctx, w.ask)
	if err != nil {
		return fmt.Errorf("compare clocks: %w", err)
	}
	e := w.estimate.since(later)
	if err := call(ctx, http.MethodPost, w.url("sent", "offset", e.offset.String(), "apart", e.clockError.String()), sent, nil); err != nil {
		return err
	}
	for i := range w.Share.Of {
		if i == w.Share.Index {
			continue
		}
		others, clockError, err := w.sentBy(ctx, i)
		if err != nil {
			return fmt.Errorf("what worker %d sent: %w", i+1, err)
		}
		if others == nil {
			continue // it is gone
		}
		if err := take(others, e.clockError+clockError); err != nil {
			return fmt.Errorf("what worker %d sent: %w", i+1, err)
		}
	}
	return nil
}

// sentBy asks what another worker has sent; nil when that is gone.
func (w *worker) sentBy(ctx context.Context, i int) (sent []byte, clockError time.Duration, err error) {
	answer, err := send(ctx, http.MethodGet, w.coordinator+"/sent?index="+strconv.Itoa(i), nil)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, 0, nil
	}
	if err := refused(answer); err != nil {
		return nil, 0, err
	}
	if clockError, err = time.ParseDuration(answer.Header.Get(clockErrorHeader)); err != nil {
		return nil, 0, err
	}
	sent, err = io.ReadAll(answer.Body)
	return sent, clockError, err
}

// url is where to call the coordinator, with names and values in turn.
func (w *worker) url(path string, query ...string) string {
	values := url.Values{"index": {strconv.Itoa(w.Share.Index)}}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return w.coordinator + "/" + path + "?" + values.Encode()
}

// untilReachable tries as long as nobody answers, until comeTime is over.
func untilReachable(ctx context.Context, try func() error) error {
	for end := time.Now().Add(comeTime); ; {
		err := try()
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" || time.Now().After(end) { // otherwise the call may have been done
			return err
		}
		if backoff.Sleep(ctx, retryPeriod) != nil {
			return err
		}
	}
}

// direct uses no proxy, whatever the environment says: a proxy would hold signs of life back.
var direct = func() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	return &http.Client{Transport: t}
}()

// call makes a request, and decodes the answer unless into is nil.
func call(ctx context.Context, method, target string, body []byte, into any) error {
	answer, err := send(ctx, method, target, body)
	if err != nil {
		return err
	}
	return read(answer, into)
}

func send(ctx context.Context, method, target string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := direct.Do(request)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

func read(answer *http.Response, into any) error {
	defer answer.Body.Close()
	if err := refused(answer); err != nil || into == nil {
		return err
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, answer.Body) // to the end, so that the connection serves again
	return nil
}

// refused returns the error that an answer stands for, nil for a success.
func refused(answer *http.Response) error {
	if answer.StatusCode/100 == 2 {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
	return fmt.Errorf("the coordinator answered %d: %s", answer.StatusCode, bytes.TrimSpace(text))
}
