package redislog

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
)

// checkEvery is how often a process that uses a log looks after it.
const checkEvery = 15 * time.Second

// alarmAt is the part of a bound that unconfirmed entries may reach without an alarm.
const alarmAt = 0.75

type metrics struct {
	appended *prometheus.CounterVec
	consumed *prometheus.CounterVec
	unread   *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	return &metrics{
		appended: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "messagelog_appended_total", Help: "Entries that were to be appended, by whether they are stored or failed.",
		}, []string{"result"}),
		consumed: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "messagelog_consumed_total", Help: "Entries that this process has confirmed.",
		}, []string{"log"}),
		unread: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "messagelog_unread_entries", Help: "Entries that a consumer group has not confirmed.",
		}, []string{"log", "consumer"}),
		oldest: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "messagelog_oldest_unread_seconds", Help: "Age of the oldest entry that a consumer group has not confirmed.",
		}, []string{"log", "consumer"}),
	}
}

// checks remembers when each log is to be checked next, and for which consumer groups an alarm has been logged.
type checks struct {
	mu      sync.Mutex // guards the following
	next    map[string]time.Time
	alarmed map[string]bool
}

func (c *checks) init() {
	c.next, c.alarmed = map[string]time.Time{}, map[string]bool{}
}

func (c *checks) due(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.next[name]) {
		return false
	}
	c.next[name] = now.Add(checkEvery)
	return true
}

// changed records whether there is reason for an alarm, and reports whether that has changed.
func (c *checks) changed(key string, alarm bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarmed[key] == alarm {
		return false
	}
	c.alarmed[key] = alarm
	return true
}

// check drops what is too old and looks how far behind consumers are. Those who append do it as well as those who
// consume, since an alarm matters most when nobody consumes. What fails is done next time.
func (l *Log) check(ctx context.Context, name string) {
	groups, err := l.client.XInfoGroups(ctx, l.stream(name)).Result()
	if err != nil {
		return
	}
	for _, g := range groups {
		l.checkGroup(ctx, name, g)
	}
	before := time.Now().Add(-l.options.MaxAge).UnixMilli()
	_ = l.client.XTrimMinIDApprox(ctx, l.stream(name), strconv.FormatInt(before, 10), 0).Err()
}

func (l *Log) checkGroup(ctx context.Context, name string, g redis.XInfoGroup) {
	unread, oldest, err := l.unread(ctx, l.stream(name), g)
	if err != nil {
		return
	}
	l.metrics.unread.WithLabelValues(name, g.Name).Set(float64(unread))
	l.metrics.oldest.WithLabelValues(name, g.Name).Set(oldest.Seconds())
	alarm := float64(unread) >= alarmAt*float64(l.options.MaxLen) || float64(oldest) >= alarmAt*float64(l.options.MaxAge)
	if !l.checks.changed(name+"/"+g.Name, alarm) {
		return
	}
	log := l.options.Logger.With("log", name, "consumer", g.Name, "unread", unread, "oldest", oldest.Round(time.Second))
	if alarm {
		log.Error("message log is about to drop entries that have not been consumed")
	} else {
		log.Info("message log is being consumed again")
	}
}

// unread returns how many entries the group has not confirmed, and the age of the oldest.
func (l *Log) unread(ctx context.Context, stream string, g redis.XInfoGroup) (n int64, oldest time.Duration, err error) {
	if n = g.Lag; n < 0 { // Redis cannot tell; it is at most this
		if n, err = l.client.XLen(ctx, stream).Result(); err != nil {
			return 0, 0, err
		}
	}
	n += g.Pending
	if n == 0 {
		return 0, 0, nil
	}
	id, err := l.oldestUnread(ctx, stream, g)
	if err != nil || id == "" {
		return n, 0, err
	}
	milliseconds, _, _ := strings.Cut(id, "-")
	at, err := strconv.ParseInt(milliseconds, 10, 64)
	return n, max(0, time.Since(time.UnixMilli(at))), err
}

// oldestUnread returns the id of the oldest entry that the group has not confirmed, or "".
func (l *Log) oldestUnread(ctx context.Context, stream string, g redis.XInfoGroup) (string, error) {
	if g.Pending > 0 {
		pending, err := l.client.XPending(ctx, stream, g.Name).Result()
		if err != nil {
			return "", err
		}
		return pending.Lower, nil
	}
	next, err := l.client.XRangeN(ctx, stream, "("+g.LastDeliveredID, "+", 1).Result()
	if err != nil || len(next) == 0 {
		return "", err
	}
	return next[0].ID, nil
}
