package rest

import (
	"context"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/rules"
)

type memberInfo struct {
	UserID   string `json:"userId"`
	RoleName string `json:"roleName"`
	Tag      string `json:"etag"`
}

func memberOf(m chat.Member) memberInfo { return memberInfo{m.UserID, m.Role, m.Tag()} }

func (d *Door) members(ctx context.Context, q *request) (answer, error) {
	room, err := d.Rules.Room(ctx, q.path.Get("roomId"))
	if err != nil {
		return answer{}, err
	}
	var all []memberInfo
	for _, m := range room.Members {
		all = append(all, memberOf(m))
	}
	slices.SortFunc(all, func(a, b memberInfo) int { return strings.Compare(a.UserID, b.UserID) })
	page, err := pageOf(q, all, func(m memberInfo) string { return m.UserID })
	return answer{body: page}, err
}

func (d *Door) putMember(ctx context.Context, q *request) (answer, error) {
	var in struct {
		RoleName string `json:"roleName"`
	}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	room, err := d.Rules.Room(ctx, q.path.Get("roomId"))
	if err != nil {
		return answer{}, err
	}
	userID := q.path.Get("userId")
	added, err := d.Rules.PutMember(ctx, room, userID, in.RoleName, q.condition())
	if err != nil {
		return answer{}, err
	}
	d.Effects.Follow(ctx, []string{room.ID}, []string{userID})
	m := chat.Member{UserID: userID, Role: in.RoleName}
	return answerOf(added, memberOf(m), m.Tag()), nil
}

func (d *Door) deleteMember(ctx context.Context, q *request) (answer, error) {
	room, err := d.Rules.Room(ctx, q.path.Get("roomId"))
	if err != nil {
		return answer{}, err
	}
	userID := q.path.Get("userId")
	err = d.Rules.RemoveMember(ctx, room, userID, q.condition())
	if rules.IsSoAlready(err) || err == nil {
		d.Effects.Follow(ctx, []string{room.ID}, []string{userID})
	}
	return answer{}, err
}
