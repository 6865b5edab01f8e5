package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
)

func subject(id, user string, groups ...string) *filter.Subject {
	return &filter.Subject{ConnectionID: id, UserID: user, Protocol: "json.webpubsub.azure.v1", InGroup: func(name string) bool {
		for _, g := range groups {
			if g == name {
				return true
			}
		}
		return false
	}}
}

// checklist:R27
func TestMatch(t *testing.T) {
	ana := subject("c-1", "ana", "room-7", "It's")
	anonymous := subject("c-2", "")
	dev := subject("c-3", "dev-Ärger", "room-7", "banned")
	for _, test := range []struct {
		filter              string
		ana, anonymous, dev bool
	}{
		// The examples of protocol/rest-api.md section 8.
		{"userId eq 'ana'", true, false, false},
		{"userId ne null", true, false, true},
		{"not ('banned' in groups)", true, true, false},
		{"connectionId in ('c-1','c-2')", true, true, false},
		{"startswith(userId,'dev-') and 'room-7' in groups", false, false, true},
		{"length(userId) gt 3 or userId eq null", false, true, true},
		{"userId eq 'O''Hara'", false, false, false},

		{"true", true, true, true},
		{"false or not false", true, true, true},
		{" \t\r\n( userId\neq'ana')", true, false, false},
		{"USERID eq 'ana' and connectionid eq 'c-1' and ConnectionId ne 'c-2'", true, false, false},
		{"userId eq 'Ana'", false, false, false},
		{"'It''s' in groups", true, false, false},
		{"userId in GROUPS", false, false, false},
		{"concat('room-','7') in groups", true, false, true},
		{"protocol eq 'json.webpubsub.azure.v1'", true, true, true},

		// and binds closer than or, not closer than both.
		{"true or false and false", true, true, true},
		{"(true or false) and false", false, false, false},
		{"not true or true", true, true, true},
		{"not userId eq 'ana'", false, true, true},
		{"not not (userId eq 'ana')", true, false, false},
		{"(userId eq 'ana') eq true", true, false, false},
		{"(userId eq 'ana') in (true)", true, false, false},

		// null
		{"userId eq null", false, true, false},
		{"null eq userId", false, true, false},
		{"null eq null", true, true, true},
		{"null ne 1", true, true, true},
		{"userId in (null)", false, true, false},
		{"null in ('a', null)", true, true, true},
		{"null in groups", false, false, false},
		{"null gt 1 or 1 le null or null ge null", false, false, false},
		{"length(userId) lt 1000", true, false, true},
		{"length(userId) le 3", true, false, false},
		{"length(userId) ge 4", false, false, true},
		{"tolower(userId) eq null and concat(userId,'x') eq null and substring(userId,1) eq null", false, true, false},
		{"startswith(userId,'') or endswith(userId,'') or contains(userId,'')", true, false, true},
		{"contains('x',null)", false, false, false},
		{"indexof(userId,'a') eq -1", false, true, true},
		{"substring('abc', 0, length(userId)) eq null", false, true, false},

		// functions
		{"toupper(userId) eq 'ANA'", true, false, false},
		{"tolower(userId) eq 'dev-ärger'", false, false, true},
		{"trim('  x ') eq 'x'", true, true, true},
		{"endswith(userId,'rger')", false, false, true},
		{"contains(userId,'-Ä')", false, false, true},
		{"indexof(userId,'r') eq 5", false, false, true},
		{"length(userId) eq 9", false, false, true},
		{"substring(userId,4) eq 'Ärger'", false, false, true},
		{"substring(userId,4,1) eq 'Ä'", false, false, true},
		{"substring('abc',1,1) eq 'b' and substring('abc',3) eq '' and substring('abc',9) eq ''", true, true, true},
		{"substring('abc',-5,2) eq 'ab' and substring('abc',1,-1) eq '' and substring('abc',2,9223372036854775807) eq 'c'", true, true, true},
		{"substring('abc',9223372036854775807,9223372036854775807) eq ''", true, true, true},
		{"-9223372036854775808 lt 0", true, true, true},
	} {
		f, err := filter.Parse(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		for _, c := range []struct {
			name    string
			subject *filter.Subject
			want    bool
		}{{"ana", ana, test.ana}, {"anonymous", anonymous, test.anonymous}, {"dev", dev, test.dev}} {
			if got := f.Match(c.subject); got != c.want {
				t.Errorf("%s: got %v for %s, want %v", test.filter, got, c.name, c.want)
			}
		}
	}
}

// checklist:R27
func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ filter, want string }{
		{"", "character 1: expected a value, found the end"},
		{"userId", "character 1: the filter must be true or false for a connection, but is a string"},
		{"length(userId)", "but is an integer"},
		{"null", "but is null"},
		{"userId eq", "character 10: expected a value, found the end"},
		{"userId eq 'ana", "character 11: the string that begins here has no closing quote"},
		{"'ä' eq 'ana", "character 8: the string"},
		{"userId = 'ana'", "character 8: unexpected character '='"},
		{"userId EQ 'ana'", `character 8: expected the end or one of and, or, eq, ne, gt, ge, lt, le, in, found "EQ"`},
		{"user eq 'ana'", `character 1: "user" is not a name that filters know; they are connectionId, userId, protocol`},
		{"groups eq 'a'", "character 1: groups may only stand after in"},
		{"'a' in (groups)", "character 9: groups may only stand after in"},
		{"'a' in userId", `character 8: expected groups or a list in parentheses after in, found "userId"`},
		{"'a' in ()", `character 9: expected a value, found ")"`},
		{"'a' in ('b',)", `character 13: expected a value, found ")"`},
		{"'a' in ('b' 'c')", `character 13: expected ")", found a string`},
		{"'a' in ('b', 1)", "character 14: in, after a string, needs a string, found an integer"},
		{"1 in groups", "character 1: in groups needs a string, found an integer"},
		{"(userId eq 'a'", `character 15: expected ")", found the end`},
		{"userId eq 'a')", `found ")"`},
		{"userId eq 1", "character 11: eq needs a string, found an integer"},
		{"true ne 'x'", "character 9: ne needs a boolean, found a string"},
		{"userId gt 'a'", "character 1: gt needs an integer, found a string"},
		{"1 lt true", "character 6: lt needs an integer, found a boolean"},
		{"userId and true", "character 1: and needs a boolean, found a string"},
		{"true or null", "character 9: or needs a boolean, found null"},
		{"not 1", "character 5: not needs a boolean, found an integer"},
		{"startswith(userId)", "character 1: function startswith has 1 arguments here; it takes 2"},
		{"substring('a') eq 'a'", "it takes 2 or 3"},
		{"length(1) eq 1", "character 8: function length needs a string, found an integer"},
		{"StartsWith(userId,'a')", `character 1: "StartsWith" is not a function that filters know; they are tolower`},
		{"tolower eq 'a'", "function tolower needs its arguments in parentheses"},
		{"1x eq 1", `character 1: "1x" is not an integer`},
		{"- eq 1", `"-" is not an integer`},
		{"9223372036854775808 eq 1", "not an integer of 64 bits"},
		{strings.Repeat("(", 101) + "true" + strings.Repeat(")", 101), "character 101: expressions are nested more than 100 deep"},
		{strings.Repeat("not ", 101) + "true", "nested more than 100 deep"},
		{strings.Repeat("(", 60_000), "nested more than 100 deep"},
		{"true" + strings.Repeat(" or true", 500), "more than 1000 names"},
		{"userId eq '" + strings.Repeat("x", 64<<10) + "'", "at most 65536 are allowed"},
		{"userId eq 'x'" + strings.Repeat(" or tolower(userId) eq 'x'", 22), "may have to make more than 65536 bytes"},
		{strings.Repeat("concat(", 60) + "userId" + strings.Repeat(",'"+strings.Repeat("x", 900)+"')", 60) + " eq 'x'", "may have to make more than"},
		{strings.Repeat("tolower(", 9) + "userId" + strings.Repeat(")", 9) + " eq 'x'", "may have to make more than"},
	} {
		_, err := filter.Parse(test.filter)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: got error %v, want %q", test.filter, err, test.want)
		}
	}
}

// checklist:R27
func TestLimitsAreAllowed(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100),
		strings.Repeat("not ", 100) + "true",
		"true" + strings.Repeat(" or true", 499),
		clauses(100, "startswith(userId,'dev-%d') and '%d' in groups"),
		clauses(100, "contains(userId,'x%d%d')"),
		clauses(20, "tolower(userId) eq 'x%d%d'"),
		longList(900),
	} {
		if _, err := filter.Parse(text); err != nil {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// clauses joins n of them by or.
func clauses(n int, form string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = "(" + fmt.Sprintf(form, i, i) + ")"
	}
	return strings.Join(all, " or ")
}

// longList is a filter that lists n connections.
func longList(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("'c-%d'", i)
	}
	return "connectionId in (" + strings.Join(ids, ",") + ")"
}

func TestLongListsMeanTheSame(t *testing.T) {
	for filterText, want := range map[string]bool{
		longList(900):                 true,
		"not (" + longList(900) + ")": false,
		strings.Replace(longList(900), "'c-1'", "'x'", 1):                    false,
		strings.Replace(longList(900), "'c-1'", "userId", 1):                 false,
		"null in (1,2,3,4,5,6,7,8,9,null)":                                   true,
		"length(userId) in (1,2,4,5,6,7,8,9,10,null)":                        false,
		"length(userId) in (1,2,3,4,5,6,7,8,9,10)":                           true,
		"tolower('ABC') eq 'abc' and concat('a','b') in ('x','ab')":          true,
		"substring('abc',1) eq 'bc' and length('abc') eq 3 and not (1 gt 2)": true,
	} {
		f, err := filter.Parse(filterText)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Match(subject("c-1", "ana")); got != want {
			t.Errorf("%.60s: got %v, want %v", filterText, got, want)
		}
	}
}

// What the dearest filters cost for a connection, which those who deliver have to pay.
func BenchmarkDearMatch(b *testing.B) {
	nobody := subject("c-x", strings.Repeat("ü", 512))
	for name, text := range map[string]string{
		"typical":   typical,
		"short":     "userId eq 'ana' and connectionId ne 'c-9'",
		"clauses":   clauses(100, "startswith(userId,'dev-%d') and '%d' in groups"),
		"terms":     "userId eq 'x'" + strings.Repeat(" or userId eq 'x'", 249),
		"list":      longList(900),
		"functions": "false" + strings.Repeat(" or contains(tolower(userId),'uu')", 18),
	} {
		b.Run(name, func(b *testing.B) {
			f, err := filter.Parse(text)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				f.Match(nobody)
			}
		})
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	ana := subject("c-1", "ana", "room-7")
	for _, text := range []string{
		"userId eq 'ana' and connectionId ne 'c-9'",
		"connectionId in ('c-1','c-2') or userId eq null",
		"startswith(userId,'dev-') or 'room-7' in groups",
		"length(userId) gt 2 or indexof(userId,'x') lt 0",
		longList(900),
	} {
		f, err := filter.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		matched := false
		got := testing.AllocsPerRun(100, func() { matched = f.Match(ana) })
		if got != 0 || !matched {
			t.Errorf("%s: %v allocations and %v, want 0 and true", text, got, matched)
		}
	}
}

// Whatever is parsed matches without a panic, and means the same in parentheses.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"userId eq 'O''Hara'", "not ('banned' in groups)", "connectionId in ('c-1',null)",
		"substring(concat(userId,'x'),1,-2) ne toupper(trim(protocol))", "length(userId) gt -3 or true",
		"((1 le 2))", "'", "\xff", "startswith(", "1 in (2,3) and",
	} {
		f.Add(text)
	}
	subjects := []*filter.Subject{subject("c-1", "ana", "room-7"), subject("c-2", ""), subject("", "\xffÄ")}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := filter.Parse(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "filter is wrong at character ") {
				t.Errorf("%q: error %q does not say where", text, err)
			}
			return
		}
		again, err := filter.Parse("(" + text + ")")
		if err != nil {
			if strings.Contains(err.Error(), "nested more than") {
				return
			}
			t.Fatalf("%q is a filter, but not in parentheses: %v", text, err)
		}
		for _, s := range subjects {
			if got, want := again.Match(s), parsed.Match(s); got != want {
				t.Errorf("(%q): got %v, want %v as without parentheses", text, got, want)
			}
		}
	})
}
