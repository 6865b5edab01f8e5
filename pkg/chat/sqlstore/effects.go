package sqlstore

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// effectStore is chat.Effects.
type effectStore struct{ driver }

const oweAgain = `ON CONFLICT (tenant, kind, room_id, user_id) DO UPDATE SET version = effects.version + 1, due_at = excluded.due_at, attempts = 0`

// owe notes that something has to be brought in line. What it is about is locked: the user, or the room.
func owe(t tx, tenant string, kind chat.EffectKind, roomID, userID string) {
	t.send(`
		INSERT INTO effects (tenant, kind, room_id, user_id, owed_at, due_at) VALUES ($1, $2, $3, $4, {now}, {now}) `+oweAgain,
		tenant, kind, roomID, userID)
}

func scanEffect(row rows) (e chat.Effect, err error) {
	return e, row.Scan(&e.Kind, &e.RoomID, &e.UserID, &e.Version, &e.OwedAt, &e.Attempts, &e.Lease)
}

const effectColumns = `kind, room_id, user_id, version, owed_at, attempts, lease`

// ClaimEffects claims effects that are due.
func (s effectStore) ClaimEffects(ctx context.Context, tenant string, limit int, ttl time.Duration) ([]chat.Effect, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	claimed, err := s.claim(ctx, tenant, ttl, max(0, min(limit, chat.MaxListed)), `true`)
	return claimed, annotate(err, "claim effects")
}

// ClaimEffectsOf claims effects of some rooms or users that are due.
func (s effectStore) ClaimEffectsOf(ctx context.Context, tenant string, roomIDs, userIDs []string, ttl time.Duration) ([]chat.Effect, error) {
	if err := chat.CheckIDs(append(append([]string{tenant}, roomIDs...), userIDs...)...); err != nil {
		return nil, err
	}
	claimed, err := s.claim(ctx, tenant, ttl, chat.MaxListed, `(room_id {any $3} OR user_id {any $4})`, roomIDs, userIDs)
	return claimed, annotate(err, "claim the effects of %d rooms and %d users", len(roomIDs), len(userIDs))
}

// MembersOwed returns the users whose connections are not in line with a room yet.
func (s effectStore) MembersOwed(ctx context.Context, tenant, roomID string) ([]string, error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return nil, err
	}
	users, err := collect(ctx, s, scanString, `SELECT user_id FROM effects WHERE tenant = $1 AND kind = $2 AND room_id = $3 ORDER BY user_id LIMIT $4`,
		tenant, chat.EffectMember, roomID, chat.MaxMembers)
	return users, annotate(err, "find who is owed something in room %q", roomID)
}

// claim claims those effects that meet a condition, which counts its arguments from $3.
func (s effectStore) claim(ctx context.Context, tenant string, ttl time.Duration, limit int, condition string, args ...any) (claimed []chat.Effect, err error) {
	err = s.write(ctx, func(t tx) error {
		due, err := collect(ctx, t, scanEffect, `
			SELECT `+effectColumns+` FROM effects
			WHERE tenant = $1 AND due_at <= {now} AND (leased_until IS NULL OR leased_until <= {now}) AND `+condition+`
			ORDER BY due_at LIMIT $2 {skip}`, append([]any{tenant, limit}, args...)...)
		if err != nil {
			return err
		}
		for i := range due {
			e := &due[i]
			e.Lease++
			t.send(`
				UPDATE effects SET lease = $5, leased_until = {now+$6}
				WHERE tenant = $1 AND kind = $2 AND room_id = $3 AND user_id = $4{lazy}`,
				tenant, e.Kind, e.RoomID, e.UserID, e.Lease, ttl.Microseconds())
		}
		claimed = due
		return nil
	})
	if err != nil {
		claimed = nil
	}
	return claimed, err
}

// checkEffect is chat.CheckIDs for an effect, which is of a room, a user or both.
func checkEffect(tenant string, e chat.Effect) error {
	ids := []string{tenant}
	for _, id := range []string{e.RoomID, e.UserID} {
		if id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 1 {
		ids = append(ids, "")
	}
	return chat.CheckIDs(ids...)
}

// EffectPaid ends what was claimed.
func (s effectStore) EffectPaid(ctx context.Context, tenant string, e chat.Effect) error {
	if err := checkEffect(tenant, e); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		t.send(`
			DELETE FROM effects
			WHERE tenant = $1 AND kind = $2 AND room_id = $3 AND user_id = $4 AND lease = $5 AND version = $6{lazy}`,
			tenant, e.Kind, e.RoomID, e.UserID, e.Lease, e.Version)
		t.send(`
			UPDATE effects SET leased_until = NULL
			WHERE tenant = $1 AND kind = $2 AND room_id = $3 AND user_id = $4 AND lease = $5`, // owed again meanwhile
			tenant, e.Kind, e.RoomID, e.UserID, e.Lease)
		return nil
	})
	return annotate(err, "note that effect %s of room %q and user %q is paid", e.Kind, e.RoomID, e.UserID)
}

// EffectFailed gives back what was claimed.
func (s effectStore) EffectFailed(ctx context.Context, tenant string, e chat.Effect, retryIn time.Duration) error {
	if err := checkEffect(tenant, e); err != nil {
		return err
	}
	_, err := s.exec(ctx, `
		UPDATE effects SET leased_until = NULL, attempts = attempts + 1,
			due_at = CASE version WHEN $6 THEN {now+$7} ELSE due_at END
		WHERE tenant = $1 AND kind = $2 AND room_id = $3 AND user_id = $4 AND lease = $5{lazy}`,
		tenant, e.Kind, e.RoomID, e.UserID, e.Lease, e.Version, retryIn.Microseconds())
	return annotate(err, "give back effect %s of room %q and user %q", e.Kind, e.RoomID, e.UserID)
}

// EffectsOwed says how many effects are owed, and since when.
func (s effectStore) EffectsOwed(ctx context.Context, tenant string) (n int, oldest time.Time, err error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return 0, oldest, err
	}
	var since *time.Time
	err = get(ctx, s, into{&n, &since}, `SELECT count(*), min(owed_at) FROM effects WHERE tenant = $1`, tenant)
	if since != nil {
		oldest = *since
	}
	return n, oldest, annotate(err, "count what is owed")
}
