package chat

import "regexp"

var legacyID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// IsLegacyID reports whether id is one that a guest of the original Chatr may have: made by a browser, without the
// provider prefix that every signed-in user's id has, so that it can never name one of those.
func IsLegacyID(id string) bool { return legacyID.MatchString(id) }
