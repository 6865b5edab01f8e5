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

// Close waits for running calls and closes the connections.
func (s *Store) Close() error { return s.driver.close() }
