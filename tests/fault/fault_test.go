package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/tests/fault/facts"
)

// row is an incident.
type row struct {
	name  string
	what  string // happens, in a few words
	setup setup
	event func(w *world) // lets it happen, and returns when it is over
	chat  func(w *world) // instead of event: it happens to the chat's services
	want  want
	holds bool                             // today: so it is in make test, in its short form
	also  func(w *world, v *facts.Verdict) // says what else is wrong
}

// want is what a row may cost. Beyond that nothing is allowed: no message lost, doubled, swapped, no answer missing, disconnected
// told once and in time, nobody called offline who is there, no untrue readiness, and everybody and every gateway is back.
type want struct {
	plainEnds    int           // so many plain connections may end: those of a gateway that has died, or that has to let go
	reliableEnds int           // so many reliable ones, since Redis has lost what they would need
	told         time.Duration // for disconnected, when the application cannot be told earlier; else as the design says
	eventsWait   bool          // events may go unanswered: it is the application that hangs
}

// How many connections may end.
const (
	all       = 1 << 30
	ofGateway = clients / gateways / 2 // the plain ones of a gateway
)

// problems are what a row has cost beyond that.
func (r *row) problems(w *world, v *facts.Verdict) (found []string) {
	count := func(n int, what string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(v.Lost, "lost")
	count(v.Doubled, "doubled")
	count(v.Reordered, "reordered")
	count(v.Stray, "stray")
	count(v.Unanswered, "sends unanswered")
	if !r.want.eventsWait {
		count(v.EventsUnanswered, "events unanswered")
	}
	count(v.EventsAgain, "events handled again")
	if v.EndedPlain > r.want.plainEnds {
		count(v.EndedPlain, "plain connections ended")
	}
	if v.EndedReliable > r.want.reliableEnds {
		count(v.EndedReliable, "reliable connections ended")
	}
	count(len(v.NotBack), "clients not back")
	count(v.Untold, "disconnected missing")
	count(v.ToldLate, "disconnected late")
	count(v.ToldAgain, "disconnected again")
	count(v.FalseOff, "falsely offline")
	count(v.ReadyLies, "times ready and not able")
	count(v.ListsRefused, "lists refused because of a gateway that is gone")
	count(len(v.Unready), "gateways not ready again")
	if v.Acked == 0 {
		found = append(found, "nothing was acked")
	}
	if r.also != nil {
		r.also(w, v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(found, w.found...)
}

// run lets a row happen, and judges it.
func (r *row) run(t *testing.T, long bool) (*facts.Verdict, []string) {
	limits := facts.Limits{Answer: 10 * time.Second, Told: 15 * time.Second, Notice: 5 * time.Second}
	if r.want.told > 0 {
		limits.Told = r.want.told
	}
	if !long { // in make test a busy machine decides nothing
		limits = facts.Limits{Answer: time.Minute, Told: time.Minute, Notice: time.Minute, Linger: time.Minute}
	}
	var w *world
	var list []facts.Fact
	if r.chat != nil {
		w = newChat(t, long)
		w.mark("%s", r.what)
		r.chat(w)
		list = w.agree()
	} else {
		w = newWorld(t, long, r.setup)
		w.mark("%s", r.what)
		r.event(w)
		list = w.settle(limits.Told)
	}
	v := facts.Judge(list, limits)
	problems := r.problems(w, &v)
	for _, f := range list {
		if f.Kind == facts.Mark {
			t.Logf("%v %s", f.At.Round(time.Millisecond), f.Reason)
		}
	}
	w.keep(list, &v)
	return &v, problems
}

// keep writes down what has happened, for a row that fails.
func (w *world) keep(list []facts.Fact, v *facts.Verdict) {
	f, err := os.Create(filepath.Join(w.folder, "facts.json"))
	if err == nil {
		err = facts.Write(f, list)
		_ = f.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.folder, "examples.txt"), []byte(strings.Join(v.Examples, "\n")+"\n"), 0o600)
	}
	if err != nil {
		w.t.Error(err)
	}
}

const heading = `| incident | acked | nacked | no answer | lost (plain) | doubled | swapped | gap | ended plain, reliable | told | recovered | back p50, max | disconnected missing, late, again | falsely offline | untrue ready | |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|`

// line is a row of the table.
func line(name string, v *facts.Verdict, problems []string) string {
	back := "–"
	if len(v.Recovery) > 0 {
		back = fmt.Sprintf("%.1f s, %.1f s", v.P50().Seconds(), v.Max().Seconds())
	}
	verdict := "ok"
	if len(problems) > 0 {
		verdict = "**" + strings.Join(problems, ", ") + "**"
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d (%d) | %d | %d | %d | %d, %d | %d | %d | %s | %d, %d, %d | %d | %d | %s |", name, v.Acked, v.Nacked,
		v.Unanswered, v.Lost, v.LostPlain, v.Doubled, v.Reordered, v.Gap, v.EndedPlain, v.EndedReliable, v.ToldMissed, v.RecoveredConns, back,
		v.Untold, v.ToldLate, v.ToldAgain, v.FalseOff, v.ReadyLies, verdict)
}

// TestFaults lets the rows happen that FAULTS names, or all of them, as long as they were when they were measured first. Without FAULTS it is
// those that hold, in their short form. What happens at once is for -parallel.
func TestFaults(t *testing.T) {
	rows := slices.Concat(rows, chatRows)
	named := strings.Fields(os.Getenv("FAULTS"))
	var chosen []row
	for _, r := range rows {
		if len(named) == 0 && r.holds || slices.Contains(named, r.name) || slices.Contains(named, "all") {
			chosen = append(chosen, r)
		}
	}
	for _, name := range named {
		if name != "all" && !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			t.Errorf("FAULTS names %q, which is none of %s", name, names(rows))
		}
	}
	lines := make([]string, len(chosen))
	var mu sync.Mutex // guards standard output
	began := time.Now()
	t.Run("row", func(t *testing.T) {
		for i, r := range chosen {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				v, problems := r.run(t, len(named) > 0)
				lines[i] = line(r.name, v, problems)
				mu.Lock()
				fmt.Printf("%v %s\n", time.Since(began).Round(time.Second), lines[i])
				mu.Unlock()
				if len(problems) > 0 {
					t.Errorf("%s: %s\n%s", r.what, strings.Join(problems, ", "), strings.Join(v.Examples, "\n"))
				}
			})
		}
	})
	for i, r := range chosen {
		if lines[i] == "" {
			lines[i] = fmt.Sprintf("| %s | | | | | | | | | | | | | | | **it did not come to an end** |", r.name)
		}
	}
	fmt.Printf("\n%s\n%s\n\n%d rows in %v\n", heading, strings.Join(lines, "\n"), len(lines), time.Since(began).Round(time.Second))
}

func names(rows []row) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return strings.Join(all, " ")
}
