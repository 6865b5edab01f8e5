package scenario

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
)

func load(t *testing.T, args ...string) *Scenario {
	t.Helper()
	var s Scenario
	if _, err := config.Load(&s, "load", config.Source{Args: args}, io.Discard); err != nil {
		t.Fatal(err)
	}
	return &s
}

func plan(t *testing.T, args ...string) *Plan {
	t.Helper()
	p, err := NewPlan(load(t, args...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sizes(p *Plan) (n []int) {
	for _, m := range p.Members {
		n = append(n, len(m))
	}
	return n
}

func TestDefaultsAreValid(t *testing.T) {
	if err := load(t).Validate(); err != nil {
		t.Error(err)
	}
}

func TestFileAndFlagsMeanTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scenario.yaml")
	text := "connections: 50\nsubprotocols: [json:3, simple]\ngroups: {count: 4, sizes: zipf:1.2}\npublish: {rate: 70, noEcho: true}\nrest: {userRate: 3}\nduration: 3s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := load(t, "--config", file)
	want := load(t, "--connections=50", "--subprotocols=json:3,simple", "--groups-count=4", "--groups-sizes=zipf:1.2",
		"--publish-rate=70", "--publish-no-echo", "--rest-user-rate=3", "--duration=3s")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Publish.Rate != 70 || got.Duration != 3*time.Second {
		t.Errorf("got %+v", got)
	}
}

func TestProblemsAreToldTogether(t *testing.T) {
	var s Scenario
	_, err := config.Load(&s, "load", config.Source{Args: []string{"--endpoint=localhost", "--connections=0", "--subprotocols=json,mqtt,protobuf", "--event-invoke", "--groups-sizes=big", "--publish-rate=1",
		"--publish-window=1", "--publish-sizes=12", "--storm-share=0", "--duration=0s", "--sources=here", "--hub=-", "--event-name=1", "--churn-rate=-1"}}, io.Discard)
	err = errors.Join(err, s.Validate())
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		`endpoint "localhost" must look like http://localhost:8080`, "connections is 0; it must be from 1", `there is no "mqtt"; choose of json, reliable, simple`,
		`"big" must be like big:60`, "either open or closed loop", `"12" must be a number of bytes from 41`, "storm.share is 0", "duration is 0s",
		`"here" is not an IP address`, "hub", "event.name", "churn.rate is -1", "event.invoke: the protobuf",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
}

func TestPlanRepeats(t *testing.T) {
	args := []string{"--connections=300", "--groups-count=7", "--groups-per-connection=3", "--subprotocols=json,reliable,simple", "--slow-connections=5", "--publish-sizes=64,128"}
	a, b, c := plan(t, args...), plan(t, args...), plan(t, append(args, "--seed=2")...)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed made different plans")
	}
	if reflect.DeepEqual(a.Members, c.Members) {
		t.Error("another seed made the same plan")
	}
	sa, sb := a.Sizes(), b.Sizes()
	for range 100 {
		if x, y := sa(), sb(); x != y || x != 64 && x != 128 {
			t.Fatalf("sizes: got %d and %d", x, y)
		}
	}
	if x, y := a.Draw(DrawPublish).Uint64(), a.Draw(DrawChurn).Uint64(); x == y {
		t.Error("two purposes draw the same numbers")
	}
}

func TestGroupSizes(t *testing.T) {
	tests := map[string][]int{"even": {25, 25, 25, 25}, "big:70": {70, 10, 10, 10}, "zipf": {48, 24, 16, 12}}
	for sizing, want := range tests {
		p := plan(t, "--connections=100", "--groups-count=4", "--groups-sizes="+sizing)
		if got := sizes(p); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", sizing, got, want)
		}
	}
}

func TestClientsAreInDifferentGroups(t *testing.T) {
	p := plan(t, "--connections=50", "--groups-count=5", "--groups-per-connection=5", "--groups-sizes=big:90")
	if got := sizes(p); !slices.Equal(got, []int{50, 50, 50, 50, 50}) {
		t.Errorf("got sizes %v, want everybody everywhere", got)
	}
}

func TestPublishers(t *testing.T) {
	p := plan(t, "--connections=30", "--groups-count=3", "--subprotocols=json,simple", "--slow-connections=4")
	for _, pub := range p.Publishers() {
		if c := p.Clients[pub.Client]; c.Subprotocol == Simple || c.Slow || !slices.Contains(c.Groups, pub.Group) {
			t.Errorf("client %+v publishes to %d", c, pub.Group)
		}
	}
	simple := 0
	for _, c := range p.Clients {
		if c.Subprotocol == Simple {
			simple++
		}
	}
	if simple != 15 {
		t.Errorf("simple clients: got %d, want 15", simple)
	}
	for outside, want := range map[string][]Publisher{
		"1": {{30, 0}, {30, 1}, {30, 2}}, "2": {{30, 0}, {30, 2}, {31, 1}}, "4": {{30, 0}, {31, 1}, {32, 2}, {33, 0}},
	} {
		if got := plan(t, "--connections=30", "--groups-count=3", "--publish-outside="+outside).Publishers(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s outside: got %v, want %v", outside, got, want)
		}
	}
}

func TestChatJourneysAreOfPeople(t *testing.T) {
	if err := load(t, "--chat-journeys", "--chat-idle-rate=1", "--publish-rate=5").Validate(); err != nil {
		t.Error(err)
	}
	err := load(t, "--chat-journeys", "--subprotocols=simple:2", "--rest-user-rate=1", "--publish-sizes=9000").Validate()
	for _, want := range []string{"no simple connections", "no REST calls", "publish.sizes cannot be 9000"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
	if err := load(t, "--chat-idle-rate=1").Validate(); err == nil || !strings.Contains(err.Error(), "without chat.journeys") {
		t.Errorf("got %v, want that there are no people to be idle", err)
	}
}
