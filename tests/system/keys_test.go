package system_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestKeysAreReplacedWithoutRestart replaces the access key in the steps of docs/deploying.md while people talk: nobody is
// cut off, the chat's own services sign with the new key, and in the end the old one is worth nothing.
//
// checklist:A01
func TestKeysAreReplacedWithoutRestart(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{})
	ada, bob := people.Come(t, top.A, "Ada", people.Reliable), people.Come(t, top.B, "Bob", people.Plain)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	bob.Do("joinChat", tea)

	const newKey = "another access key for tests, as long"
	before, err := os.ReadFile(top.Settings)
	if err != nil {
		t.Fatal(err)
	}
	oldLine := `accessKey: "` + topology.AccessKey + `"`
	for i, keys := range []string{
		oldLine + "\naccessKeySecondary: " + newKey,
		"accessKey: " + newKey + "\naccessKeySecondary: " + topology.AccessKey,
		"accessKey: " + newKey,
	} {
		text := strings.Replace(string(before), oldLine, keys, 1)
		if err := os.WriteFile(top.Settings, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, p := range append(top.Gateways[:2:2], top.Events, top.API) {
			testkit.Eventually(t, people.Patience, func() bool { return strings.Count(p.Log(), "tenants reloaded") == i+1 }, p.Name+" reads its settings again")
		}
		if err := bob.Say(tea, keys[:9]); err != nil {
			t.Errorf("talking after step %d: %v", i+1, err)
		}
	}

	for _, p := range []*people.Person{ada, bob} {
		if err := p.Conn.Ping(t.Context()); err != nil {
			t.Errorf("%s was cut off: %v", p.Name, err)
		}
	}
	carol := people.Come(t, top.A, "Carol", people.Plain) // a token of the API service, by the new key
	carol.Do("joinChat", tea)                             // the events service asks the gateway for it, by the new key
	if err := ada.Say(tea, "all is new"); err != nil {
		t.Error(err)
	}
	carol.Await("Ada", people.Line("all is new"))
	for _, g := range top.Gateways {
		var refused *dataplane.Error
		_, err := dataplane.New(g.URL, topology.AccessKey, "chat", dataplane.Options{}).GroupExists(t.Context(), tea)
		if !errors.As(err, &refused) || refused.Status != 401 {
			t.Errorf("%s: got %v with the old key, want 401", g.Name, err)
		}
		if _, err := dataplane.New(g.URL, newKey, "chat", dataplane.Options{}).GroupExists(t.Context(), tea); err != nil {
			t.Errorf("%s: got %v with the new key", g.Name, err)
		}
	}
}
