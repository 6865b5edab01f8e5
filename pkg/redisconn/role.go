package redisconn

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// A connection that is kept leads to the server that it was made to, also when that has become a replica since and another server is
// the master behind the same name. So what a server answers that cannot write throws away all connections to it, a new connection is
// to a master or none, and all are thrown away after some minutes in any case.

// How long a connection is used: some minutes, each another number, so that not all are made again at once.
const (
	lifetime       = 5 * time.Minute
	lifetimeJitter = 2 * time.Minute
)

// errReplica says that a new connection has led to a replica.
var errReplica = errors.New("the server is a replica, which takes no writes")

// refuseReplica fails if the server of a new connection is a replica. A server that may not be asked, as some managed ones, counts as a
// master.
func refuseReplica(ctx context.Context, conn *redis.Conn) error {
	role, err := conn.Do(ctx, "ROLE").Slice()
	if err == nil && len(role) > 0 && role[0] == "slave" {
		return errReplica
	}
	return nil
}

// lostRole reports whether err is the answer of a server that is of no use now: a replica, one that reads what it has on disk, or one that
// has lost its master.
func lostRole(err error) bool {
	var refusal redis.Error
	if err == nil || !errors.As(err, &refusal) {
		return false
	}
	text := refusal.Error()
	for _, word := range []string{"READONLY", "LOADING", "MASTERDOWN"} {
		if strings.HasPrefix(text, word+" ") || strings.Contains(text, "-"+word+" ") { // the latter within a script's error
			return true
		}
	}
	return false
}

// roleHook throws all connections of a client away when one of its commands is answered so (lostRole). Those that are in use are used to
// the end of their command.
type roleHook struct {
	lost atomic.Uint64 // how often that has happened
}

// DialHook implements redis.Hook.
func (h *roleHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled := h.lost.Load()
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &roleConn{Conn: conn, hook: h, dialled: dialled}, nil
	}
}

// ProcessHook implements redis.Hook.
func (h *roleHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if lostRole(err) {
			h.lost.Add(1)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *roleHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil {
			for _, cmd := range cmds {
				if lostRole(cmd.Err()) {
					h.lost.Add(1)
					break
				}
			}
		}
		return err
	}
}

// roleConn is a connection to a server. Before a client uses one that it has kept it asks for its SyscallConn, to see whether it is still
// open; one to a server that has lost its role since it was made says that it is not.
type roleConn struct {
	net.Conn
	hook    *roleHook
	dialled uint64 // of hook.lost
}

var errThrownAway = errors.New("the server of this connection has lost its role")

// SyscallConn implements syscall.Conn.
func (c *roleConn) SyscallConn() (syscall.RawConn, error) {
	if c.hook.lost.Load() != c.dialled {
		return nil, errThrownAway
	}
	if plain, ok := c.Conn.(syscall.Conn); ok {
		return plain.SyscallConn()
	}
	return unknown{}, nil
}

// unknown stands for the socket below TLS, at which nothing can be seen.
type unknown struct{}

func (unknown) Control(func(uintptr)) error    { return nil }
func (unknown) Read(func(uintptr) bool) error  { return nil }
func (unknown) Write(func(uintptr) bool) error { return nil }
