package webpubsub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// checklist:C03 C22
func TestParseHub(t *testing.T) {
	for name, want := range map[string]string{
		"chat": "chat", "Chat": "chat", "a_`,.[]9": "a_`,.[]9", strings.Repeat("h", 128): strings.Repeat("h", 128),
		"": "", "9a": "", "_default": "", "a b": "", "a/b": "", "chät": "", strings.Repeat("h", 129): "", "a\n": "",
	} {
		got, err := ParseHub(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseHub(%q): got %q, %v; want %q", name, got, err, want)
		}
	}
}

// checklist:C22
func TestCheckGroup(t *testing.T) {
	for name, ok := range map[string]bool{
		"g": true, " g ": true, "a/b": true, "?": true, strings.Repeat("ä", 1024): true,
		"": false, " \t\n": false, strings.Repeat("g", 1025): false,
	} {
		if err := CheckGroup(name); (err == nil) != ok {
			t.Errorf("CheckGroup(%.20q): got %v, want ok %v", name, err, ok)
		}
	}
}

// checklist:C22
func TestCheckEvent(t *testing.T) {
	for name, ok := range map[string]bool{
		"message": true, "order.placed": true, "Chat_1-x": true, strings.Repeat("e", 128): true,
		"": false, "1a": false, ".a": false, "a b": false, "a\n": false, "é": false, strings.Repeat("e", 129): false,
	} {
		if err := CheckEvent(name); (err == nil) != ok {
			t.Errorf("CheckEvent(%.20q): got %v, want ok %v", name, err, ok)
		}
	}
}

// checklist:A04
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		roles        string
		send, join   string // groups allowed, separated by blanks
		sendX, join_ string // groups refused
	}{
		{"", "", "", "g", "g"},
		{"webpubsub.sendToGroup", "g a.b", "", "", "g"},
		{"webpubsub.joinLeaveGroup", "", "g", "g", ""},
		{"webpubsub.sendToGroup.a.b", "a.b", "", "a b a.b.c", "a.b"},
		{"webpubsub.SendToGroup other.role", "", "", "g", "g"},
		{"webpubsub.sendToGroup.*", "*", "", "g", ""},
		{"webpubsub.sendToGroups.room-*", "room-7 room-", "", "room-7.x xroom-7", ""},
		{"webpubsub.sendToGroups.**", "g a.b.c", "", "", ""},
		{"webpubsub.sendToGroups.a.?.c", "a.b.c", "", "a..c a.bb.c", ""},
		{`webpubsub.sendToGroups.\*`, "*", "", "g", ""},
		{"webpubsub.sendToGroups.a.***.z", "a.b.c.z a..z", "", "a.z", ""},
		{`webpubsub.sendToGroups.bad\x webpubsub.sendToGroups.******a*b*c*d*e webpubsub.sendToGroups.`, "", "", "bad a", ""},
	} {
		p, _ := ParseRoles(strings.Fields(c.roles))
		for perm, want := range map[Permission][2]string{SendToGroup: {c.send, c.sendX}, JoinLeaveGroup: {c.join, c.join_}} {
			for i, groups := range want {
				for _, g := range strings.Fields(groups) {
					if got := p.Allows(perm, g); got != (i == 0) {
						t.Errorf("roles %q: %v on %q: got %v, want %v", c.roles, perm, g, got, i == 0)
					}
				}
			}
		}
	}
}

// checklist:A04
func TestInvalidRolesAreCounted(t *testing.T) {
	if _, ignored := ParseRoles([]string{`webpubsub.sendToGroups.a\`, "unknown", "webpubsub.sendToGroup.g"}); ignored != 1 {
		t.Errorf("got %d ignored, want 1", ignored)
	}
}

// checklist:A05
func TestLiteralRulesWin(t *testing.T) {
	p, _ := ParseRoles([]string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroups.r*"})
	for _, step := range []struct {
		do   func() error
		want bool
	}{
		{func() error { return nil }, true},
		{func() error { return p.Revoke(SendToGroup, "room") }, false},
		{func() error { return p.Grant(SendToGroup, "room") }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := p.Allows(SendToGroup, "room"); got != step.want {
			t.Errorf("got %v, want %v", got, step.want)
		}
	}
	if err := p.Revoke(JoinLeaveGroup, "room"); err != nil || p.Allows(JoinLeaveGroup, "room") || !p.Allows(JoinLeaveGroup, "rest") {
		t.Errorf("a revoked group must be denied against a pattern, and only it (%v)", err)
	}
}

// checklist:A04 C22
func TestRuleLimits(t *testing.T) {
	var p Permissions
	for i := range MaxRules {
		if err := p.Grant(SendToGroup, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Grant(SendToGroup, "one more"); !errors.Is(err, ErrRuleLimit) {
		t.Errorf("got %v, want ErrRuleLimit", err)
	}
	if err := p.Revoke(SendToGroup, "7"); err != nil {
		t.Errorf("got %v, want a known group to be changeable", err)
	}
	roles := make([]string, 12)
	for i := range roles {
		roles[i] = fmt.Sprintf("webpubsub.sendToGroups.%d*", i)
	}
	p, ignored := ParseRoles(roles)
	if ignored != 3 || !p.Allows(SendToGroup, "8x") || p.Allows(SendToGroup, "9x") {
		t.Errorf("got %d patterns ignored, want the 3 above nine", ignored)
	}
}

// TestPatternsCannotBeMadeSlow would not end within the test's time with a matcher that backtracks.
func TestPatternsCannotBeMadeSlow(t *testing.T) {
	p, _ := ParseRoles([]string{"webpubsub.sendToGroups.**a**a**a**a**b"})
	if p.Allows(SendToGroup, strings.Repeat("a", MaxGroupName)) {
		t.Error("got a match, want none")
	}
}
