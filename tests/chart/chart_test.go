// Package chart renders the Helm chart and decodes what comes out strictly into Kubernetes types.
//
// It is a module of its own, so that Helm and Kubernetes stay out of the product's dependencies.
package chart

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// trial is the smallest set of values that installs; keys are given, as rendering has no cluster to keep them in.
func trial() map[string]any {
	key := strings.Repeat("k", 32)
	return map[string]any{
		"keys":     map[string]any{"access": key, "session": key},
		"postgres": map[string]any{"trial": map[string]any{"enabled": true}},
		"redis":    map[string]any{"trial": map[string]any{"enabled": true}},
		"ingress":  map[string]any{"enabled": true, "hosts": []any{"chat.example.com"}},
	}
}

func external() map[string]any {
	return map[string]any{
		"keys":     map[string]any{"existingSecret": "my-keys"},
		"postgres": map[string]any{"existingSecret": "my-postgres"},
		"redis":    map[string]any{"url": "rediss://redis.example.com:6379"},
		"hubs":     []any{map[string]any{"name": "sample", "handlers": []any{map[string]any{"url": "http://app/{event}", "userEvents": "*"}}}},
		"gateway":  map[string]any{"replicas": 1, "drainTime": "2m"},
		"chat":     map[string]any{"publicUrl": "https://chat.example.com"},
		"settings": map[string]any{"gateway": map[string]any{"recoveryTime": "60s"}, "log": map[string]any{"level": "warn"}},
	}
}

func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	c, err := loader.Load("../../deploy/helm")
	if err != nil {
		t.Fatal(err)
	}
	return renderChart(c, values)
}

func renderChart(c *chart.Chart, values map[string]any) (map[string]string, error) {
	release := chartutil.ReleaseOptions{Name: "chatr", Namespace: "chat", Revision: 1, IsInstall: true}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.36.0", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, values, release, caps)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// objects decodes every rendered document, refusing unknown and doubled fields.
func objects(t *testing.T, values map[string]any) []runtime.Object {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	var list []runtime.Object
	for _, name := range sortedKeys(files) {
		if strings.HasSuffix(name, ".yaml") {
			list = append(list, decode(t, name, files[name])...)
		}
	}
	return list
}

// decode reads documents into Kubernetes' types, refusing unknown and doubled fields.
func decode(t *testing.T, name, text string) (list []runtime.Object) {
	t.Helper()
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		if meaningless.ReplaceAllString(doc, "") == "" {
			continue
		}
		o, _, err := strictly.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, doc)
		}
		list = append(list, o)
	}
	return list
}

// meaningless are comments and white space.
var meaningless = regexp.MustCompile(`(?m)^\s*#.*$|\s+`)

var strictly = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		autoscalingv2.AddToScheme, monitoringv1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func find[T runtime.Object](t *testing.T, list []runtime.Object, ok func(T) bool) T {
	t.Helper()
	for _, o := range list {
		if typed, is := o.(T); is && ok(typed) {
			return typed
		}
	}
	var none T
	t.Fatalf("no such %T", none)
	return none
}

func podSpecs(list []runtime.Object) map[string]corev1.PodSpec {
	specs := map[string]corev1.PodSpec{}
	for _, o := range list {
		switch o := o.(type) {
		case *appsv1.Deployment:
			specs[o.Name] = o.Spec.Template.Spec
		case *appsv1.StatefulSet:
			specs[o.Name] = o.Spec.Template.Spec
		case *batchv1.Job:
			specs[o.Name[:strings.LastIndex(o.Name, "-")]] = o.Spec.Template.Spec // without what stands for its content
		case *corev1.Pod:
			specs[o.Name] = o.Spec
		}
	}
	return specs
}

func TestGolden(t *testing.T) {
	for name, values := range map[string]map[string]any{"trial": trial(), "external": external(), "documented": valuesOf(t, documented(t))} {
		files, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for _, f := range sortedKeys(files) {
			// The trial Postgres' password is random: its file is checked by the tests below.
			if strings.TrimSpace(files[f]) != "" && !strings.HasSuffix(f, "secrets.yaml") {
				got.WriteString("# " + f + "\n" + strings.TrimSpace(files[f]) + "\n")
			}
		}
		if name != "documented" {
			expectGolden(t, name+".golden", got.Bytes())
		}
		// Package main of the program reads these, too.
		expectGolden(t, name+"-settings.yaml", []byte(named[*corev1.Secret](t, objects(t, values), "chatr-settings").StringData["chatr.yaml"]))
	}
}

// expectGolden holds got against a file of testdata.
func expectGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; look at the difference, then run go test -update", golden)
	}
}

func TestEveryPodMeetsTheRestrictedStandard(t *testing.T) {
	for name, spec := range podSpecs(objects(t, trial())) {
		if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security is not restricted", name)
		}
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			t.Errorf("%s: mounts a service account token it does not need", name)
		}
		for _, c := range spec.Containers {
			s := c.SecurityContext
			if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: container security is not restricted", name)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: no CPU request or no memory limit", name)
			}
			for _, e := range c.Env {
				if e.Value != "" && strings.Contains(e.Value, "://") {
					t.Errorf("%s: %s holds a URL, which may hold a password", name, e.Name)
				}
			}
		}
	}
}

func TestGracePeriodExceedsDraining(t *testing.T) {
	for _, c := range []struct {
		values map[string]any
		drain  int64
	}{{trial(), 20}, {external(), 120}} {
		spec := podSpecs(objects(t, c.values))["chatr-gateway"]
		preStop := spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds
		if got := *spec.TerminationGracePeriodSeconds; got < c.drain+preStop+5 {
			t.Errorf("got a grace period of %d s, want more than %d s of draining and %d s before it", got, c.drain, preStop)
		}
	}
}

func TestIngressRoutes(t *testing.T) {
	ingress := find(t, objects(t, trial()), func(*networkingv1.Ingress) bool { return true })
	got := map[string]string{}
	for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
		got[string(*p.PathType)+" "+p.Path] = p.Backend.Service.Name
	}
	want := map[string]string{
		"Prefix /client": "chatr-gateway", "Prefix /clients": "chatr-gateway", "Prefix /ws": "chatr-gateway", "Prefix /api/hubs": "chatr-gateway",
		"Exact /api/health": "chatr-gateway", "Exact /api/v1/health": "chatr-gateway", "Exact /livetrace": "chatr-gateway", "Prefix /": "chatr-api",
	}
	for path, service := range want {
		if got[path] != service {
			t.Errorf("%s: got %q, want %q", path, got[path], service)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d paths, want %d", len(got), len(want))
	}
}

// TestSelectorsMatch catches a Service or budget that selects nothing, which Kubernetes accepts silently.
func TestSelectorsMatch(t *testing.T) {
	list := objects(t, trial())
	var pods []map[string]string
	for _, o := range list {
		switch o := o.(type) {
		case *appsv1.Deployment:
			pods = append(pods, o.Spec.Template.Labels)
		case *appsv1.StatefulSet:
			pods = append(pods, o.Spec.Template.Labels)
		}
	}
	matches := func(selector map[string]string) int {
		n := 0
		for _, labels := range pods {
			all := true
			for k, v := range selector {
				all = all && labels[k] == v
			}
			if all {
				n++
			}
		}
		return n
	}
	for _, o := range list {
		var name string
		var selector map[string]string
		switch o := o.(type) {
		case *corev1.Service:
			name, selector = "Service "+o.Name, o.Spec.Selector
		case *policyv1.PodDisruptionBudget:
			name, selector = "PodDisruptionBudget "+o.Name, o.Spec.Selector.MatchLabels
		default:
			continue
		}
		if got := matches(selector); got != 1 {
			t.Errorf("%s selects %d workloads, want 1", name, got)
		}
	}
}

func TestSettingsFile(t *testing.T) {
	secret := find(t, objects(t, external()), func(s *corev1.Secret) bool { return s.Name == "chatr-settings" })
	var settings struct {
		Log  struct{ Level string }
		Chat struct {
			PublicURL string `yaml:"publicUrl"`
		}
		Gateway struct {
			URL          string
			DrainTime    string `yaml:"drainTime"`
			RecoveryTime string `yaml:"recoveryTime"`
		}
		Tenants []struct {
			Hubs []struct {
				Name     string
				Chat     string
				Handlers []struct{ URL string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(secret.StringData["chatr.yaml"]), &settings); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"log.level, which settings override", settings.Log.Level, "warn"},
		{"chat.publicUrl", settings.Chat.PublicURL, "https://chat.example.com"},
		{"gateway.url", settings.Gateway.URL, "http://chatr-gateway:8080"},
		{"gateway.drainTime", settings.Gateway.DrainTime, "2m"},
		{"gateway.recoveryTime, which settings add", settings.Gateway.RecoveryTime, "60s"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	hubs := settings.Tenants[0].Hubs
	if len(hubs) != 2 || hubs[0].Handlers[0].URL != "http://chatr-events:8080/eventhandler/{event}" || hubs[0].Chat != "http://chatr-events:8080" || hubs[1].Name != "sample" {
		t.Errorf("got %+v, want the chat hub with the events service, then the given hub", hubs)
	}
}

// TestSecretsGoWhereTheyAreUsed keeps the session key and the database from the pods that strangers talk to first.
func TestSecretsGoWhereTheyAreUsed(t *testing.T) {
	want := map[string][]string{
		"chatr-gateway":   {"access-key", "access-key-secondary", "redis-url"},
		"chatr-events":    {"access-key", "access-key-secondary", "postgres-url", "redis-url"},
		"chatr-api":       {"access-key", "access-key-secondary", "postgres-url", "session-key"},
		"chatr-migrate-1": {"postgres-url"},
	}
	specs := podSpecs(objects(t, trial()))
	for name, files := range want {
		var got []string
		for _, v := range specs[name].Volumes {
			if v.Projected == nil {
				continue
			}
			for _, source := range v.Projected.Sources {
				for _, item := range source.Secret.Items {
					got = append(got, item.Path)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, files) {
			t.Errorf("%s: got %v, want %v", name, got, files)
		}
		for _, e := range specs[name].Containers[0].Env {
			if file, ok := strings.CutPrefix(e.Value, "/etc/chatr/secrets/"); ok && !slices.Contains(files, file) {
				t.Errorf("%s: %s names %s, which is not mounted", name, e.Name, e.Value)
			}
		}
	}
}

// TestTrialPasswordStaysWithItsVolume: a volume that outlives the release is of no use without the password it knows.
func TestTrialPasswordStaysWithItsVolume(t *testing.T) {
	for storage, want := range map[string]string{"": "", "1Gi": "keep"} {
		values := trial()
		values["postgres"] = map[string]any{"trial": map[string]any{"enabled": true, "storage": storage}}
		secret := find(t, objects(t, values), func(s *corev1.Secret) bool { return s.Name == "chatr-stores" })
		if got := secret.Annotations["helm.sh/resource-policy"]; got != want {
			t.Errorf("storage %q: got resource policy %q, want %q", storage, got, want)
		}
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"unknown value":    {"gatway": map[string]any{}},
		"unknown below":    {"gateway": map[string]any{"replcas": 3}},
		"short key":        {"keys": map[string]any{"access": "short"}},
		"no replicas":      {"api": map[string]any{"replicas": 0}},
		"odd duration":     {"gateway": map[string]any{"drainTime": "soon"}},
		"no Postgres":      {"postgres": map[string]any{"trial": map[string]any{"enabled": false}}},
		"unknown event":    {"hubs": []any{map[string]any{"name": "h", "handlers": []any{map[string]any{"url": "http://a", "systemEvents": []any{"join"}}}}}},
		"unknown setting":  {"settings": map[string]any{"gateway": map[string]any{"drainTme": "1m"}}},
		"tenants twice":    {"settings": map[string]any{"tenants": []any{}}},
		"unknown deep":     {"pods": map[string]any{"tolerations": []any{map[string]any{"key": "a", "effects": "NoSchedule"}}}},
		"unknown resource": {"gateway": map[string]any{"resources": map[string]any{"request": map[string]any{}}}},
		"two Postgres":     {"postgres": map[string]any{"existingSecret": "mine", "trial": map[string]any{"enabled": true}}},
		"no such tenant":   {"settings": map[string]any{"chat": map[string]any{"tenant": "acme"}}},
		"two authorities":  {"privateCA": map[string]any{"existingSecret": "a", "existingConfigMap": "b"}},
		"route to nowhere": {"httpRoute": map[string]any{"enabled": true}},
		"URL with a path":  {"chat": map[string]any{"publicUrl": "https://chat.example.com/chat"}},
		"tenant, no hosts": {"tenants": []any{map[string]any{"name": "acme"}}},
	} {
		if _, err := render(t, chartutil.CoalesceTables(change, trial())); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
