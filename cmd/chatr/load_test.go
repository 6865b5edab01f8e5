package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/load/result"
)

func TestLoadTakesItsOwnEnvironment(t *testing.T) {
	t.Setenv("CHATR_CONNECTIONS", "7")
	t.Setenv("CHATR_ACCESS_KEY_FILE", "/key")
	t.Setenv("CHATR_REDIS_URL", "redis://elsewhere")
	var s loadSettings
	env := envOf(&s)
	if !slices.Contains(env, "CHATR_CONNECTIONS=7") || !slices.Contains(env, "CHATR_ACCESS_KEY_FILE=/key") || len(env) != 2 {
		t.Errorf("got %v, want the settings of load and no others", env)
	}
}

func TestLoadTellsAllThatIsWrong(t *testing.T) {
	err := runLoad(t.Context(), []string{"--connections=0", "--fail-if=nothing", "--watch=x", "--data=/no/such/folder", "--workers=-1"}, t.Output())
	for _, want := range []string{"connections is 0", `"nothing" is not a condition`, `"x" is neither`, "workers is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
	if err := runLoad(t.Context(), []string{"report"}, t.Output()); err == nil || !strings.Contains(err.Error(), "results is empty") {
		t.Errorf("a report of nothing: got %v", err)
	}
}

// TestWorkersNeedAKeyOnlyWhereTokensAreSigned lets a worker without a key join two scenarios. The coordinator knows no
// time, which is where the one that goes on ends.
func TestWorkersNeedAKeyOnlyWhereTokensAreSigned(t *testing.T) {
	for scenario, want := range map[string]string{
		`{}`:                         "no access key: give --access-key",
		`{"Chat":{"Journeys":true}}`: "compare clocks: the coordinator answered 404",
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /join", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"share":{"index":0,"of":1},"scenario":%s}`, scenario)
		})
		alive := make(chan struct{}) // else the worker would be told that it is not wanted
		mux.HandleFunc("POST /alive", func(http.ResponseWriter, *http.Request) { <-alive })
		mux.HandleFunc("POST /result", func(http.ResponseWriter, *http.Request) { close(alive) })
		coordinator := httptest.NewServer(mux)
		defer coordinator.Close()
		err := runLoad(t.Context(), []string{"worker", "--coordinator", coordinator.URL, "--data=/no/such/folder"}, t.Output())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("scenario %s: got %v, want %q", scenario, err, want)
		}
	}
}

func TestIncompleteResultsFail(t *testing.T) {
	r := &result.Result{Workers: []result.Worker{{}, {Fate: "gone"}, {}}}
	if err := incomplete(r); err == nil || !strings.Contains(err.Error(), "1 of 3 workers are missing") {
		t.Errorf("got %v, want that one is missing", err)
	}
	if err := incomplete(&result.Result{Workers: make([]result.Worker, 2)}); err != nil {
		t.Errorf("all are there: got %v", err)
	}
}

func TestJudgeTellsEachConditionThatIsMet(t *testing.T) {
	thresholds, err := parseThresholds([]string{"lost>0", "ready<5", "errors>0"})
	if err != nil {
		t.Fatal(err)
	}
	r := &result.Result{Totals: map[string]int64{"ready": 4}, Errors: map[string]int64{"x": 2}}
	err = judge(r, thresholds)
	if err == nil || !strings.Contains(err.Error(), "ready<5: it is 4\nerrors>0: it is 2") || strings.Contains(err.Error(), "lost") {
		t.Errorf("got %v, want two reasons", err)
	}
	if err := judge(r, thresholds[:1]); err != nil {
		t.Errorf("got %v, want none", err)
	}
}

// TestToolsHaveBounds gives numbers and durations of the tools values that are negative, zero or too short.
func TestToolsHaveBounds(t *testing.T) {
	key := strings.Repeat("k", minKey)
	for args, want := range map[string]string{
		"load --workers -1":                  "--workers: workers is -1; it must be at least 0",
		"load --ramp -1s":                    "--ramp: ramp is -1s; it must be at least 0s",
		"load --storm-every -1s":             "--storm-every: storm.every is -1s; it must be at least 0s",
		"load --duration 0s":                 "--duration: duration is 0s; it must be at least 1ms",
		"load --slow-rate 0":                 "--slow-rate: slow.rate is 0; it must be from 1 to 1073741824",
		"load --slow-connections 100":        "slow.connections is 100; it must be at most 99, so that somebody keeps up",
		"load --groups-per-connection 11":    "groups.perConnection is 11; it must be at most 10, which is how many groups there are",
		"load --publish-rate -1":             "--publish-rate: publish.rate is -1; it must be from 0 to 10000000",
		"token --lifetime 0s":                "--lifetime: lifetime is 0s; it must be at least 1s",
		"token --access-key short":           "--access-key: accessKey has 5 bytes; at least 32 are needed",
		"token --connection-string Endpoint": "",
	} {
		list := strings.Fields(args)
		if want == "" {
			list[2], want = "Endpoint=http://localhost;AccessKey=short", "the access key has 5 bytes; at least 32 are needed"
		} else if !strings.Contains(args, "--access-key") {
			list = append(list, "--access-key", key)
		}
		if err := dispatch(t.Context(), list, t.Output()); err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", args, err, want)
		}
	}
}
