package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/report"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/team"
	"github.com/chatr-dev/chatr/pkg/token"
)

// loadSettings are the flags of chatr load, and what a scenario's file may say.
type loadSettings struct {
	scenario.Scenario

	AccessKey        string   `secret:"true" help:"key that signs; empty: the one that standalone keeps in the data folder"`
	ConnectionString string   `secret:"true" help:"instead of endpoint and key: Endpoint=…;AccessKey=…"`
	Data             string   `default:"./data" help:"standalone's data folder"`
	Authority        string   `help:"file with a certificate to trust, for https endpoints with one of their own"`
	Watch            []string `help:"processes whose use of processor and memory to watch: PIDs, or URLs of Prometheus metrics, each perhaps with a name: gateway=4711"`
	Output           string   `help:"file for the result, as JSON; -: the standard output"`
	HTML             string   `help:"file for the result as a page that needs nothing but itself"`
	Workers          int      `min:"0" help:"coordinate this many workers (chatr load worker) instead of making load in this process"`
	Listen           string   `default:":7070" help:"address that workers reach, on a private network"`
	FailIf           []string `help:"conditions under which to end with status 1, such as lost>0,ack.p99>50ms"`
}

// reportSettings are the flags of chatr load report.
type reportSettings struct {
	Results []string `help:"files with results of chatr load; the first is what the others are compared with"`
	HTML    string   `default:"report.html" help:"file for the page"`
	FailIf  []string `help:"conditions on the last result under which to end with status 1"`
}

// workerSettings are the flags of chatr load worker.
type workerSettings struct {
	Coordinator string `default:"http://localhost:7070" help:"address of chatr load --workers"`
	AccessKey   string `secret:"true" help:"key that signs; empty: the one that standalone keeps in the data folder; chat journeys need none"`
	Data        string `default:"./data" help:"standalone's data folder"`
	Authority   string `help:"file with a certificate to trust, for https endpoints with one of their own"`
}

// loadIntro stands in the help of chatr load.
const loadIntro = `Each flag can also be set in the environment (--publish-rate is CHATR_PUBLISH_RATE) or in a scenario's
YAML file (publish: {rate: …}). Flags win over environment over file over default.

chatr load report --help: pages of kept results, side by side.
chatr load worker --help: a part of the load, for chatr load --workers.`

// runLoad is chatr load, chatr load report and chatr load worker.
func runLoad(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "report" {
		return runLoadReport(args[1:], out)
	}
	if len(args) > 0 && args[0] == "worker" {
		return runLoadWorker(ctx, args[1:], out)
	}
	var s loadSettings
	loaded, loadErr := config.Load(&s, "load", config.Source{Args: args, Env: envOf(&s), Intro: loadIntro, Others: &settings{}, OwnFile: true}, out)
	if loaded == nil {
		return loadErr
	}
	thresholds, err := parseThresholds(s.FailIf)
	options, optionsErr := s.options()
	if err := errors.Join(loadErr, s.Validate(), err, optionsErr); err != nil {
		return err
	}
	options.Progress = report.NewLive(out).Show
	r, err := s.run(ctx, options, out)
	if err != nil {
		return err
	}
	report.Summary(out, r)
	switch s.Output {
	case "":
	case "-":
		if err := r.Encode(out); err != nil {
			return err
		}
	default:
		if err := r.Write(s.Output); err != nil {
			return err
		}
		fmt.Fprintln(out, "result    ", s.Output)
	}
	if s.HTML != "" {
		if err := writePage(s.HTML, r); err != nil {
			return err
		}
		fmt.Fprintln(out, "page      ", s.HTML)
	}
	return errors.Join(incomplete(r), judge(r, thresholds))
}

// incomplete returns the error of a result in which workers are missing, whatever the conditions are: what was measured is
// not the load that was asked for.
func incomplete(r *result.Result) error {
	if n := r.Missing(); n > 0 {
		return fmt.Errorf("the result is incomplete: %d of %d workers are missing", n, len(r.Workers))
	}
	return nil
}

// run makes load in this process, or lets workers do it.
func (s *loadSettings) run(ctx context.Context, o drive.Options, out io.Writer) (*result.Result, error) {
	if s.Workers == 0 {
		return drive.Run(ctx, &s.Scenario, o)
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, err
	}
	return team.Coordinate(ctx, buildVersion(), l, &s.Scenario, s.Watch, s.Workers, func(what string) { fmt.Fprintln(out, what) })
}

// runLoadWorker does the part of a scenario that a coordinator gives it.
func runLoadWorker(ctx context.Context, args []string, out io.Writer) error {
	var w workerSettings
	if _, err := config.Load(&w, "load worker", config.Source{Args: args, Env: envOf(&w), Others: &settings{}, OwnFile: true}, out); err != nil {
		return err
	}
	s := loadSettings{AccessKey: w.AccessKey, Data: w.Data, Authority: w.Authority}
	options, err := s.withoutKey()
	if err != nil {
		return err
	}
	var keyErr error // matters once it is known what the scenario needs
	options.Key, keyErr = s.key()
	options.Progress = report.NewLive(out).Show
	r, err := team.Work(ctx, buildVersion(), strings.TrimRight(w.Coordinator, "/"), options)
	if errors.Is(err, team.ErrNoKey) {
		err = errors.Join(err, keyErr)
	}
	if err != nil {
		return err
	}
	report.Summary(out, r)
	return nil
}

// runLoadReport makes a page of results that were kept, side by side.
func runLoadReport(args []string, out io.Writer) error {
	var s reportSettings
	if _, err := config.Load(&s, "load report", config.Source{Args: args, Env: envOf(&s), Others: &settings{}, OwnFile: true}, out); err != nil {
		return err
	}
	thresholds, err := parseThresholds(s.FailIf)
	if err != nil {
		return err
	}
	if len(s.Results) == 0 {
		return errors.New("results is empty; give the files that chatr load --output wrote, separated by commas")
	}
	var all []*result.Result
	for _, file := range s.Results {
		r, err := result.Read(file)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if err := writePage(s.HTML, all...); err != nil {
		return err
	}
	fmt.Fprintln(out, "page", s.HTML)
	return judge(all[len(all)-1], thresholds)
}

// envOf keeps from the environment what a command has settings for; those of the services are not errors here.
func envOf(settings any) (env []string) {
	known := map[string]bool{"CHATR_CONFIG": true}
	for _, f := range config.Fields(settings) {
		known[f.Env] = true
		known[f.Env+"_FILE"] = f.Secret
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); known[name] {
			env = append(env, kv)
		}
	}
	return env
}

func writePage(file string, results ...*result.Result) error {
	var b bytes.Buffer
	if err := report.Page(&b, results...); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func parseThresholds(list []string) (all []result.Threshold, err error) {
	var problems []error
	for _, text := range list {
		t, err := result.ParseThreshold(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("failIf: %w", err))
		}
		all = append(all, t)
	}
	return all, errors.Join(problems...)
}

// options finds the key, where one is needed, and checks the rest. A connection string also sets the endpoint.
func (s *loadSettings) options() (o drive.Options, err error) {
	key, keyErr := "", error(nil)
	switch {
	case s.Workers > 0 && s.ConnectionString != "":
		keyErr = errors.New("connectionString is for a process that makes load; with workers give the endpoint here, and the key to each worker")
	case s.Workers == 0 && !s.Chat.Journeys:
		key, keyErr = s.key()
	}
	o, err = s.withoutKey()
	o.Key = key
	return o, errors.Join(keyErr, err)
}

// withoutKey is the options but for the key.
func (s *loadSettings) withoutKey() (o drive.Options, err error) {
	var problems []error
	for _, text := range s.Watch {
		t, err := measure.ParseTarget(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("watch: %w", err))
		}
		o.Targets = append(o.Targets, t)
	}
	if s.Authority != "" {
		pem, err := os.ReadFile(s.Authority)
		pool := x509.NewCertPool()
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate", s.Authority)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("authority: %w", err))
		}
		o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return o, errors.Join(problems...)
}

func (s *loadSettings) key() (string, error) {
	if s.ConnectionString != "" {
		if s.AccessKey != "" {
			return "", errors.New("accessKey and connectionString are both given; keep one")
		}
		c, err := token.ParseConnectionString(s.ConnectionString)
		s.Endpoint = c.Endpoint
		return c.AccessKey, err
	}
	if s.AccessKey != "" {
		return s.AccessKey, nil
	}
	if _, err := os.Stat(filepath.Join(s.Data, accessKeyFile)); err != nil { // a key made here would be nobody's
		return "", fmt.Errorf("no access key: give --access-key, --connection-string, or --data with the folder of chatr standalone (%w)", err)
	}
	return keptKey(s.Data, accessKeyFile)
}

// judge holds a result against the conditions of --fail-if.
func judge(r *result.Result, thresholds []result.Threshold) error {
	var problems []error
	for _, t := range thresholds {
		if failed, why := t.Check(r); failed {
			problems = append(problems, errors.New(why))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("the run failed: %w", errors.Join(problems...))
	}
	return nil
}
