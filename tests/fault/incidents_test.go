package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/topology"
)

// visit connects somebody who does not belong to the load, to a hub of the tenant that a host means; empty: that of the load. The
// connection ends with the test.
func (w *world) visit(n *node, host, hub, subprotocol string) *wsclient.Client {
	w.t.Helper()
	c, err := w.tryVisit(n, host, hub, subprotocol)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) tryVisit(n *node, host, hub, subprotocol string) (*wsclient.Client, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	address := strings.TrimPrefix(n.url, "http://")
	if host == "" {
		host = address
	}
	token, err := dataplane.New("http://"+host, topology.AccessKey, hub, dataplane.Options{}).
		ClientToken("visitor", time.Hour, []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}, nil)
	if err != nil {
		return nil, err
	}
	c, err := wsclient.Dial(ctx, "http://"+host+"/client/hubs/"+hub+"?access_token="+token, wsclient.Options{
		Subprotocols: []string{subprotocol},
		OnMessage:    func(wsclient.Message) { w.visited.Add(1) },
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}})
	if err == nil {
		w.t.Cleanup(c.Drop)
	}
	return c, err
}

// vanish takes a machine away: its processes, and every word that it would say about that.
func vanish(w *world) {
	n := w.nodes[2]
	w.stops(n)
	n.front.Hang(testkit.Gone)
	n.link.Hang(testkit.Gone)
	w.kill(n)
	w.wait(45 * time.Second)
	w.mends(n)
	n.front.Mend()
	n.link.Mend()
	w.start(n)
}

// resend loses a reliable connection's socket while its event is with the handler, and sends the event again: on the same gateway, and on
// another one.
func resend(w *world) {
	for i, n := range w.nodes[:2] {
		w.resend(uint64(4242+i), n)
	}
}

func (w *world) resend(ackID uint64, to *node) {
	var calls atomic.Int64
	release := make(chan struct{})
	w.hook.on(func(cloudevents.Event) {
		calls.Add(1)
		<-release
	})
	defer w.hook.on(nil)
	c := w.visit(w.nodes[0], "", hub, subprotocols[1])
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	send := func() error {
		r := &protocol.Request{Kind: protocol.SendEvent, Event: "held", AckID: ackID, HasAck: true}
		r.SetData(webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("held")})
		return c.Do(ctx, r)
	}
	lost := make(chan error, 1)
	go func() { lost <- send() }()
	w.await("the handler has the event", func() bool { return calls.Load() == 1 })
	c.Drop()
	<-lost
	var refused error
	recovered := func() bool {
		refused = c.RecoverAt(ctx, to.url+"/client/hubs/"+hub)
		return refused == nil
	}
	early := w.try(5*time.Second, recovered)
	w.mark("recovered on %s while the event was with the handler: %v (%v)", to.name, early, refused)
	if !early { // it may have to wait until the handler has answered
		close(release)
		if !w.try(20*time.Second, recovered) {
			w.wrong("on %s the connection could not be recovered: %v", to.name, refused)
			return
		}
	}
	again := make(chan error, 1)
	go func() { again <- send() }()
	if early {
		w.wait(w.lasting(3*time.Second, time.Second)) // in which a second call would come
		close(release)
	}
	err := <-again
	w.mark("the event that was sent again was answered with %v", err)
	if nack := (*wsclient.AckError)(nil); err != nil && (!errors.As(err, &nack) || nack.Name != "Duplicate") {
		w.wrong("on %s the event that was sent again was answered with %v", to.name, err)
	}
	w.wait(time.Second)
	if n := calls.Load(); n != 1 {
		w.wrong("on %s the handler ran %d times for one event", to.name, n)
	}
}

// handlerTime is how long the slow tenant's handler takes.
const handlerTime = 8 * time.Second

// slowTenant is a tenant whose handler is at the load's address.
func slowTenant(w *world) string {
	return "\n  - name: slow\n    hosts: [slow.test]\n    hubs:" + w.hook.hub("slow")
}

func slowHandler(w *world) {
	w.hook.on(func(cloudevents.Event) { time.Sleep(handlerTime) })
	const connections, rounds = 350, 2
	var busy sync.WaitGroup
	for i := range connections {
		c, err := w.tryVisit(w.nodes[i%gateways], "slow.test", "slow", subprotocols[0])
		if err != nil {
			w.wrong("connection %d of the slow tenant: %v", i, err)
			return
		}
		busy.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(w.t.Context(), 2*handlerTime)
				_ = c.SendEvent(ctx, "work", webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("work")}) // its own answers are not the point
				cancel()
			}
		})
	}
	w.wait(3 * time.Second)
	w.leave()
	busy.Wait()
}

// descriptors takes from a gateway what it would need to accept.
func descriptors(w *world) {
	n := w.nodes[2]
	pid := n.process.PID()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		w.t.Fatal(err)
	}
	prlimit := func(option string) string {
		out, err := exec.Command("prlimit", fmt.Sprintf("--pid=%d", pid), option, "--output=SOFT", "--noheadings").CombinedOutput()
		if err != nil {
			w.t.Fatalf("prlimit %s: %v\n%s", option, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	before := prlimit("--nofile")
	was := len(n.process.Log())
	prlimit(fmt.Sprintf("--nofile=%d:", len(open)+10))
	var conns []net.Conn
	for range 60 { // accepted as far as there are descriptors, the others wait
		if c, err := net.Dial("tcp", strings.TrimPrefix(n.process.URL, "http://")); err == nil {
			conns = append(conns, c)
		}
	}
	said := w.try(time.Minute, func() bool {
		log := strings.ToLower(n.process.Log()[was:])
		return strings.Contains(log, "open files") || strings.Contains(log, "descriptor")
	})
	if !said {
		w.wrong("the log does not say that there are no file descriptors left")
	}
	prlimit("--nofile=" + before + ":")
	for _, c := range conns {
		_ = c.Close()
	}
	w.wait(2 * time.Second)
}

// throttled sends more than a connection may, and goes away. What it had not been served with by then should not be.
func throttled(w *world) {
	const sent = 400
	listener, sender := w.visit(w.nodes[0], "", "throttled", subprotocols[0]), w.visit(w.nodes[1], "", "throttled", subprotocols[0])
	ctx := w.t.Context()
	if err := listener.Join(ctx, "room"); err != nil { // not the sender: what were written to it would show that it has gone
		w.t.Fatal(err)
	}
	for i := range sent {
		if err := sender.SendToGroup(ctx, "room", text("sender", i), wsclient.SendOptions{NoAck: true}); err != nil {
			break
		}
	}
	sender.Drop()
	w.wait(6 * time.Second)
	heard := w.visited.Load()
	w.mark("%d of %d messages of a connection that has gone were heard", heard, sent)
	if heard > sent/2 { // fifty at once and fifty a second: it would be three hundred
		w.wrong("%d messages of a connection that was limited were sent, most of them after it had gone", heard)
	}
}
