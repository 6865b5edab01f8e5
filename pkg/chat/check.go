package chat

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// CheckIDs returns ErrInvalid, with the reason, unless every id can be stored: 1 to MaxIDBytes bytes of text.
// Stores call it with what they are given.
func CheckIDs(ids ...string) error {
	for _, id := range ids {
		if id == "" {
			return fmt.Errorf("%w: an id is empty; it has 1 to %d bytes", ErrInvalid, MaxIDBytes)
		}
		if len(id) > MaxIDBytes {
			return fmt.Errorf("%w: an id has %d bytes; at most %d are allowed", ErrInvalid, len(id), MaxIDBytes)
		}
		if !isText(id) {
			return fmt.Errorf("%w: an id is not text (UTF-8 without NUL)", ErrInvalid)
		}
	}
	return nil
}

// CheckUser is CheckIDs for what SaveUser is given.
func CheckUser(u User) error {
	if err := CheckIDs(u.ID); err != nil {
		return err
	}
	if len(u.Provider) > MaxIDBytes || !isText(u.Provider) {
		return fmt.Errorf("%w: a provider is a text of at most %d bytes", ErrInvalid, MaxIDBytes)
	}
	return checkText("name", u.Name, MaxNameRunes)
}

// CheckUsers is CheckIDs for what AddUsers is given.
func CheckUsers(tenant string, users []User) error {
	if err := CheckIDs(tenant); err != nil {
		return err
	}
	for _, u := range users {
		if err := CheckUser(u); err != nil {
			return err
		}
	}
	return nil
}

// CheckRoom is CheckIDs for what CreateRoom is given.
func CheckRoom(r Room) error {
	if err := CheckIDs(r.ID, r.OwnerID); err != nil {
		return err
	}
	if hasReservedPrefix(r.ID) {
		return fmt.Errorf("%w: the id of a room may not start with %s or %s", ErrInvalid, DirectPrefix, topicPrefix)
	}
	for _, m := range r.Members {
		if err := CheckIDs(m.UserID); err != nil {
			return err
		}
	}
	if r.Kind == KindDirect || r.Kind != KindPrivate && len(r.Members) > 0 {
		return fmt.Errorf("%w: only a private room is created with members", ErrInvalid)
	}
	return checkText("title", r.Title, MaxTitleRunes)
}

// CheckPutRoom is CheckIDs for what PutRoom is given: a room, or a topic of one.
func CheckPutRoom(r Room) error {
	roomID, topicID := SplitTopic(r.ID)
	if topicID == "" {
		return CheckRoom(r)
	}
	if err := CheckIDs(r.ID); err != nil {
		return err
	}
	r.ID = roomID
	return CheckRoom(r)
}

// Founders returns the ids of the members that CreateRoom begins with, the owner first and each once.
func (r Room) Founders() []string {
	ids := []string{r.OwnerID}
	for _, m := range r.Members {
		if !slices.Contains(ids, m.UserID) {
			ids = append(ids, m.UserID)
		}
	}
	return ids
}

// CheckBatch is CheckIDs for what AddMessages is given. Messages that cannot be stored have their outcome by it.
func CheckBatch(tenant string, batch []Message) ([]Outcome, error) {
	if err := CheckIDs(tenant); err != nil {
		return nil, err
	}
	if len(batch) > MaxBatch {
		return nil, fmt.Errorf("%w: a batch has %d messages; at most %d are allowed", ErrInvalid, len(batch), MaxBatch)
	}
	outcomes := make([]Outcome, len(batch))
	for i, m := range batch {
		outcomes[i].Err = checkMessage(m)
	}
	return outcomes, nil
}

// CheckContent is CheckIDs for the content of what EditMessage is given.
func CheckContent(m Message) error {
	if n := len(m.Text); n == 0 || n > MaxTextBytes || base64.StdEncoding.DecodedLen(len(m.Binary)) > MaxTextBytes+2 {
		return fmt.Errorf("%w: a message has 1 to %d bytes of text and at most as many others", ErrInvalid, MaxTextBytes)
	}
	if !isText(m.Text) {
		return fmt.Errorf("%w: the text is not text (UTF-8 without NUL)", ErrInvalid)
	}
	if _, err := base64.StdEncoding.DecodeString(m.Binary); err != nil {
		return fmt.Errorf("%w: the binary is not base64", ErrInvalid)
	}
	return nil
}

func checkMessage(m Message) error {
	if err := CheckIDs(m.RoomID, m.AuthorID); err != nil {
		return err
	}
	if year := m.SentAt.UTC().Year(); year < 1 || year > 9999 {
		return fmt.Errorf("%w: a message is of the year %d; 1 to 9999 are allowed", ErrInvalid, year)
	}
	if m.Ref < 0 {
		return fmt.Errorf("%w: a message refers to the sequence %d; they count from 1", ErrInvalid, m.Ref)
	}
	if m.Connection != "" {
		if err := CheckIDs(m.Connection); err != nil {
			return err
		}
	}
	if len(m.Key) > MaxKeyBytes || !isText(m.Key) {
		return fmt.Errorf("%w: a message key is a text of at most %d bytes", ErrInvalid, MaxKeyBytes)
	}
	return CheckContent(m)
}

func checkText(what, s string, limit int) error {
	if n := utf8.RuneCountInString(s); n == 0 || n > limit {
		return fmt.Errorf("%w: the %s has %d characters; 1 to %d are allowed", ErrInvalid, what, n, limit)
	}
	if !isText(s) {
		return fmt.Errorf("%w: the %s is not text (UTF-8 without NUL)", ErrInvalid, what)
	}
	return nil
}

// isText says whether every store can hold s.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
