package repeat

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// eachStore runs test on a memory of this process and on two gateways' of one Redis.
func eachStore(t *testing.T, test func(t *testing.T, a, b *Requests)) {
	t.Run("memory", func(t *testing.T) {
		r := New(nil, "test")
		test(t, r, r)
	})
	t.Run("redis", func(t *testing.T) {
		a, b := openRedis(t, testkit.Redis(t).URL)
		test(t, New(a, "test"), New(b, "test"))
	})
}

func openRedis(t *testing.T, url string) (a, b redis.UniversalClient) {
	t.Helper()
	var clients [2]redis.UniversalClient
	for i := range clients {
		client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "test"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		clients[i] = client
	}
	return clients[0], clients[1]
}

func request(id string) Request {
	return Request{Tenant: "acme", ID: "chat/" + id, Print: "aa", Keep: Window}
}

func wantState(t *testing.T, r *Requests, q Request, want State) Claim {
	t.Helper()
	c, got, err := r.Claim(t.Context(), q)
	if got != want || err != nil {
		t.Errorf("claim %s: got state %d, %v; want %d", q.ID, got, err, want)
	}
	return c
}

func finishAs(t *testing.T, r *Requests, c Claim, o Outcome) {
	t.Helper()
	if err := r.Finish(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
}

func TestARequestIsCarriedOutOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *Requests) {
		c := wantState(t, a, request("1"), First)
		wantState(t, b, request("1"), UnderWay)
		wantState(t, b, request("2"), First)
		other := request("1")
		other.Tenant = "other"
		wantState(t, b, other, First)
		finishAs(t, a, c, CarriedOut)
		wantState(t, a, request("1"), Done)
		wantState(t, b, request("1"), Done)
		different := request("1")
		different.Print = "bb"
		wantState(t, b, different, Different)
	})
}

func TestWhatWasNotDoneIsForgotten(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *Requests) {
		finishAs(t, a, wantState(t, a, request("1"), First), NotDone)
		c := wantState(t, b, request("1"), First)
		finishAs(t, b, c, Unknown)
		again := wantState(t, a, request("1"), Again)
		wantState(t, b, request("1"), UnderWay)
		finishAs(t, b, c, NotDone) // has been claimed by another since
		finishAs(t, a, again, NotDone)
		finishAs(t, a, wantState(t, b, request("1"), Again), CarriedOut) // the first may have been done all the same
		wantState(t, a, request("1"), Done)
	})
}

// TestWhoeverClaimedMayHaveDied: what is under way for too long counts as of unknown outcome.
func TestWhoeverClaimedMayHaveDied(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := New(nil, "test")
			wantState(t, r, request("1"), First)
			time.Sleep(ClaimTime - time.Millisecond)
			wantState(t, r, request("1"), UnderWay)
			time.Sleep(time.Millisecond)
			finishAs(t, r, wantState(t, r, request("1"), Again), CarriedOut)
			wantState(t, r, request("1"), Done)
			time.Sleep(Window)
			wantState(t, r, request("1"), First)
		})
	})
	t.Run("redis", func(t *testing.T) {
		client, _ := openRedis(t, testkit.Redis(t).URL)
		r := New(client, "test")
		wantState(t, r, request("1"), First)
		key := r.key(request("1"))
		if ttl := client.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > Window {
			t.Errorf("got a time to live of %v, want %v", ttl, Window)
		}
		past := fmt.Sprintf("under %d token aa", time.Now().Add(-time.Second).UnixMilli())
		if err := client.Set(context.Background(), key, past, redis.KeepTTL).Err(); err != nil {
			t.Fatal(err)
		}
		finishAs(t, r, wantState(t, r, request("1"), Again), CarriedOut)
		wantState(t, r, request("1"), Done)
		if ttl := client.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > Window {
			t.Errorf("got a time to live of %v at the end, want it unchanged", ttl)
		}
	})
}

// TestATenantRemembersSoMany: what one tenant sends takes no room from others, nor all there is.
func TestATenantRemembersSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil, "test")
		for i := range maxTenantRequests {
			wantState(t, r, request(fmt.Sprint(i)), First)
		}
		if _, _, err := r.Claim(t.Context(), request("one more")); err != ErrFull {
			t.Errorf("got %v, want ErrFull", err)
		}
		other := request("1")
		other.Tenant = "other"
		wantState(t, r, other, First)
		wantState(t, r, request("1"), UnderWay)
		time.Sleep(Window)
		wantState(t, r, request("one more"), First)
		if len(r.entries) != 1 || r.order.Len() != 1 || len(r.tenants) != 1 {
			t.Errorf("got %d entries, %d in order, %d tenants; want what has passed forgotten", len(r.entries), r.order.Len(), len(r.tenants))
		}
	})
}
