package gateway

import (
	"errors"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestKeysAreReplaced has both keys valid at once, then one of them gone: new tokens by it are refused, connections and
// recoveries of those who came by it are not.
//
// checklist:A01
func TestKeysAreReplaced(t *testing.T) {
	t.Parallel()
	const oldKey, newKey = "the old key, which has thirty-two bytes", "the new key, which has thirty-two bytes"
	tenants := tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: oldKey, Secondary: newKey}})
	s := startWith(t, setup{}, tenants)
	address := func(key string) string {
		raw, err := token.Sign(key, s.url+"/client/hubs/chat", time.Hour, token.Options{Subject: "ana", Roles: all, Groups: []string{"room"}})
		must(t, err)
		return s.url + "/client/hubs/chat?access_token=" + raw
	}
	exists := func(key string) error {
		_, err := dataplane.New(s.url, key, "chat", dataplane.Options{Retries: -1}).UserExists(within(t), "ana")
		return err
	}
	eachPubSub(t, func(t *testing.T, codec string) {
		must(t, tenants.Set(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: oldKey, Secondary: newKey}}))
		byOld, byNew := s.dial(address(oldKey), codec), s.dial(address(newKey), codec)
		must(t, errors.Join(exists(oldKey), exists(newKey)))

		must(t, tenants.Set(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: newKey}}))
		must(t, byOld.SendToGroup(within(t), "room", text("still here"), wsclient.SendOptions{}))
		wantMessage(t, byNew, "still here")
		var refused *wsclient.HandshakeError
		if _, err := s.tryDial(address(oldKey), codec); !errors.As(err, &refused) || refused.Status != 401 {
			t.Errorf("got %v for a new client by the old key, want 401", err)
		}
		var answer *dataplane.Error
		if err := exists(oldKey); !errors.As(err, &answer) || answer.Status != 401 {
			t.Errorf("got %v from REST by the old key, want 401", err)
		}
		must(t, exists(newKey))
		if reliableCodec(codec) {
			byOld.Drop()
			must(t, byOld.Recover(within(t)))
		}
		must(t, byOld.Ping(within(t)))
	})
}

// TestATenantThatIsRemovedLosesItsConnections removes one of two tenants while clients of both are connected.
func TestATenantThatIsRemovedLosesItsConnections(t *testing.T) {
	t.Parallel()
	one := tenant.Tenant{Name: "one", Hosts: []string{"127.0.0.1"}, Keys: tenant.Keys{Primary: key}}
	two := tenant.Tenant{Name: "two", Hosts: []string{"localhost"}, Keys: tenant.Keys{Primary: key}}
	tenants, err := tenant.NewStatic(one, two)
	must(t, err)
	s := startWith(t, setup{}, tenants)
	eachCodec(t, func(t *testing.T, codec string) {
		must(t, tenants.Set(one, two))
		leaving := s.dial(s.clientURL("ana", all), codec)
		must(t, tenants.Set(two))
		if e := wantClose(t, leaving, 1008); e.Reason != "This service has been removed." {
			t.Errorf("got the reason %q, want one that says what has happened", e.Reason)
		}
		if reliableCodec(codec) {
			must(t, tenants.Set(one, two))
			if err := leaving.Recover(within(t)); !isClosed(err, 1008) {
				t.Errorf("got %v from recovery, want a close with 1008", err)
			}
		}
	})
}
