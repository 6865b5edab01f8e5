package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestRolesOfAToken has every form of role, by what it lets a client do and what not.
//
// checklist:A04
func TestRolesOfAToken(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	eachPubSub(t, func(t *testing.T, codec string) {
		for _, tt := range []struct {
			role                string
			may, mayNot         []string // to send to
			mayJoin, mayNotJoin []string
		}{
			{role: "webpubsub.sendToGroup", may: []string{"a", "a.b"}, mayNotJoin: []string{"a"}},
			{role: "webpubsub.joinLeaveGroup", mayJoin: []string{"a", "a.b"}, mayNot: []string{"a"}},
			{role: "webpubsub.sendToGroup.a.b", may: []string{"a.b"}, mayNot: []string{"a", "b", "A.B", "a.b.c"}},
			{role: "webpubsub.joinLeaveGroup.a*", mayJoin: []string{"a*"}, mayNotJoin: []string{"ab", "a"}}, // a literal
			{role: "webpubsub.sendToGroups.room-*", may: []string{"room-", "room-7"}, mayNot: []string{"room-7.x", "rooms", "Room-7"}},
			{role: "webpubsub.joinLeaveGroups.room-*", mayJoin: []string{"room-7"}, mayNotJoin: []string{"room-7.x"}, mayNot: []string{"room-7"}},
			{role: "webpubsub.sendToGroups.t?m.**", may: []string{"tim.", "tom.a.b"}, mayNot: []string{"tm.a", "t.m.a"}},
			{role: `webpubsub.sendToGroups.a\*b`, may: []string{"a*b"}, mayNot: []string{"axb"}},
			{role: "webpubsub.sendToGroups.**", may: []string{"a", "a.b.c"}, mayNotJoin: []string{"a"}},
			{role: `webpubsub.sendToGroups.a\b`, mayNot: []string{"ab", `a\b`, "a"}}, // invalid: gives nothing
			{role: "webpubsub.sendToGroups.*?*?*?", mayNot: []string{"abcdef"}},      // more wildcards than are allowed
			{role: "webpubsub.SendToGroup", mayNot: []string{"a"}},
			{role: "sendToGroup", mayNot: []string{"a"}},
			{role: "webpubsub.sendToGroups", mayNot: []string{"a"}},
		} {
			c := s.dial(s.clientURL("ana", []string{tt.role}), codec)
			for _, group := range tt.may {
				if err := c.SendToGroup(within(t), group, text("x"), wsclient.SendOptions{}); err != nil {
					t.Errorf("%s: sending to %q: %v", tt.role, group, err)
				}
			}
			for _, group := range tt.mayJoin {
				if err := c.Join(within(t), group); err != nil {
					t.Errorf("%s: joining %q: %v", tt.role, group, err)
				}
			}
			for _, group := range tt.mayNot {
				wantFailure(t, c.SendToGroup(within(t), group, text("x"), wsclient.SendOptions{}), "Forbidden")
			}
			for _, group := range tt.mayNotJoin {
				wantFailure(t, c.Join(within(t), group), "Forbidden")
			}
		}
	})
}

// TestPatternRolesAcrossNodes has roles of a token with patterns: the other node knows what they allow, delivers what
// they let a client send, and goes on with them when the client comes back there.
//
// checklist:A04 R25
func TestPatternRolesAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachPubSub(t, func(t *testing.T, a, b *server, codec string) {
		roles := []string{"webpubsub.sendToGroups.room-*", "webpubsub.joinLeaveGroups.t?m.**", `webpubsub.sendToGroups.a\*b`}
		c := a.dial(a.clientURL("ana", roles), codec)
		ben := b.join(codec, "ben", "room-7", "a*b")
		check := func() {
			t.Helper()
			for permission, groups := range map[string]map[string]bool{
				"sendToGroup":    {"room-": true, "room-7": true, "a*b": true, "room-7.x": false, "rooms": false, "axb": false, "tim.a": false},
				"joinLeaveGroup": {"tim.": true, "tom.a.b": true, "tm.a": false, "room-7": false},
			} {
				for group, want := range groups {
					for _, s := range []*server{a, b} {
						path := "/api/hubs/chat/permissions/" + permission + "/connections/" + c.Info().ConnectionID + "?targetName=" + url.QueryEscape(group)
						if status, _ := s.call("HEAD", path, s.keyToken(key, path)); status != map[bool]int{true: 200, false: 404}[want] {
							t.Errorf("%s %q: got %d by REST, want it to be allowed: %v", permission, group, status, want)
						}
					}
				}
			}
			for _, group := range []string{"room-7", "a*b"} {
				must(t, c.SendToGroup(within(t), group, text("to "+group), wsclient.SendOptions{}))
				wantMessage(t, ben, "to "+group)
			}
			must(t, c.Join(within(t), "tom.a.b"))
			must(t, b.rest().SendToGroup(within(t), "tom.a.b", text("joined")))
			wantMessage(t, c, "joined")
			must(t, c.Leave(within(t), "tom.a.b"))
			wantFailure(t, c.SendToGroup(within(t), "room-7.x", text("x"), wsclient.SendOptions{}), "Forbidden")
			wantFailure(t, c.Join(within(t), "room-7"), "Forbidden")
		}
		check()
		if isReliable(codec) {
			c.Drop()
			b.recoverAt(t, c)
			check()
		}
	})
}

// TestDeniesWinOverRoles grants and denies at run time, by REST of the other node.
//
// checklist:A05 R23 R24 R25
func TestDeniesWinOverRoles(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		rest := b.rest()
		eachPubSub(t, func(t *testing.T, codec string) {
			for _, role := range []string{"webpubsub.sendToGroup", "webpubsub.sendToGroups.r*", "webpubsub.sendToGroup.r", "none"} {
				c := a.dial(a.clientURL("ana", []string{role}, "r"), codec)
				id := c.Info().ConnectionID
				send := func() error { return c.SendToGroup(within(t), "r", text("x"), wsclient.SendOptions{}) }
				allowed := func(want bool) {
					t.Helper()
					path := "/api/hubs/chat/permissions/sendToGroup/connections/" + id + "?targetName=r"
					if status, _ := b.call("HEAD", path, b.keyToken(key, path)); (status == 200) != want || status != 200 && status != 404 {
						t.Fatalf("%s: got %d from REST, want it to be allowed: %v", role, status, want)
					}
					if want {
						must(t, send())
						wantMessage(t, c, "x")
						return
					}
					wantFailure(t, send(), "Forbidden")
				}
				allowed(role != "none")
				must(t, rest.Revoke(within(t), id, webpubsub.SendToGroup, "r"))
				allowed(false)
				if reliableCodec(codec) {
					c.Drop()
					must(t, c.Recover(within(t)))
					allowed(false)
				}
				must(t, rest.SendToGroup(within(t), "r", text("still a member"))) // membership is another matter
				wantMessage(t, c, "still a member")
				must(t, rest.Grant(within(t), id, webpubsub.SendToGroup, "r"))
				allowed(true)
				wantFailure(t, c.Join(within(t), "r"), "Forbidden") // the other permission is another one
				c.Drop()
			}
		})
	})
}

// TestRulesAreLiteralAndLimited has what looks like a pattern taken as a name, and the 1001st rule refused.
//
// checklist:A05 C22 R23
func TestRulesAreLiteralAndLimited(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	rest := s.rest()
	eachPubSub(t, func(t *testing.T, codec string) {
		c := s.dial(s.clientURL("ana", nil), codec)
		must(t, rest.Grant(within(t), c.Info().ConnectionID, webpubsub.JoinLeaveGroup, "x*"))
		must(t, c.Join(within(t), "x*"))
		wantFailure(t, c.Join(within(t), "xy"), "Forbidden")
	})
	roles := make([]string, 700) // as many as a token holds, and some
	for i := range roles {
		roles[i] = fmt.Sprintf("webpubsub.joinLeaveGroup.%d", i)
	}
	id := s.dial(s.clientURL("ana", roles), protocol.NameJSON).Info().ConnectionID
	for i := len(roles); i < webpubsub.MaxRules; i++ {
		must(t, rest.Grant(within(t), id, webpubsub.JoinLeaveGroup, fmt.Sprint(i)))
	}
	must(t, rest.Grant(within(t), id, webpubsub.JoinLeaveGroup, "7")) // the same rule again
	if err := rest.Grant(within(t), id, webpubsub.JoinLeaveGroup, "one more"); !isStatus(err, 409) {
		t.Errorf("got %v for rule 1001, want 409", err)
	}
	must(t, rest.Grant(within(t), id, webpubsub.SendToGroup, "one more")) // each permission counts for itself
}

func isStatus(err error, status int) bool {
	var e *dataplane.Error
	return errors.As(err, &e) && e.Status == status
}
