package webpubsub

import "fmt"

// CheckGroupFilter reports what is wrong with a pattern of group names, in the grammar of pattern roles (auth.md
// section 4), or nil.
func CheckGroupFilter(filter string) error {
	if _, err := compilePattern(filter); err != nil {
		return fmt.Errorf("%.80q is no pattern of groups; use a name, or one with up to %d of ?, * and **, which also match full stops", filter, maxWildcards)
	}
	return nil
}

// MatchesGroupFilter reports whether a pattern of group names has a group. A wrong pattern has none.
func MatchesGroupFilter(filter, group string) bool {
	p, err := compilePattern(filter)
	return err == nil && p.match(group)
}
