package filter_test

import (
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
)

// TestGrammar goes through the grammar of rest-api.md section 8 production by production, with what each takes and what
// stands next to that. What all of it means is TestMatch's.
//
// checklist:R27
func TestGrammar(t *testing.T) {
	for _, test := range []struct {
		production       string
		accepts, refuses []string
	}{
		{`expr = or-expr`,
			[]string{"true", "(true)", " \t\r\ntrue \t\r\n", "true or true"},
			[]string{"", " ", "()", "true true", "true,true", "true;", "$true", "true--", "true//", "userId", "'true'", "1", "null", "not"}},
		{`or-expr = and-expr *( "or" and-expr )`,
			[]string{"true or false", "true or false or true", "true and false or true", "(true)or(false)", "true or\nfalse"},
			[]string{"or", "or true", "true or", "true or or true", "true OR false", "true Or false", "true || false", "trueor false", "1 or true", "true or 'x'", "null or true"}},
		{`and-expr = not-expr *( "and" not-expr )`,
			[]string{"true and false", "true and false and true", "true and not false", "not true and true", "(true)and(true)"},
			[]string{"and", "and true", "true and", "true and and true", "true AND false", "true && false", "userId and true", "true and 1", "true and null"}},
		{`not-expr = "not" not-expr / compare`,
			[]string{"not true", "not not true", "not(true)", "not userId eq 'a'", "not 'g' in groups", "true or not true"},
			[]string{"not", "not not", "Not true", "NOT true", "! true", "not 'x'", "not 1", "not null", "nottrue", "true not false", "true eq not false", "'a' not in groups", "contains('a', not true)"}},
		{`compare = value [ op value ]`,
			[]string{"true", "userId eq 'a'", "1 eq 1", "'a'eq'a'", "true eq false", "null eq null", "(1 eq 1) eq true", "(true) ne (false)", "length('a') eq (1)"},
			[]string{"userId eq", "eq 'a'", "userId 'a'", "1 eq 1 eq true", "1 lt 2 lt 3", "userId eq eq 'a'", "userId eq 1", "1 eq '1'", "true eq 'true'", "true eq 1", "connectionId eq length(userId)"}},
		{`op = "eq" / "ne"`,
			[]string{"'a' eq 'b'", "'a' ne 'b'", "1 ne 2", "true ne false", "userId ne null", "null ne userId", "null eq 1", "true ne null"},
			[]string{"'a' EQ 'b'", "'a' Ne 'b'", "'a' = 'b'", "'a' == 'b'", "'a' != 'b'", "'a' <> 'b'", "'a' equals 'b'", "'a' has 'b'", "'a' like 'b'"}},
		{`op = "gt" / "ge" / "lt" / "le"`,
			[]string{"1 gt 2", "1 ge 2", "1 lt 2", "1 le 2", "length(userId) gt indexof(userId,'a')", "1 gt null", "null le 1", "null lt null"},
			[]string{"1 GT 2", "1 > 2", "1 >= 2", "1 < 2", "1 <= 2", "'a' gt 'b'", "userId lt connectionId", "true ge false", "1 gt 'a'", "'a' le null", "1 lt (1 eq 1)"}},
		{`compare = value "in" set, set = "groups"`,
			[]string{"'a' in groups", "userId in groups", "'a' in Groups", "'a' in GROUPS", "tolower(userId) in groups", "('a') in groups", "null in groups", "'a'in groups"},
			[]string{"in groups", "'a' in", "'a' IN groups", "'a' In groups", "1 in groups", "true in groups", "'a' in (groups)", "'a' in groups()", "'a' in group", "'a' in roles", "groups", "groups eq 'a'", "'a' eq groups",
				"groups in ('a')", "contains(groups,'a')", "'a' in groups in groups", "'a' in groups eq true"}},
		{`set = "(" value *( "," value ) ")"`,
			[]string{"userId in ('a')", "userId in ('a','b')", "userId in ( 'a' , 'b' )", "1 in (1,2)", "true in (false)", "userId in (connectionId,null)", "null in ('a',1)", "userId in (concat('a','b'))", "userId in (('a'))",
				"true in ((1 eq 1))", "userId in('a')"},
			[]string{"userId in ()", "userId in ('a'", "userId in 'a'", "userId in ('a',)", "userId in (,'a')", "userId in ('a' 'b')", "userId in ('a';'b')", "userId in ['a']", "userId in ('a',1)", "1 in ('a')", "true in (1 eq 1)",
				"userId in ('a') in (true)", "userId in userId"}},
		{`value = identifier`,
			[]string{"connectionId eq 'a'", "CONNECTIONID eq 'a'", "userId eq 'a'", "userid eq 'a'", "protocol eq 'a'", "Protocol eq 'a'", "userId eq connectionId"},
			[]string{"user eq 'a'", "user_id eq 'a'", "userId.length eq 1", "userId/name eq 'a'", "'userId' eq", "@userId eq 'a'", "$it eq 'a'", "hub eq 'chat'", "roles eq 'a'", "userId() eq 'a'", "_ eq 'a'", "\u00fcser eq 'a'"}},
		{`literal = 'single-quoted, '' is a quote'`,
			[]string{"'' eq ''", "'a''b' eq 'a'", "'''' eq ''", "'\u00e9\U0001f600' eq ''", "'\\' eq ''", `'"' eq ''`, "'a\nb' eq ''", "'and or not ( ) ,' eq ''", "'%27' eq ''"},
			[]string{"'a eq 'b'", "'a", "'", "'''", `"a" eq "b"`, "`a` eq 'b'", "\u2019a\u2019 eq 'a'", "'a''", "'a' 'b' eq 'a'", "'a'b' eq 'a'"}},
		{`literal = integer`,
			[]string{"0 eq 0", "1 eq 01", "-1 lt 0", "9223372036854775807 gt 0", "-9223372036854775808 lt 0"},
			[]string{"1.5 eq 1", "1e3 eq 1", "0x1 eq 1", "+1 eq 1", "1L eq 1", "1_000 eq 1", "- 1 eq 1", "--1 eq 1", "9223372036854775808 gt 0", "-9223372036854775809 lt 0", "\u0661 eq 1", "1 + 1 eq 2", "INF gt 1", "2 add 2 eq 4"}},
		{`literal = "true" / "false" / "null"`,
			[]string{"true", "false", "true eq true", "userId eq null"},
			[]string{"True", "FALSE", "userId eq Null", "userId eq NULL", "nil eq userId", "undefined eq userId", "true()", "null()", "userId is null"}},
		{`value = function "(" value *( "," value ) ")", of strings`,
			[]string{"tolower(userId) eq 'a'", "toupper(userId) eq 'A'", "trim(userId) eq 'a'", "concat(userId,'a') eq 'b'", "tolower(toupper(trim(concat('a','b')))) eq 'ab'", "tolower ( userId ) eq 'a'", "tolower(null) eq null", "concat(null,null) eq null"},
			[]string{"ToLower(userId) eq 'a'", "TOUPPER(userId) eq 'a'", "tolower eq 'a'", "tolower() eq 'a'", "tolower(userId,'a') eq 'a'", "tolower(1) eq 'a'", "tolower(true) eq 'a'", "tolower(userId) eq 1", "tolower(userId", "tolower userId eq 'a'",
				"trim(groups) eq 'a'", "concat('a') eq 'a'", "concat('a','b','c') eq 'a'", "concat('a',1) eq 'a'", "concat('a',,'b') eq 'a'", "concat('a' 'b') eq 'a'", "tolower(userId)", "replace('a','b','c') eq 'a'", "tolower(userId eq 'a')"}},
		{`substring(s,start), substring(s,start,length)`,
			[]string{"substring(userId,1) eq 'a'", "substring(userId,1,2) eq 'a'", "substring(userId,length('a'),indexof('a','b')) eq 'a'", "substring(null,1) eq null", "substring('a',null) eq null", "substring('a',1,null) eq null"},
			[]string{"substring(userId) eq 'a'", "substring(userId,1,2,3) eq 'a'", "substring(userId,'1') eq 'a'", "substring(userId,1,'2') eq 'a'", "substring(1,1) eq 'a'", "substring(userId,1) eq 1", "substringof('a',userId)"}},
		{`startswith(s,p), endswith(s,p), contains(s,p)`,
			[]string{"startswith(userId,'a')", "endswith(userId,'a')", "contains(userId,'a')", "contains(userId,'a') eq true", "not contains(userId,'a')", "startswith(null,'a')", "contains('a',null)", "endswith(tolower(userId),connectionId)"},
			[]string{"startsWith(userId,'a')", "EndsWith(userId,'a')", "startswith(userId)", "endswith(userId,'a','b')", "contains(userId,1)", "contains(true,'a')", "contains(userId,'a') eq 'a'", "contains(userId,'a') gt 0", "matches(userId,'a')"}},
		{`length(s), indexof(s,p)`,
			[]string{"length(userId) eq 1", "length(null) eq null", "indexof(userId,'a') ge 0", "indexof(null,null) eq -1", "length(userId) in (1,2)"},
			[]string{"length(userId)", "length(userId) eq '1'", "length(1) eq 1", "length(groups) eq 1", "length(userId,'a') eq 1", "indexof(userId) eq 1", "indexof(userId,1) eq 1", "indexOf(userId,'a') eq 1", "length(userId) in groups", "count(userId) eq 1"}},
		{`value = "(" expr ")"`,
			[]string{"((true))", "(true or false) and true", "(userId) eq ('a')", "(1) lt (2)", "(null) eq (userId)", "tolower((userId)) eq 'a'", "contains((userId),('a'))"},
			[]string{"(", ")", "()", "(true", "true)", ")true(", "(true))", "(true,false)", "(userId", "[true]", "{true}", "(true)(true)", "(userId eq) 'a'"}},
	} {
		for _, text := range test.accepts {
			if _, err := filter.Parse(text); err != nil {
				t.Errorf("%s: %q: got %v, want it accepted", test.production, text, err)
			}
		}
		for _, text := range test.refuses {
			_, err := filter.Parse(text)
			if err == nil || !strings.HasPrefix(err.Error(), "filter is wrong at character ") {
				t.Errorf("%s: %q: got %v, want it refused, and to hear where", test.production, text, err)
			}
		}
	}
}
