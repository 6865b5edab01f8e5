package wire

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// Errors that travel between nodes. webpubsub.ErrRuleLimit is one more.
var (
	// ErrNotFound says that no connection is meant.
	ErrNotFound = errors.New("no such connection")
	// ErrMoving says that a connection is on its way between two nodes; it can be asked for again.
	ErrMoving = hub.ErrHandoff
	// ErrUnavailable says that the bus cannot be reached now.
	ErrUnavailable = cluster.ErrUnavailable
)

// Status is the first byte of an answer; a text may follow. Its number is what travels.
type Status byte

// The statuses.
const (
	StatusOK Status = iota
	StatusNotFound
	StatusRuleLimit
	StatusUnavailable
	StatusFailed // with a text
	StatusMoving
)

// ReadStatus takes an answer apart.
func ReadStatus(b []byte) (s Status, text string) {
	if len(b) == 0 {
		return StatusFailed, "empty answer"
	}
	return Status(b[0]), string(b[1:])
}

// Err returns the error that the status stands for; nil for StatusOK.
func (s Status) Err(text string) error {
	switch s {
	case StatusOK:
		return nil
	case StatusNotFound:
		return ErrNotFound
	case StatusRuleLimit:
		return webpubsub.ErrRuleLimit
	case StatusUnavailable:
		return ErrUnavailable
	case StatusMoving:
		return ErrMoving
	}
	return errors.New(text)
}

// StatusOf returns the answer that stands for err, to which more may be appended.
func StatusOf(err error) []byte {
	switch {
	case err == nil:
		return []byte{byte(StatusOK)}
	case errors.Is(err, ErrNotFound), errors.Is(err, hub.ErrConnEnded):
		return []byte{byte(StatusNotFound)}
	case errors.Is(err, webpubsub.ErrRuleLimit):
		return []byte{byte(StatusRuleLimit)}
	case errors.Is(err, ErrUnavailable):
		return []byte{byte(StatusUnavailable)}
	case errors.Is(err, ErrMoving):
		return []byte{byte(StatusMoving)}
	}
	return append([]byte{byte(StatusFailed)}, err.Error()...)
}

// Outcome makes one error of several nodes' answers: nil when at least one did what was asked and none failed to,
// ErrNotFound when none has what was asked for.
func Outcome(answers [][]byte) error {
	err := ErrNotFound
	for _, b := range answers {
		switch status, text := ReadStatus(b); {
		case status == StatusOK && errors.Is(err, ErrNotFound):
			err = nil
		case status != StatusOK && status != StatusNotFound:
			err = status.Err(text)
		}
	}
	return err
}

// Unavailable makes one error of what a bus says when it cannot be reached in time.
func Unavailable(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrUnavailable
	}
	return err
}
