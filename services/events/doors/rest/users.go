package rest

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/rules"
)

type userInfo struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Nickname string `json:"nickname"`
	RoleName string `json:"roleName"`
	Tag      string `json:"etag"`
}

// human is the one kind of user there is.
const human = "Human"

func userOf(p chat.Profile) userInfo {
	return userInfo{human, p.User.ID, p.User.Name, p.Role, p.Tag()}
}

func (d *Door) user(ctx context.Context, q *request) (answer, error) {
	p, err := d.Rules.User(ctx, q.path.Get("userId"))
	return answer{body: userOf(p), tag: p.Tag()}, err
}

func (d *Door) putUser(ctx context.Context, q *request) (answer, error) {
	var in struct {
		Kind     string `json:"kind"`
		Nickname string `json:"nickname"`
		RoleName string `json:"roleName"`
	}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	if in.Kind != human {
		return answer{}, invalid("kind must be %s, not %.50q", human, in.Kind)
	}
	p, created, err := d.Rules.PutUser(ctx, q.path.Get("userId"), in.Nickname, in.RoleName, q.condition())
	return answerOf(created, userOf(p), p.Tag()), err
}

// deleteUser takes a user out of the chat: out of all rooms, and off the air.
func (d *Door) deleteUser(ctx context.Context, q *request) (answer, error) {
	id := q.path.Get("userId")
	rooms, err := d.Rules.RemoveUser(ctx, id, q.condition())
	if rules.IsSoAlready(err) || err == nil {
		d.Effects.Follow(ctx, rooms, []string{id})
	}
	return answer{}, err
}
