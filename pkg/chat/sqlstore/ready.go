package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// readyFor is how long what Ready has found counts: writing to see whether that can be done has its price. That it is
// ready counts only as long as nothing fails.
const readyFor = time.Second

// Ready returns nil, or a *chat.NotReady that says why the store cannot be used now. It reads and writes at most once a
// second.
func (s *Store) Ready(ctx context.Context) error {
	s.checking.Lock()
	defer s.checking.Unlock()
	failures := s.driver.failures()
	if time.Since(s.checkedAt) < readyFor && (s.checked != nil || failures == s.failures) {
		return s.checked
	}
	err := s.check(ctx)
	if ctx.Err() != nil {
		return err // says nothing to others
	}
	s.checkedAt, s.checked, s.failures = time.Now(), err, failures
	return err
}

func (s *Store) check(ctx context.Context) error {
	known, err := s.driver.known()
	if err != nil {
		return err
	}
	version, err := s.driver.schema(ctx)
	switch {
	case err != nil:
		return &chat.NotReady{Reason: s.reason(err), Err: fmt.Errorf("reach the chat store: %w", err)}
	case version < known:
		return &chat.NotReady{Reason: chat.ReasonSchema,
			Err: fmt.Errorf("the chat store has schema %d and needs %d; run chatr migrate", version, known)}
	case version > known && !s.driver.newerSchema():
		return &chat.NotReady{Reason: chat.ReasonSchema, Err: newerError(version, known)}
	}
	if err := s.driver.tryWrite(ctx, version); err != nil {
		return &chat.NotReady{Reason: s.reason(err), Err: fmt.Errorf("write to the chat store: %w", err)}
	}
	return nil
}

// reason says why a check has failed.
func (s *Store) reason(err error) string {
	switch reason := notReadyReason(err); {
	case reason != "":
		return reason
	case s.driver.said(err):
		return chat.ReasonFailing
	}
	return chat.ReasonUnreachable
}
