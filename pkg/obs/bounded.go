package obs

import (
	"context"
	"log/slog"

	"github.com/chatr-dev/chatr/pkg/ratelimit"
)

// Bounded returns a logger that passes each message on once a second, on average, with bursts of 20: for what fails, or is
// done wrong, as often as clients like. Messages are constant texts, so there are few.
func Bounded(l *slog.Logger) *slog.Logger {
	return slog.New(&bounded{l.Handler(), ratelimit.New(1, 20)})
}

type bounded struct {
	slog.Handler
	passed *ratelimit.Limiter
}

func (b *bounded) Handle(ctx context.Context, r slog.Record) error {
	if ok, _ := b.passed.Allow(r.Message); !ok {
		return nil
	}
	return b.Handler.Handle(ctx, r)
}

func (b *bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &bounded{b.Handler.WithAttrs(attrs), b.passed}
}

func (b *bounded) WithGroup(name string) slog.Handler {
	return &bounded{b.Handler.WithGroup(name), b.passed}
}
