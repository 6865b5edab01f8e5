package main

import (
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
