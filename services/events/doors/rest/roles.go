package rest

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/chat"
)

type roleInfo struct {
	Name        string            `json:"name"`
	Permissions []chat.Permission `json:"permissions"`
	Tag         string            `json:"etag"`
}

func roleOf(r chat.Role) roleInfo {
	return roleInfo{r.Name, append([]chat.Permission{}, r.Permissions...), r.Tag()}
}

func (d *Door) roles(ctx context.Context, q *request) (answer, error) {
	roles, err := d.Rules.Roles(ctx)
	if err != nil {
		return answer{}, err
	}
	all := make([]roleInfo, len(roles))
	for i, r := range roles {
		all[i] = roleOf(r)
	}
	page, err := pageOf(q, all, func(r roleInfo) string { return r.Name })
	return answer{body: page}, err
}

func (d *Door) role(ctx context.Context, q *request) (answer, error) {
	role, err := d.Rules.Role(ctx, q.path.Get("roleName"))
	return answer{body: roleOf(role), tag: role.Tag()}, err
}

func (d *Door) putRole(ctx context.Context, q *request) (answer, error) {
	var in struct {
		Permissions []chat.Permission `json:"permissions"`
	}
	if err := q.read(&in); err != nil {
		return answer{}, err
	}
	if in.Permissions == nil {
		return answer{}, invalid("permissions must be a list, which may be empty")
	}
	role := chat.Role{Name: q.path.Get("roleName"), Permissions: in.Permissions}
	created, err := d.Rules.PutRole(ctx, role, q.condition())
	return answerOf(created, roleOf(role), role.Tag()), err
}

func (d *Door) deleteRole(ctx context.Context, q *request) (answer, error) {
	return answer{}, d.Rules.DeleteRole(ctx, q.path.Get("roleName"), q.condition())
}
