// Package chattest holds every chat.Store to one suite: what its interface documents, its errors, its tenants kept
// apart, and its promises under concurrent use by several processes.
package chattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// tenant is the one whose chat most tests look at.
const tenant = "tenant"

// Run tests a kind of store. database makes an empty migrated database and returns what opens it, each time as
// another process would; both end with the test they are given.
func Run(t *testing.T, database func(t *testing.T) (open func() chat.Store)) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"users", users},
		{"presence", presence},
		{"idleness", idleness},
		{"sweeping", sweeping},
		{"claiming", claiming},
		{"public rooms", publicRooms},
		{"private rooms", privateRooms},
		{"putting into rooms", puttingIntoRooms},
		{"chat users", chatUsers},
		{"direct rooms", directRooms},
		{"blocks", blocks},
		{"listing rooms", listing},
		{"messages", messages},
		{"batches", batches},
		{"batch sizes", batchSizes},
		{"history", history},
		{"ranges", ranges},
		{"reading", reading},
		{"roles", roles},
		{"rooms of applications", roomsOfApplications},
		{"topics", topics},
		{"profiles", profiles},
		{"edits", edits},
		{"persons", persons},
		{"own rooms", ownRooms},
		{"own rooms in pages", ownRoomsInPages},
		{"list changes", listChanges},
		{"list changes in pages", listChangesInPages},
		{"directory", directory},
		{"members in pages", membersInPages},
		{"message windows", messageWindows},
		{"events", events},
		{"events of topics", topicEvents},
		{"speaking", speaking},
		{"own words", ownWords},
		{"telling", telling},
		{"tellings", tellings},
		{"effects", effects},
		{"own effects", ownEffects},
		{"access", access},
		{"revisions", revisions},
		{"limits", limits},
		{"unknown ids", unknownIDs},
		{"foreign tenants", foreignTenants},
		{"strange input", strangeInput},
		{"invalid input", invalidInput},
		{"restart", restart},
		{"concurrent joins", concurrentJoins},
		{"concurrent messages", concurrentMessages},
		{"concurrent resends", concurrentResends},
		{"concurrent batches", concurrentBatches},
		{"concurrent direct rooms", concurrentDirectRooms},
		{"concurrent creation", concurrentCreation},
		{"concurrent adding", concurrentAdding},
		{"concurrent conditions", concurrentConditions},
		{"concurrent sweeps", concurrentSweeps},
		{"concurrent idleness", concurrentIdleness},
		{"concurrent disconnects", concurrentDisconnects},
		{"concurrent returns", concurrentReturns},
		{"concurrent limits", concurrentLimits},
		{"concurrent deletion", concurrentDeletion},
		{"concurrent everything", concurrentEverything},
		{"concurrent list changes", concurrentListChanges},
		{"concurrent events", concurrentEvents},
		{"concurrent effects", concurrentEffects},
		{"concurrent administration", concurrentAdministration},
		{"cancelled calls", cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			open := database(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test.run(&suite{T: t, ctx: ctx, open: open, store: open()})
		})
	}
}

// suite is what a test of the suite works with. Its methods fail the test unless they succeed.
type suite struct {
	*testing.T
	ctx   context.Context
	open  func() chat.Store
	store chat.Store
}

// users saves users whose names are their ids in upper case.
func (s *suite) users(ids ...string) {
	s.Helper()
	for _, id := range ids {
		s.must(s.store.SaveUser(s.ctx, tenant, chat.User{ID: id, Name: strings.ToUpper(id), Provider: "guest"}))
	}
}

// room creates a public room that the first user owns and the others join.
func (s *suite) room(id, owner string, others ...string) chat.Room {
	s.Helper()
	r, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: id, Title: "Room " + id, OwnerID: owner})
	s.must(err)
	for _, user := range others {
		_, err := s.store.Join(s.ctx, tenant, id, user)
		s.must(err)
	}
	return r
}

func (s *suite) direct(from, to string) chat.Room {
	s.Helper()
	r, _, err := s.store.DirectRoom(s.ctx, tenant, from, to)
	s.must(err)
	return r
}

func (s *suite) message(room, author, text, key string) chat.Message {
	s.Helper()
	m, _, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: author, Text: text, Key: key})
	s.must(err)
	return m
}

func (s *suite) connect(user string, connections ...string) {
	s.Helper()
	for _, id := range connections {
		_, err := s.store.Connect(s.ctx, tenant, chat.Connection{ID: id, UserID: user})
		s.must(err)
	}
}

func (s *suite) loadRoom(id string) chat.Room {
	s.Helper()
	r, err := s.store.Room(s.ctx, tenant, id)
	s.must(err)
	return r
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// wantError checks that got is the documented error and no other.
func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if want == nil && got != nil || !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func equalList[T comparable](t testing.TB, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// memberList says who is in a room and how: "ann joined, bob invited".
func memberList(r chat.Room) string {
	var list []string
	for _, m := range r.Members {
		list = append(list, m.UserID+" "+string(m.State))
	}
	return strings.Join(list, ", ")
}

func roomIDs(rooms []chat.Room) (ids []string) {
	for _, r := range rooms {
		ids = append(ids, r.ID)
	}
	return ids
}

func seqs(page []chat.Message) (all []int64) {
	for _, m := range page {
		all = append(all, m.Seq)
	}
	return all
}

// each calls f for 0 to n-1 at once and fails the test for what goes wrong.
func each(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%02d", prefix, i)
	}
	return ids
}

// muted returns the rooms in which a user may not speak.
func (s *suite) muted(user string) (rooms []string) {
	s.Helper()
	access, err := s.store.Access(s.ctx, tenant, user)
	s.must(err)
	for _, r := range access.Rooms {
		if !r.MaySpeak {
			rooms = append(rooms, r.RoomID)
		}
	}
	return rooms
}

// ever is a time that every stored one lies before; never is one before them all.
func ever() time.Time  { return time.Now().Add(time.Hour) }
func never() time.Time { return time.Now().Add(-time.Hour) }
