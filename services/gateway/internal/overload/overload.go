// Package overload keeps a node from being killed when more comes than it has memory or file descriptors for: it lets nobody in any
// more, and if that is not enough ends connections, some at a time, those first that hold most.
package overload

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/memlimit"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// Reasons why a node lets nobody in.
const (
	ReasonMemory      = "memory"      // nearly as much is in use as it may have
	ReasonDescriptors = "descriptors" // nearly as many files and sockets are open as it may have
)

const (
	lookInterval  = 50 * time.Millisecond  // while much is in use, or many come
	idleInterval  = time.Second            // at other times
	freeInterval  = 5 * time.Second        // between attempts to give memory back to the kernel
	shedInterval  = 250 * time.Millisecond // between connections that are ended, some at a time
	acceptPause   = 200 * time.Microsecond // between clients that are only to be refused
	newcomerBytes = 32 << 10               // what a newcomer takes until it is seen in what is in use
	holdsMuch     = 64 << 10               // bytes for which a connection is ended before others
)

// Deps is what a Guard works with.
type Deps struct {
	Conns   *hub.Registry
	Limit   *memlimit.Limit // nil: there is none
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Guard watches what a node uses. Its methods are safe for concurrent use.
type Guard struct {
	Deps
	refused *prometheus.CounterVec

	used      atomic.Int64 // when it was looked at last, bytes
	newcomers atomic.Int64 // that have come since
	files     atomic.Int64 // open, when it was looked at last
	maxFiles  int64        // may be open; 0: unknown
	full      atomic.Pointer[string]

	looking  sync.Mutex // held while looking; guards the following
	lastLook time.Time
	lastFree time.Time

	lastShed time.Time // of Run's goroutine
}

// New returns a guard, which watches while Run does.
func New(d Deps) *Guard {
	g := &Guard{Deps: d, maxFiles: mostFiles()}
	g.files.Store(openFiles())
	g.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_newcomers_refused_total", Help: "Handshakes that were refused since the node has nearly as much memory, or as many file descriptors, in use as it may."}, []string{"reason"})
	limit := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_memory_limit_bytes", Help: "Memory that the node may use before the kernel kills it; 0: no limit is known."})
	if d.Limit != nil {
		limit.Set(float64(d.Limit.Bytes()))
	}
	d.Metrics.MustRegister(g.refused, limit, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_memory_used_bytes", Help: "Memory of that limit that is in use, without cached files; 0: no limit is known."},
		func() float64 { return float64(g.used.Load()) }))
	return g
}

// Run watches until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.tick(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// tick looks when something may have changed, and ends connections if it must be.
func (g *Guard) tick(ctx context.Context) {
	g.looking.Lock()
	idle := g.full.Load() == nil && g.newcomers.Load() == 0 && g.used.Load() < g.relaxed() && time.Since(g.lastLook) < idleInterval
	g.looking.Unlock()
	if idle {
		return
	}
	g.look()
	if g.Limit != nil && g.used.Load() > g.shedAt() {
		g.shed(ctx)
	}
}

// The marks of memory in use. The collector's own mark is below them (cmd/chatr), so that what is in use is not garbage.
func (g *Guard) refuseAt() int64 { return g.Limit.Bytes() - g.Limit.Reserve()*6/5 }
func (g *Guard) shedAt() int64   { return g.Limit.Bytes() - g.Limit.Reserve()*4/5 }
func (g *Guard) relaxed() int64 { // newcomers are let in again
	if g.Limit == nil {
		return 1
	}
	return g.refuseAt() - g.Limit.Reserve()/4
}

// look finds out what is in use, and whether newcomers are to be refused.
func (g *Guard) look() {
	g.looking.Lock()
	defer g.looking.Unlock()
	now := time.Now()
	if now.Sub(g.lastLook) < lookInterval/10 {
		return // somebody has just done it
	}
	g.lastLook = now
	g.newcomers.Store(0)
	reason := ""
	if g.Limit != nil {
		used, err := g.Limit.Used()
		if err == nil && used > g.refuseAt() && now.Sub(g.lastFree) > freeInterval {
			g.lastFree = now
			debug.FreeOSMemory()
			used, err = g.Limit.Used()
		}
		if err == nil {
			g.used.Store(used)
			mark := g.refuseAt()
			if was := g.full.Load(); was != nil && *was == ReasonMemory {
				mark = g.relaxed()
			}
			if used > mark {
				reason = ReasonMemory
			}
		}
	}
	if g.maxFiles > 0 {
		files := g.openFiles()
		g.files.Store(files)
		if files > g.refuseFilesAt() {
			reason = ReasonDescriptors
		}
	}
	g.say(reason)
}

// say changes why newcomers are refused, and logs it. The caller has looking.
func (g *Guard) say(reason string) {
	was := g.full.Load()
	switch {
	case reason == "" && was != nil:
		g.full.Store(nil)
		g.Log.Info("clients are let in again", "reason", *was, "used", g.used.Load())
	case reason != "" && (was == nil || *was != reason):
		g.full.Store(&reason)
		attributes := []any{"reason", reason, "connections", g.Conns.Len(), "files", g.files.Load(), "maxFiles", g.maxFiles}
		if g.Limit != nil {
			attributes = append(attributes, "used", g.used.Load(), "limit", g.Limit.Bytes())
		}
		g.Log.Warn("clients are refused until less is in use", attributes...)
	}
}

// Admit reports whether a newcomer may come in.
func (g *Guard) Admit() bool {
	if reason := g.full.Load(); reason != nil {
		g.refused.WithLabelValues(*reason).Inc()
		return false
	}
	return true
}

// Ready returns nil, or an *obs.NotReady that says why newcomers are refused.
func (g *Guard) Ready() error {
	reason := g.full.Load()
	if reason == nil {
		return nil
	}
	err := fmt.Errorf("%d of %d files and sockets that may be open are", g.files.Load(), g.maxFiles)
	if *reason == ReasonMemory {
		err = fmt.Errorf("%d of %d bytes of memory are in use", g.used.Load(), g.Limit.Bytes())
	}
	return &obs.NotReady{Reason: *reason, Err: err}
}

// arrived counts who has connected, before anything is known of it, and looks when so many have come that they could take what is left. It
// reports whether there is a file descriptor to answer with, beside those that the node needs for itself.
func (g *Guard) arrived() (room bool) {
	n := g.newcomers.Add(1)
	files := g.files.Load() + n
	if g.full.Load() == nil && (g.Limit != nil && g.used.Load()+n*newcomerBytes > g.refuseAt() || g.maxFiles > 0 && files > g.refuseFilesAt()) {
		g.look()
	}
	most := (g.refuseFilesAt() + g.maxFiles) / 2
	return g.maxFiles == 0 || files <= most || g.openFiles() <= most
}

// refuseFilesAt is the mark of open files and sockets: a twentieth is left for what the node needs itself, but 64 at least.
func (g *Guard) refuseFilesAt() int64 { return g.maxFiles - max(64, g.maxFiles/20) }

// shed ends connections that hold much, as many as it takes; when there are not enough, one in fifty of the others, at random: a reliable
// one may be recovered, by another node.
func (g *Guard) shed(ctx context.Context) {
	if time.Since(g.lastShed) < shedInterval {
		return
	}
	g.lastShed = time.Now()
	measuring, cancel := context.WithTimeout(ctx, shedInterval)
	defer cancel()
	excess := int(g.used.Load() - g.refuseAt())
	ended, freed := 0, 0
	all := g.Conns.Buffered(measuring)
	for _, held := range all {
		if freed >= excess || held.Bytes < holdsMuch && ended > len(all)/50 {
			break
		}
		closing := hub.ReasonOverload.Closing("The service has too much to hold; please reconnect.")
		if held.Bytes < holdsMuch {
			g.Conns.AskToReconnect(held.Conn, closing) // another node may have room for it
		} else {
			g.Conns.Close(held.Conn, closing)
		}
		ended, freed = ended+1, freed+held.Bytes+newcomerBytes
	}
	g.Log.Warn("connections are ended since too much memory is in use", "ended", ended, "held", freed, "used", g.used.Load(), "limit", g.Limit.Bytes())
}

// Listener returns l, which lets those who connect come in one after the other while they are only to be refused: each takes memory
// before it is heard. Those for whom no file descriptor can be spared are closed at once.
func (g *Guard) Listener(l net.Listener) net.Listener { return &listener{l, g} }

type listener struct {
	net.Listener
	guard *Guard
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.guard.arrived() {
			if l.guard.full.Load() != nil {
				time.Sleep(acceptPause)
			}
			return c, nil
		}
		_ = c.Close() // who waited to be answered would take the last descriptor
		l.guard.refused.WithLabelValues(ReasonDescriptors).Inc()
	}
}

// mostFiles is how many files and sockets may be open; 0 where that is not known.
func mostFiles() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || openFiles() == 0 {
		return 0
	}
	return int64(min(limit.Cur, 1<<40))
}

// openFiles is how many are open, or where the kernel does not say, and connections are not half of what may be open: how many those are.
func (g *Guard) openFiles() int64 {
	if said := saidFiles(); said > 0 {
		return said
	}
	if clients := int64(g.Conns.Len()) + g.newcomers.Load(); clients < g.maxFiles/2 {
		return clients
	}
	return listFiles()
}

// ownFiles is the folder that lists this process's open files and sockets.
const ownFiles = "/proc/self/fd"

// openFiles is how many are open; 0: this system does not say.
func openFiles() int64 {
	if said := saidFiles(); said > 0 {
		return said
	}
	return listFiles()
}

// saidFiles is the size of the folder that lists what is open: how much that is, from Linux 6.2 on, and 0 before.
func saidFiles() int64 {
	info, err := os.Stat(ownFiles)
	if err != nil {
		return 0
	}
	return info.Size()
}

// listFiles counts what is open, one after the other: eight milliseconds for ten thousand.
func listFiles() int64 {
	folder, err := os.Open(ownFiles)
	if err != nil {
		return 0
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return int64(len(names)) - 1 // but for the folder
}
