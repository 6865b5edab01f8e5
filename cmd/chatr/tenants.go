package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// reloadInterval is how often the files are looked at. Kubernetes swaps mounted files by links, which file
// notifications miss; a look costs one small read.
const reloadInterval = 2 * time.Second

// writeTime is how long files must stay the same before they are believed: editors write in several steps.
const writeTime = 200 * time.Millisecond

// fileTenants are the tenants that the file has, or one that has all hosts when it has none.
func (s *settings) fileTenants() []tenant.Tenant {
	if len(s.Tenants) == 0 {
		return []tenant.Tenant{{Name: s.Chat.Tenant, Hosts: []string{"*"}}}
	}
	return s.Tenants
}

// withKeys gives the process's keys to tenants that have none of their own.
func (s *settings) withKeys(tenants []tenant.Tenant) []tenant.Tenant {
	tenants = slices.Clone(tenants)
	for i := range tenants {
		if k := &tenants[i].Keys; k.Primary == "" && k.Secondary == "" {
			k.Primary, k.Secondary = s.AccessKey, s.AccessKeySecondary
		}
	}
	return tenants
}

// readKeys puts keys in the place of references to them. Sums of files are taken first: one that changes meanwhile is then
// read again.
func (s *settings) readKeys() {
	s.keyFiles, s.unreadKeys = map[string][sha256.Size]byte{}, map[int][]*tenant.Problem{}
	for i := range s.Tenants {
		k := &s.Tenants[i].Keys
		for _, one := range []struct {
			name string
			key  *string
		}{{"primary", &k.Primary}, {"secondary", &k.Secondary}, {"service", &k.Service}} {
			if file := tenant.KeyFile(*one.key); file != "" {
				s.keyFiles[file] = keyFileSum(file)
			}
			key, err := tenant.ReadKey(*one.key)
			if err != nil {
				path := fmt.Sprintf("tenants[%d].keys.%s", i, one.name)
				s.unreadKeys[i] = append(s.unreadKeys[i], &tenant.Problem{Path: path, Err: err})
				continue
			}
			*one.key = key
		}
	}
}

// keyFileSum is the sum of a file; zero when it cannot be read, which is its tenant's problem alone.
func keyFileSum(file string) (sum [sha256.Size]byte) {
	if b, err := os.ReadFile(file); err == nil {
		sum = sha256.Sum256(b)
	}
	return sum
}

// completed returns the tenants of the file with their keys.
func (s *settings) completed() []tenant.Tenant { return s.withKeys(s.fileTenants()) }

// withChatHub adds the chat's hub to the chat's tenant, or the events service at the given address and the history to what
// the file says about it, unless the file gives that hub handlers.
func (s *settings) withChatHub(tenants []tenant.Tenant, events string) []tenant.Tenant {
	for i := range tenants {
		t := &tenants[i]
		hub := t.Hub(s.Chat.Hub)
		if t.Name != s.Chat.Tenant || hub.Handlers != nil {
			continue
		}
		hub.Handlers = []tenant.Handler{{URL: events + "/eventhandler/{event}", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"},
			BeforePublish: tenant.BeforePublish{Enabled: true}}}
		if hub.MessagesPerSecond == 0 {
			hub.MessagesPerSecond = chatRate
		}
		if hub.Chat == "" {
			hub.Chat = events
		}
		if !slices.Contains(hub.Listeners, historyLog) {
			hub.Listeners = append(slices.Clone(hub.Listeners), historyLog)
		}
		others := slices.DeleteFunc(slices.Clone(t.Hubs), func(h tenant.Hub) bool { return strings.EqualFold(h.Name, hub.Name) })
		t.Hubs = append(others, hub)
	}
	return tenants
}

// warnOfUnaskedChat warns if the chat's hub has handlers of which none is asked before messages are published.
func (s *settings) warnOfUnaskedChat(tenants tenant.Source, log *slog.Logger) {
	t := tenants.ByName(s.Chat.Tenant)
	if t == nil {
		return
	}
	if hub := t.Hub(s.Chat.Hub); len(hub.Handlers) > 0 && !hub.AsksBeforePublish() {
		log.Warn("the chat's hub publishes what members send before the chat has seen it, so that they can say what others take for the chat's own words; "+
			"if it is the chat's, give it chat (the events service's address, as its handler has it), or a handler beforePublish.enabled: true",
			"tenant", t.Name, "hub", hub.Name)
	}
}

// chatRate is how many messages a second a page may send, unless the file says otherwise: more than people do, pasting
// and typing marks included, and few enough that one of them cannot keep the history busy.
const chatRate = 100

// historyLog is the message log that the chat's history is made from.
const historyLog = "history"

// tenantProblem is what is wrong with one tenant of the file.
type tenantProblem struct {
	name string // may be empty, and may be that of another
	at   string // where it stands in the file: tenants[2]
	err  error
}

// sortOut divides the tenants of the file into those that are right, without the keys that they do not have of their own,
// and what is wrong with the others.
func (s *settings) sortOut(loaded *config.Loaded) (right []tenant.Tenant, wrong []tenantProblem) {
	all := s.fileTenants()
	for i, problems := range tenant.CheckEach(s.withKeys(all)...) {
		at := fmt.Sprintf("tenants[%d]", i)
		var errs []error
		var unread []string // paths
		for _, p := range loaded.Wrong[at] {
			errs, unread = append(errs, p), append(unread, p.Path)
		}
		for _, p := range s.unreadKeys[i] {
			errs, unread = append(errs, located(loaded, p)), append(unread, p.Path)
		}
		for _, p := range problems {
			// What could not be read is missing, and is not reported for that as well.
			if slices.ContainsFunc(unread, func(path string) bool { return isWithin(path, p.Path) || isWithin(p.Path, path) }) {
				continue
			}
			errs = append(errs, located(loaded, p))
		}
		if len(errs) == 0 {
			right = append(right, all[i])
			continue
		}
		wrong = append(wrong, tenantProblem{all[i].Name, at, errors.Join(errs...)})
	}
	return right, wrong
}

// isWithin reports whether a setting is another, or stands in it.
func isWithin(path, other string) bool {
	rest, ok := strings.CutPrefix(path, other)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// located adds where the setting stands.
func located(loaded *config.Loaded, p *tenant.Problem) error {
	if place := loaded.Place(p.Path); place != "" {
		return fmt.Errorf("%s: %w", place, p)
	}
	return p
}

func joined(wrong []tenantProblem) error {
	var all []error
	for _, w := range wrong {
		all = append(all, w.err)
	}
	return errors.Join(all...)
}

// tenants are those in force, and what is needed to keep them at what the files say.
type tenants struct {
	*tenant.Static

	// prepare adds to settings what a process keeps itself; finish adds to tenants what it knows of them. Either may be nil.
	prepare func(*settings) error
	finish  func(*settings, []tenant.Tenant) []tenant.Tenant

	sums    map[string][sha256.Size]byte // of the files, as they were when they were last read; zero: it could not be read
	last    read
	inForce map[string]tenant.Tenant // by name, as the file had them
	stale   map[string]bool          // those in force that the file does not have so any more, by name
	wrong   []tenantProblem
}

// read is what the files said when they were last read without a mistake outside of tenants.
type read struct{ tenants, accessKey, nothing bool }

func newRead(s *settings, loaded *config.Loaded) read {
	return read{tenants: len(s.Tenants) > 0, accessKey: s.AccessKey != "" && loaded.Place("accessKey") != "", nothing: loaded.Empty}
}

// newTenants puts those tenants of the settings into force that are right. It is an error when none is.
func newTenants(s *settings, loaded *config.Loaded, prepare func(*settings) error, finish func(*settings, []tenant.Tenant) []tenant.Tenant) (*tenants, error) {
	t := &tenants{Static: new(tenant.Static), prepare: prepare, finish: finish, sums: s.sums(loaded)}
	right, wrong := s.sortOut(loaded)
	if len(right) == 0 {
		return nil, joined(wrong)
	}
	return t, t.use(s, loaded, right, nil, wrong)
}

// sums are those of all files that were read.
func (s *settings) sums(loaded *config.Loaded) map[string][sha256.Size]byte {
	all := maps.Clone(loaded.Sums)
	maps.Copy(all, s.keyFiles)
	return all
}

// use puts tenants into force: those that are right, and those kept as they were.
func (t *tenants) use(s *settings, loaded *config.Loaded, right, kept []tenant.Tenant, wrong []tenantProblem) error {
	list := slices.Concat(right, kept)
	complete := s.withKeys(list)
	if t.finish != nil {
		complete = t.finish(s, complete)
	}
	if err := t.Set(complete...); err != nil {
		return err
	}
	t.last, t.wrong = newRead(s, loaded), wrong
	t.inForce, t.stale = map[string]tenant.Tenant{}, map[string]bool{}
	for _, one := range list {
		t.inForce[one.Name] = one
	}
	for _, one := range kept {
		t.stale[one.Name] = true
	}
	return nil
}

// reload reads the settings anew. An error means that nothing has changed.
func (t *tenants) reload(args []string) error {
	s := &settings{}
	loaded, err := config.Load(s, "", config.Source{Args: args, Env: os.Environ()}, io.Discard)
	if loaded == nil {
		return err
	}
	if err := errors.Join(err, loaded.Validate(), s.checkRenamed(loaded)); err != nil {
		return err
	}
	s.readKeys()
	t.sums = s.sums(loaded)
	switch {
	case loaded.Empty && !t.last.nothing:
		return fmt.Errorf("the file is empty; to remove all tenants, so that tenant %s serves every host, write tenants: []", s.Chat.Tenant)
	case s.Tenants == nil && t.last.tenants:
		return fmt.Errorf("the file has no tenants any more; to remove all of them, so that tenant %s serves every host, write tenants: []", s.Chat.Tenant)
	case s.AccessKey == "" && t.last.accessKey:
		return errors.New("accessKey is gone; to change it, put another in its place")
	}
	if t.prepare != nil {
		if err := t.prepare(s); err != nil {
			return err
		}
	}
	right, wrong := s.sortOut(loaded)
	if len(right) == 0 {
		return joined(wrong)
	}
	return t.use(s, loaded, right, t.kept(right, wrong), wrong)
}

// kept are the tenants that stay in force as they were: while any is wrong, those that are not among the right ones.
// The one that is wrong may be any of them, since its name may be what is wrong; and a file that was cut off lacks those
// that came after. What a right one claims now, they give up.
func (t *tenants) kept(right []tenant.Tenant, wrong []tenantProblem) (list []tenant.Tenant) {
	if len(wrong) == 0 {
		return nil
	}
	names, hosts := map[string]bool{}, map[string]bool{}
	for _, r := range right {
		names[strings.ToLower(r.Name)] = true
		for _, host := range r.Hosts {
			hosts[strings.ToLower(strings.Trim(host, "[]"))] = true
		}
	}
	for _, old := range t.inForce {
		left := slices.DeleteFunc(slices.Clone(old.Hosts), func(host string) bool { return hosts[strings.ToLower(strings.Trim(host, "[]"))] })
		if !names[strings.ToLower(old.Name)] && len(left) > 0 {
			old.Hosts = left
			list = append(list, old)
		}
	}
	return list
}

// report logs each tenant that is wrong.
func (t *tenants) report(log *slog.Logger) {
	named := map[string]bool{}
	for _, w := range t.wrong {
		named[w.name] = true
		if t.stale[w.name] {
			log.Error("tenant is wrong in the file and stays as it was", "tenant", w.name, "at", w.at, "error", w.err)
		} else {
			log.Error("tenant is wrong in the file and is not loaded", "tenant", w.name, "at", w.at, "error", w.err)
		}
	}
	for name := range t.stale {
		if !named[name] {
			log.Warn("tenant is not in the file any more and stays as it was while another is wrong", "tenant", name)
		}
	}
}

// reloadMetrics say whether the files were read well, in the words of Prometheus' own.
type reloadMetrics struct {
	successful, timestamp prometheus.Gauge
}

func newReloadMetrics(reg prometheus.Registerer) *reloadMetrics {
	m := &reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chatr_config_last_reload_successful",
			Help: "1 when all of the settings' files was right when they were last read, 0 when something was wrong, of one tenant perhaps, and was left out."}),
		timestamp: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chatr_config_last_reload_success_timestamp_seconds",
			Help: "When the settings' files were last read and all was right, in seconds since 1970."}),
	}
	reg.MustRegister(m.successful, m.timestamp)
	return m
}

func (m *reloadMetrics) read(right bool) {
	if !right {
		m.successful.Set(0)
		return
	}
	m.successful.Set(1)
	m.timestamp.SetToCurrentTime()
}

// follow keeps tenants, and the keys of those without keys of their own, at what files say until ctx ends. What is wrong is
// logged once, and changes nothing: a tenant that is wrong concerns no other, a file that cannot be read or is empty
// concerns none.
func (t *tenants) follow(ctx context.Context, files, args []string, log *slog.Logger, m *reloadMetrics) error {
	t.report(log)
	m.read(len(t.wrong) == 0)
	if len(files) == 0 {
		<-ctx.Done()
		return nil
	}
	wasRight, unreadable := len(t.wrong) == 0, ""
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, err := stableSums(ctx, t.sums, files)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if unreadable != err.Error() {
				unreadable = err.Error()
				m.read(false)
				log.Error("a settings file cannot be read, what is loaded stays in force", "error", err)
			}
			continue
		case now == nil: // being written
			continue
		case maps.Equal(now, t.sums):
			if unreadable != "" {
				unreadable = ""
				m.read(wasRight)
				log.Info("the settings files can be read again, and say what they said", "files", files)
			}
			continue
		}
		t.sums, unreadable = now, "" // a reload that gets so far has the sums of what it read itself
		if err := t.reload(args); err != nil {
			wasRight = false
			m.read(false)
			log.Error("tenants not reloaded, the ones before stay in force", "files", files, "error", err)
			continue
		}
		wasRight = len(t.wrong) == 0
		m.read(wasRight)
		t.report(log)
		log.Info("tenants reloaded", "files", files, "tenants", len(t.inForce), "wrong", len(t.wrong))
	}
}

// stableSums are the sums of files that have stayed the same for a moment, nil while they change. Those that tenants' keys refer to
// need not be there.
func stableSums(ctx context.Context, known map[string][sha256.Size]byte, needed []string) (map[string][sha256.Size]byte, error) {
	first, err := sumsOf(known, needed)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(writeTime):
	}
	second, err := sumsOf(known, needed)
	if err != nil || !maps.Equal(first, second) {
		return nil, err
	}
	return first, nil
}

func sumsOf(known map[string][sha256.Size]byte, needed []string) (map[string][sha256.Size]byte, error) {
	sums := map[string][sha256.Size]byte{}
	for file := range known {
		sums[file] = keyFileSum(file)
	}
	for _, file := range needed {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		sums[file] = sha256.Sum256(b)
	}
	return sums, nil
}
