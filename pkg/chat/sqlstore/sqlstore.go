// Package sqlstore keeps the chat in Postgres or in a file of SQLite, by the same statements.
//
// What differs between the two is behind the interface driver. A method that changes something locks what its rules
// depend on and does everything in one transaction, so that killing the process leaves all of it or nothing.
package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Store is a chat.Store. Its methods are in the parts.
type Store struct {
	userStore
	presenceStore
	roomStore
	memberStore
	messageStore
	eventStore
	effectStore
	roleStore
	profileStore
	appStore
	listStore

	driver driver

	checking  sync.Mutex // held while Ready looks
	checkedAt time.Time
	checked   error
	failures  int64 // of the driver by then
}

var _ chat.Store = (*Store)(nil)

func newStore(d driver) *Store {
	return &Store{
		userStore: userStore{d}, presenceStore: presenceStore{d}, roomStore: roomStore{d}, memberStore: memberStore{d},
		messageStore: messageStore{d}, eventStore: eventStore{d}, effectStore: effectStore{d}, roleStore: roleStore{d}, profileStore: profileStore{d}, appStore: appStore{d}, listStore: listStore{d},
		driver: d,
	}
}

// Migrate brings the schema up to date.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.driver.migrate(ctx)
	s.checking.Lock()
	defer s.checking.Unlock()
	s.checkedAt = time.Time{}
	return annotate(err, "migrate the chat store")
}

// restoredGap is more than a store can have given between the backup that has been put back and its end.
const restoredGap = 1 << 32

// Restored has everybody begin again, after a backup was put back, who knows the chat as it was later: all events and
// revisions that were given count as not kept any more, and those to come are above any that can have been given, so that
// none is given twice. Messages keep their numbers.
func (s *Store) Restored(ctx context.Context) error {
	err := s.driver.write(ctx, func(t tx) error {
		t.send(`UPDATE users SET list_revision = list_revision + $1, list_kept_after = list_revision + $1`, restoredGap)
		t.send(`
			UPDATE rooms SET last_event = last_event + $1, kept_after = last_event + $1, told_event = last_event + $1,
				untold = false, teller = NULL, teller_until = NULL`, restoredGap)
		return nil
	})
	return annotate(err, "have everybody begin again")
}

// Close waits for running calls and closes the connections.
func (s *Store) Close() error { return s.driver.close() }
