// Package drive carries out a load plan: it opens the connections, sends each message at its time, and records everything
// that comes back.
//
// Rates are open loop: the moment of each message is fixed beforehand, and latencies count from that moment, so a server that
// stalls cannot make the client send less. A connection costs one goroutine and a small buffer.
package drive

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Options are what a run needs beside its scenario.
type Options struct {
	Key     string           // signs the tokens of clients and of REST calls
	TLS     *tls.Config      // for https endpoints; the system's authorities otherwise
	Targets []measure.Target // whose use of processor and memory to watch
	Team    *Team            // the other processes that carry out the scenario; nil: there are none
	// Progress is called each second, and when the phase changes; may be nil.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Phase  string // connect, warm up, measure, settle
	Of     time.Duration
	Passed time.Duration
	Ready  int // connections that are in all their groups
	Wanted int
	Second result.Second

	Problem string // the most frequent error so far
}

const (
	tokenLife   = 24 * time.Hour
	restInWork  = 256              // REST calls under way at most
	connectWait = 30 * time.Second // longer than the ramp that connecting may take
	byeTime     = 2 * time.Second
	ackPeriod   = 500 * time.Millisecond // how long a reliable message may be unacknowledged
	recoverTime = 30 * time.Second       // after which a lost connection is given up (client-json.md section 8.1)
	quiet       = 300 * time.Millisecond // without a delivery: everything has arrived
	quietTimes  = 30                     // how many checks in a row must have seen no delivery
)

// run is one run. Fields without a guard are fixed before the first goroutine starts.
type run struct {
	scenario *scenario.Scenario
	plan     *scenario.Plan
	options  Options
	team     *Team
	share    scenario.Share
	id       truth.Run
	epoch    time.Time
	log      truth.Log
	ignored  truth.Log                    // of slow readers
	clients  []*client                    // of this process, in the plan's order
	rest     map[string]*dataplane.Client // by endpoint
	rooms    []string                     // ids of the chats, in chat journeys
	owners   []int32                      // of each stream, the client that sends it; -1-i: process i, by REST
	recorder measure.Recorder
	slots    chan struct{} // closed loop: messages that may be sent
	from     int64         // when the load begins

	allReady    chan struct{} // closed when every client has been ready once
	ready       atomic.Int64  // clients that have been
	ending      atomic.Bool
	connections atomic.Int64
	unanswered  atomic.Int64
	declined    atomic.Pointer[refusal] // the last handshake that the server did not want, by a 4xx
	totals      totals

	mu     sync.Mutex // guards the following
	errors map[string]int64
}

type totals struct {
	sent, unsent, bytes, connects, recoveries, repeated, errors, storms, churned atomic.Int64
	promptly, slowly                                                             atomic.Int64 // deliveries; to slow readers
	across, early                                                                atomic.Int64 // deliveries timed on two clocks; of these, arrived before they were due
}

func (t *totals) delivered() int64 { return t.promptly.Load() + t.slowly.Load() }

// Run carries out a scenario. It ends early, with the result so far, when ctx does. An error means that there was
// nothing to measure.
func Run(ctx context.Context, s *scenario.Scenario, o Options) (*result.Result, error) {
	plan, err := scenario.NewPlan(s)
	if err != nil {
		return nil, err
	}
	r := &run{
		scenario: s, plan: plan, options: o, team: o.Team, epoch: time.Now(), id: truth.NewRun(mathrand.Uint32()),
		allReady: make(chan struct{}), errors: map[string]int64{}, rest: map[string]*dataplane.Client{},
	}
	if s.Chat.Journeys {
		r.rooms = NewRooms(plan.Groups)
	}
	if t := o.Team; t != nil {
		r.share, r.id = t.Share, t.Run
		if s.Chat.Journeys {
			r.rooms = t.Rooms
		}
	}
	if r.options.TLS == nil {
		r.options.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	calls := &http.Client{
		Transport:     r.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is good for one path
	}
	for _, e := range s.Endpoints() {
		r.rest[e] = dataplane.New(e, o.Key, s.Hub, dataplane.Options{HTTP: calls, Retries: -1, Timeout: dialTime})
	}
	r.makeClients()
	if s.Chat.Journeys && r.share.Index == 0 {
		if err := r.openRooms(ctx); err != nil {
			return nil, fmt.Errorf("open the chats: %w", err)
		}
	}
	return newMeter(r).measure(ctx)
}

// codecs are those of the subprotocols.
var codecs = [...]protocol.Codec{scenario.JSON: protocol.JSON, scenario.Reliable: protocol.ReliableJSON, scenario.Simple: protocol.Simple,
	scenario.Protobuf: protocol.Protobuf, scenario.ReliableProtobuf: protocol.ReliableProtobuf}

func (r *run) makeClients() {
	endpoints := r.scenario.Endpoints()
	r.clients = make([]*client, 0, r.share.Count(len(r.plan.Clients)))
	transport := r.transport()
	for i, p := range r.plan.Clients {
		if !r.share.Has(i) {
			continue
		}
		c := &client{
			Client: p, run: r, index: i, seat: len(r.clients), userID: r.user(i), endpoint: endpoints[i%len(endpoints)],
			codec: codecs[p.Subprotocol], pending: map[uint64]pending{},
		}
		if r.scenario.Chat.Journeys {
			c.person = newPerson(c.endpoint, "Load "+c.userID, transport)
		}
		log := &r.log
		if p.Slow {
			log = &r.ignored
		}
		c.receiver = log.Receiver(c.userID)
		r.clients = append(r.clients, c)
	}
}

// own returns client i of the plan, or nil when another process has it.
func (r *run) own(i int) *client {
	if !r.share.Has(i) {
		return nil
	}
	return r.clients[r.share.Position(i)]
}

func (r *run) user(i int) string { return "user-" + strconv.Itoa(i) }

func (r *run) group(g int) string {
	if r.rooms != nil {
		return r.rooms[g]
	}
	return "group-" + strconv.Itoa(g)
}

// now is the time since the run began, in nanoseconds. The processes of a team count from the same moment.
func (r *run) now() int64 { return int64(time.Since(r.epoch)) }

func (r *run) record(seat int, k measure.Kind, ns int64) {
	r.recorder.Record(seat, k, time.Duration(ns))
}

// failed counts something that went wrong.
func (r *run) failed(what string) {
	r.totals.errors.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	const maxNames = 100
	if _, known := r.errors[what]; !known && len(r.errors) >= maxNames {
		what = "others"
	}
	r.errors[what]++
}

func (r *run) dialer(i int) *net.Dialer {
	d := &net.Dialer{}
	if list := r.scenario.Sources; len(list) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(list[i%len(list)])}
	}
	return d
}

// clientURL is what a client connects to.
func (r *run) clientURL(endpoint, userID string, groups []string) (string, error) {
	target := endpoint + "/client/hubs/" + r.scenario.Hub
	signed, err := token.Sign(r.options.Key, target, tokenLife, token.Options{
		Subject: userID, Groups: groups, Roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"},
	})
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return target + "?access_token=" + signed, nil
}

// stream makes a stream whose sender is a client; owner -1-i is process i, by REST. Every process makes every stream, so
// that all number them alike.
func (r *run) stream(owner int, sender, target string, o truth.StreamOptions) *truth.Stream {
	r.owners = append(r.owners, int32(owner))
	o.Elsewhere = r.processOf(owner) != r.share.Index
	return r.log.Stream(sender, target, o)
}

// processOf returns the index of the process that an owner of streams belongs to.
func (r *run) processOf(owner int) int {
	if owner < 0 {
		return -1 - owner
	}
	return r.share.Owner(owner)
}

// delivered records that a message of the run has arrived.
func (r *run) delivered(c *client, s truth.Stamp, now int64) {
	if c.Slow {
		r.totals.slowly.Add(1)
	} else {
		r.totals.promptly.Add(1)
	}
	c.receiver.Got(s.Stream, s.Number)
	kind := measure.OneWay
	if int(s.Stream) < len(r.owners) {
		switch owner := int(r.owners[s.Stream]); {
		case owner == c.index:
			kind = measure.RoundTrip
		case r.processOf(owner) != r.share.Index:
			r.totals.across.Add(1)
			if now < s.Due {
				r.totals.early.Add(1) // counted as no time at all
			}
		}
	}
	if !c.Slow {
		r.record(c.seat, kind, now-s.Due)
	}
}

// acked records the answer to a message.
func (r *run) acked(p pending, ok bool, now int64) {
	if ok {
		p.stream.Accepted(p.number, now)
	} else {
		p.stream.Refused(p.number)
	}
	r.release()
}

// giveUp records that a request will never be answered.
func (r *run) giveUp(p pending) {
	if p.stream != nil {
		r.release()
	}
}

// release lets the closed loop send another message.
func (r *run) release() {
	if r.slots != nil {
		r.slots <- struct{}{} // has room for all
	}
}

// markReady counts the client when it is ready for the first time.
func (r *run) markReady(c *client) {
	if c.hasBeenReady {
		return
	}
	c.hasBeenReady = true
	if r.ready.Add(1) == int64(len(r.clients)) {
		close(r.allReady)
	}
}

// sleep waits for d or until ctx ends.
func (r *run) sleep(ctx context.Context, d time.Duration) {
	_ = backoff.Sleep(ctx, d)
}

// connect starts the clients over the ramp.
func (r *run) connect(ctx context.Context, living *sync.WaitGroup) {
	for _, c := range r.clients {
		due := time.Duration(int64(r.scenario.Ramp) * int64(c.index) / int64(len(r.plan.Clients)))
		r.sleep(ctx, due-time.Since(r.epoch))
		if ctx.Err() != nil {
			return
		}
		living.Go(func() { c.stayConnected(ctx) })
	}
}

// action does something of the plan, due at the given moment. It is nil when another process does it.
type action func(due int64)

// lookahead is how far a process goes through the plan ahead of time to find what is its own.
const lookahead = 10 * time.Millisecond

// at calls next rate times a second until ctx ends, and does each action that it returns at the moment when it is due.
func (r *run) at(ctx context.Context, rate int, next func() action) {
	for k := int64(0); ctx.Err() == nil; k++ {
		due := r.from + int64(float64(k)*1e9/float64(rate))
		do := next()
		if do == nil {
			r.sleep(ctx, time.Duration(due-r.now())-lookahead)
			continue
		}
		r.sleep(ctx, time.Duration(due-r.now()))
		if ctx.Err() != nil {
			return
		}
		r.record(int(k), measure.Late, r.now()-due)
		do(due)
	}
}

// activities returns what is to be done while measuring. Streams are made here, before anything is sent. Each process of a
// team draws the whole plan and does its own part.
func (r *run) activities() (all []func(ctx context.Context)) {
	s := r.scenario
	add := func(rate int, next func() action) {
		all = append(all, func(ctx context.Context) { r.at(ctx, rate, next) })
	}
	if s.Publish.Window > 0 {
		publishers := r.plan.Publishers()
		next := r.publishing(publishers)
		window := r.share.Window(s.Publish.Window, publishers)
		r.slots = make(chan struct{}, window)
		for range window {
			r.slots <- struct{}{}
		}
		if window > 0 {
			all = append(all, func(ctx context.Context) { r.closedLoop(ctx, next) })
		}
	}
	if s.Publish.Rate > 0 {
		next := r.publishing(r.plan.Publishers())
		add(s.Publish.Rate, func() action {
			publish := next()
			if publish == nil {
				return nil
			}
			return func(due int64) { publish(due) }
		})
	}
	if s.REST.GroupRate > 0 {
		add(s.REST.GroupRate, r.restGroups())
	}
	if s.REST.UserRate > 0 {
		add(s.REST.UserRate, r.restUsers())
	}
	if s.Churn.Rate > 0 {
		add(s.Churn.Rate, r.churning())
	}
	if s.Event.Rate > 0 {
		add(s.Event.Rate, r.events())
	}
	if s.Chat.IdleRate > 0 {
		draw := r.plan.Draw(scenario.DrawIdle)
		add(s.Chat.IdleRate, func() action {
			c := r.own(draw.IntN(len(r.plan.Clients)))
			if c == nil {
				return nil
			}
			return func(due int64) { r.sentOrNot(c.toggleIdle(due)) }
		})
	}
	if s.Storm.Every > 0 {
		all = append(all, r.storms)
	}
	return all
}

// publishing returns a function that takes the next message of the plan and returns how to publish it, which reports
// whether that could be done; nil when another process does it.
func (r *run) publishing(publishers []scenario.Publisher) func() func(due int64) bool {
	streams := make([]*truth.Stream, len(publishers))
	groups := make([]string, r.plan.Groups)
	for g := range groups {
		groups[g] = r.group(g)
	}
	for i, p := range publishers {
		// Whoever is cut off and comes back as a new connection may be overtaken by what the service still reads from the old one.
		reliable := codecs[r.plan.Clients[p.Client].Subprotocol].Reliable()
		o := truth.StreamOptions{Unordered: r.scenario.Storm.Every > 0 && !reliable}
		if c := r.own(p.Client); c != nil && r.scenario.Publish.NoEcho {
			o.Skip = c.receiver
		}
		streams[i] = r.stream(p.Client, r.user(p.Client), groups[p.Group], o)
	}
	draw, size := r.plan.Draw(scenario.DrawPublish), r.plan.Sizes()
	return func() func(due int64) bool {
		if len(publishers) == 0 {
			if r.share.Index > 0 {
				return nil
			}
			return func(int64) bool { r.sentOrNot(false); return false }
		}
		i, n := draw.IntN(len(publishers)), size()
		c := r.own(publishers[i].Client)
		if c == nil {
			return nil
		}
		return func(due int64) bool {
			sent := c.publish(streams[i], due, n)
			r.sentOrNot(sent)
			return sent
		}
	}
}

func (r *run) sentOrNot(sent bool) {
	if sent {
		r.totals.sent.Add(1)
	} else {
		r.totals.unsent.Add(1)
	}
}

// closedLoop sends whenever a message has been answered.
func (r *run) closedLoop(ctx context.Context, next func() func(due int64) bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.slots:
		}
		publish := next()
		for publish == nil { // there is one of this process, else it would have no window
			publish = next()
		}
		if !publish(r.now()) {
			r.slots <- struct{}{}
			r.sleep(ctx, time.Millisecond) // nobody is there to publish
		}
	}
}

// restGroups returns a function that sends to a group by REST. The processes of a team take turns, with a stream each.
func (r *run) restGroups() func() action {
	of := max(r.share.Of, 1)
	streams := make([]*truth.Stream, r.plan.Groups*of)
	for i := range streams {
		streams[i] = r.stream(-1-i%of, "REST", r.group(i/of), truth.StreamOptions{Unordered: true})
	}
	draw, sender := r.plan.Draw(scenario.DrawREST), -1
	pick := func() (*truth.Stream, bool) {
		sender = (sender + 1) % of
		return streams[draw.IntN(r.plan.Groups)*of+sender], sender == r.share.Index
	}
	return r.calling(pick, func(ctx context.Context, c *dataplane.Client, target string, d webpubsub.Data) error {
		return c.SendToGroup(ctx, target, d)
	})
}

// restUsers returns a function that sends to a user by REST. A user is connected from the start to the end. In a team, the
// next process sends, so that these messages also go from one process to another.
func (r *run) restUsers() func() action {
	streams := make([]*truth.Stream, len(r.plan.Clients))
	for i := range streams {
		streams[i] = r.stream(-1-r.share.Owner(i+1), "REST", r.user(i), truth.StreamOptions{Unordered: true})
	}
	draw := r.plan.Draw(scenario.DrawUsers)
	pick := func() (*truth.Stream, bool) {
		i := draw.IntN(len(streams))
		return streams[i], r.share.Has(i + 1)
	}
	return r.calling(pick, func(ctx context.Context, c *dataplane.Client, target string, d webpubsub.Data) error {
		return c.SendToUser(ctx, target, d)
	})
}

// calling returns a function that makes a REST call for a message of a picked stream, if it is this process's, without
// waiting for its answer unless very many are under way.
func (r *run) calling(pick func() (s *truth.Stream, own bool), call func(context.Context, *dataplane.Client, string, webpubsub.Data) error) func() action {
	endpoints := r.scenario.Endpoints()
	size := r.plan.Sizes()
	slots := make(chan struct{}, restInWork)
	calls := 0
	return func() action {
		s, own := pick()
		n := size()
		c := r.rest[endpoints[calls%len(endpoints)]]
		calls++
		if !own {
			return nil
		}
		return func(due int64) {
			slots <- struct{}{}
			number := s.Send(r.now())
			payload := r.id.Append(nil, truth.Stamp{Stream: s.ID, Number: number, Due: due}, n)
			r.totals.sent.Add(1)
			r.unanswered.Add(1)
			go func() {
				defer func() { <-slots; r.unanswered.Add(-1) }()
				err := call(context.Background(), c, s.Target, webpubsub.Data{Type: webpubsub.DataText, Bytes: payload})
				r.record(int(number), measure.REST, r.now()-due)
				if err == nil {
					s.Accepted(number, r.now())
					return
				}
				r.failed(restError(err))
			}()
		}
	}
}

func restError(err error) string {
	var answer *dataplane.Error
	if errors.As(err, &answer) {
		return fmt.Sprintf("REST: %d %s", answer.Status, answer.Code)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return "REST: " + op.Op + ": " + op.Err.Error()
	}
	return "REST: " + err.Error()
}

// churning returns a function that lets a member leave and join again.
func (r *run) churning() func() action {
	var members []scenario.Publisher
	for i, c := range r.plan.Clients {
		if c.Subprotocol == scenario.Simple {
			continue
		}
		for _, g := range c.Groups {
			members = append(members, scenario.Publisher{Client: i, Group: g})
		}
	}
	draw := r.plan.Draw(scenario.DrawChurn)
	return func() action {
		if len(members) == 0 {
			return nil
		}
		m := members[draw.IntN(len(members))]
		c := r.own(m.Client)
		if c == nil {
			return nil
		}
		return func(due int64) {
			if c.leave(r.group(m.Group), due) {
				r.totals.churned.Add(1)
			}
		}
	}
}

func (r *run) events() func() action {
	draw, size := r.plan.Draw(scenario.DrawEvents), r.plan.Sizes()
	var able []int
	for i, c := range r.plan.Clients {
		if c.Subprotocol != scenario.Simple && !c.Slow {
			able = append(able, i)
		}
	}
	return func() action {
		if len(able) == 0 {
			return nil
		}
		c, n := r.own(able[draw.IntN(len(able))]), size()
		if c == nil {
			return nil
		}
		return func(due int64) { r.sentOrNot(c.event(r.scenario.Event.Name, r.scenario.Event.Invoke, due, n)) }
	}
}

// storms cuts a share of the connections, again and again.
func (r *run) storms(ctx context.Context) {
	draw := r.plan.Draw(scenario.DrawStorm)
	for k := int64(1); ; k++ {
		r.sleep(ctx, time.Duration(r.from+k*int64(r.scenario.Storm.Every)-r.now()))
		if ctx.Err() != nil {
			return
		}
		if r.share.Index == 0 {
			r.totals.storms.Add(1) // the same one for all processes
		}
		n := max(len(r.plan.Clients)*r.scenario.Storm.Share/100, 1)
		for _, i := range draw.Perm(len(r.plan.Clients))[:n] {
			if c := r.own(i); c != nil {
				c.cut()
			}
		}
	}
}

// acknowledge lets reliable clients acknowledge the last messages, which are too few to cause an acknowledgement.
func (r *run) acknowledge(ctx context.Context) {
	for ctx.Err() == nil {
		r.sleep(ctx, ackPeriod)
		for _, c := range r.clients {
			if c.codec.Reliable() {
				c.acknowledge()
			}
		}
	}
}

// own is what this process uses.
func own() measure.Usage {
	u, _ := measure.ProcessUsage(os.Getpid()) // elsewhere than on Linux the memory is unknown
	u.CPU = measure.OwnCPU()
	return u
}
