package chart

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// given reads values as people write them.
func given(t *testing.T, text string) map[string]any {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// with returns values over those of the trial.
func with(t *testing.T, text string) map[string]any {
	t.Helper()
	return chartutil.CoalesceTables(given(t, text), trial())
}

func named[T metav1.Object](t *testing.T, list []runtime.Object, name string) T {
	t.Helper()
	for _, o := range list {
		if typed, ok := o.(T); ok && typed.GetName() == name {
			return typed
		}
	}
	var none T
	t.Fatalf("no %T called %s", none, name)
	return none
}

// TestOldValuesInstall: helm upgrade with the values of the version before must work.
func TestOldValuesInstall(t *testing.T) {
	old, err := os.ReadFile("testdata/values-0.1.0.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]string{
		"as they were": "{}",
		"in use": `
hubs: [{name: sample, anonymous: true, handlers: [{url: "http://my-app/eventhandler/{event}", userEvents: "*", systemEvents: [connect]}]}]
tenants: [{name: acme, hosts: ["*.acme.example"], keys: {primary: 0123456789abcdef0123456789abcdef}, endpoints: ["https://acme.example"], clientEndpoint: https://acme.example}]
chat: {proxies: 2}
settings: {gateway: {recoveryTime: 60s, proxies: [10.0.0.0/8], publicEndpoint: https://a.example}, chat: {origins: ["*"]}}
gateway: {podAnnotations: {a: b}, nodeSelector: {disk: ssd}, tolerations: [{key: a, operator: Exists}]}
`,
	} {
		values := chartutil.CoalesceTables(with(t, more), given(t, string(old)))
		list := objects(t, values)
		for _, service := range []string{"chatr-gateway", "chatr-events", "chatr-api"} {
			d := named[*appsv1.Deployment](t, list, service)
			if *d.Spec.Replicas != 2 || d.Spec.Template.Spec.Containers[0].Image != "ghcr.io/chatr-dev/chatr:0.1.0" {
				t.Errorf("%s: %s: got %d of %s", name, service, *d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image)
			}
		}
		if name != "in use" {
			continue
		}
		pod := named[*appsv1.Deployment](t, list, "chatr-gateway").Spec.Template
		if pod.Annotations["a"] != "b" || pod.Spec.NodeSelector["disk"] != "ssd" || len(pod.Spec.Tolerations) != 1 {
			t.Errorf("got %+v, want the old names under gateway to count", pod)
		}
		if got := environment(t, list, "chatr-api")["CHATR_CHAT_TRUSTED_PROXIES"]; got != "2" {
			t.Errorf("got %q trusted proxies, want the 2 of the old name", got)
		}
	}
}

// TestOldDefaultsInstall: helm upgrade --reuse-values brings the defaults of the chart before instead of ours.
func TestOldDefaultsInstall(t *testing.T) {
	old, err := os.ReadFile("testdata/values-0.1.0.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load("../../deploy/helm")
	if err != nil {
		t.Fatal(err)
	}
	c.Values = given(t, string(old))
	got, err := renderChart(c, chartutil.CoalesceTables(trial(), given(t, "chat: {guests: false}")))
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(t, with(t, "chat: {guests: false}"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		// The trial Postgres' password is random, and podAnnotations of each service were there without a value.
		if got[name] != want[name] && !strings.HasSuffix(name, "secrets.yaml") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
}

// TestTheVersionBeforeKnowsTheFile: its pods read our settings file until they are replaced, and one of them may start anew meanwhile. So
// no name that is new in this version stands there unless the values have it.
func TestTheVersionBeforeKnowsTheFile(t *testing.T) {
	for more, want := range map[string]string{
		"{}":                           "1",
		"chat: {trustedProxies: 0}":    "0",
		"chat: {trustedProxies: null}": "",
		"chat: {trustedProxies: []}":   "",
		"chat: {proxies: 2}":           "2",
		"chat: {trustedProxies: [10.0.0.0/8, 192.0.2.1]}": "10.0.0.0/8,192.0.2.1",
	} {
		list := objects(t, with(t, more))
		own := settingsFile(t, list)["chat"].(map[string]any)
		if got := environment(t, list, "chatr-api")["CHATR_CHAT_TRUSTED_PROXIES"]; got != want || len(own) != 2 {
			t.Errorf("%s: got %q and the settings %v, want %q and idleAfter and publicUrl alone", more, got, own, want)
		}
	}
	for more, name := range map[string]string{
		"settings: {chat: {proxies: 3}}":                              "proxies",
		"settings: {chat: {trustedProxies: 3}}":                       "trustedProxies",
		"{chat: {proxies: 2}, settings: {chat: {trustedProxies: 3}}}": "trustedProxies",
	} {
		list := objects(t, with(t, more))
		if got := settingsFile(t, list)["chat"].(map[string]any)[name]; got != 3 {
			t.Errorf("%s: got %v in the file, want 3", more, got)
		}
		if got, ok := environment(t, list, "chatr-api")["CHATR_CHAT_TRUSTED_PROXIES"]; ok {
			t.Errorf("%s: got %q in the environment, which would win", more, got)
		}
	}
}

// environment is what a service's pods have in their environment that is given as it is.
func environment(t *testing.T, list []runtime.Object, service string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, e := range named[*appsv1.Deployment](t, list, service).Spec.Template.Spec.Containers[0].Env {
		values[e.Name] = e.Value
	}
	return values
}

func settingsFile(t *testing.T, list []runtime.Object) map[string]any {
	t.Helper()
	return given(t, named[*corev1.Secret](t, list, "chatr-settings").StringData["chatr.yaml"])
}

// TestEveryPodTakesWhatPodsHave: what is said once holds for all, and a component's own wins.
func TestEveryPodTakesWhatPodsHave(t *testing.T) {
	list := objects(t, with(t, `
global: {imageRegistry: "mirror.example:5000", imagePullSecrets: [{name: pull}]}
pods:
  podLabels: {azure.workload.identity/use: "true"}
  podAnnotations: {from: pods}
  priorityClassName: high
  nodeSelector: {pool: chat}
  tolerations: [{key: chat, operator: Exists, effect: NoSchedule}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}}
  hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [10.0.0.2], options: [{name: ndots, value: "1"}]}
  podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}
  containerSecurityContext: {readOnlyRootFilesystem: false}
  extraEnv: [{name: HTTPS_PROXY, value: proxy:3128}, {name: SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}]
  extraEnvFrom: [{configMapRef: {name: more}}]
  extraVolumes: [{name: extra, projected: {sources: [{serviceAccountToken: {path: token, audience: handler}}]}}]
  extraVolumeMounts: [{name: extra, mountPath: /extra, readOnly: true}]
  initContainers: [{name: wait, image: busybox, command: [sleep, "1"], resources: {requests: {cpu: 1m}, limits: {memory: 1Mi}}, securityContext: {runAsNonRoot: true}}]
gateway: {podAnnotations: {from: gateway}, priorityClassName: higher, containerSecurityContext: {readOnlyRootFilesystem: true}}
postgres: {trial: {podLabels: {db: "yes"}}}
redis: {trial: {tolerations: []}}
migrate: {nodeSelector: {pool: jobs}}
`))
	specs := podSpecs(list)
	for _, name := range []string{"chatr-gateway", "chatr-events", "chatr-api", "chatr-migrate-1", "chatr-postgres", "chatr-redis"} {
		spec, ok := specs[name]
		if !ok {
			t.Fatalf("no pods called %s", name)
		}
		c := spec.Containers[0]
		for what, ok := range map[string]bool{
			"image":            strings.HasPrefix(c.Image, "mirror.example:5000/") && !strings.Contains(c.Image, "ghcr.io"),
			"pull secret":      len(spec.ImagePullSecrets) == 1,
			"priority":         spec.PriorityClassName == map[bool]string{true: "higher", false: "high"}[name == "chatr-gateway"],
			"node selector":    spec.NodeSelector["pool"] == map[bool]string{true: "jobs", false: "chat"}[name == "chatr-migrate-1"],
			"tolerations":      (len(spec.Tolerations) == 1) == (name != "chatr-redis"),
			"affinity":         spec.Affinity.NodeAffinity != nil,
			"host aliases":     len(spec.HostAliases) == 1,
			"DNS":              spec.DNSPolicy == corev1.DNSNone && len(spec.DNSConfig.Options) == 1,
			"user left out":    spec.SecurityContext.RunAsUser == nil && spec.SecurityContext.FSGroup == nil && *spec.SecurityContext.RunAsNonRoot,
			"root file system": *c.SecurityContext.ReadOnlyRootFilesystem == (name == "chatr-gateway") && !*c.SecurityContext.AllowPrivilegeEscalation,
			"environment":      slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "SECRET" && e.ValueFrom.SecretKeyRef.Name == "s" }),
			"environment from": len(c.EnvFrom) == 1,
			"volume":           slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == "extra" }),
			"mount":            slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/extra" }),
			"init container":   len(spec.InitContainers) == 1,
		} {
			if !ok {
				t.Errorf("%s: %s is not as the values say", name, what)
			}
		}
	}
	gateway, postgres := named[*appsv1.Deployment](t, list, "chatr-gateway").Spec.Template, named[*appsv1.StatefulSet](t, list, "chatr-postgres").Spec.Template
	if gateway.Annotations["from"] != "gateway" || gateway.Labels["azure.workload.identity/use"] != "true" || postgres.Labels["db"] != "yes" || postgres.Annotations["from"] != "pods" {
		t.Errorf("got %v and %v of the gateway, %v and %v of Postgres", gateway.Labels, gateway.Annotations, postgres.Labels, postgres.Annotations)
	}
}

// TestPrivateCA: a process adds what is in SSL_CERT_DIR to the public authorities, which are in a file of the image.
func TestPrivateCA(t *testing.T) {
	specs := podSpecs(objects(t, with(t, "privateCA: {existingConfigMap: our-ca, key: bundle.pem}")))
	for _, name := range []string{"chatr-gateway", "chatr-events", "chatr-api", "chatr-migrate-1"} {
		c := specs[name].Containers[0]
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "SSL_CERT_DIR" })
		m := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "private-ca" })
		v := slices.IndexFunc(specs[name].Volumes, func(v corev1.Volume) bool { return v.Name == "private-ca" })
		if i < 0 || m < 0 || v < 0 || !slices.Contains(strings.Split(c.Env[i].Value, ":"), c.VolumeMounts[m].MountPath) {
			t.Errorf("%s does not read the authority", name)
			continue
		}
		if cm := specs[name].Volumes[v].ConfigMap; cm.Name != "our-ca" || cm.Items[0].Key != "bundle.pem" || cm.Items[0].Path != "ca.crt" {
			t.Errorf("%s: got %+v", name, cm)
		}
	}
}

// TestTenantSecrets: a tenant's key may name a file of a Secret that every service has.
func TestTenantSecrets(t *testing.T) {
	specs := podSpecs(objects(t, with(t, `
tenantSecrets: [acme-keys, other]
tenants: [{name: acme, hosts: [acme.example], keys: {primary: "{file:/etc/chatr/tenants/acme-keys/primary}"}}]`)))
	for _, name := range []string{"chatr-gateway", "chatr-events", "chatr-api"} {
		m := slices.IndexFunc(specs[name].Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/etc/chatr/tenants/acme-keys" })
		if m < 0 {
			t.Errorf("%s has no such folder", name)
			continue
		}
		mount := specs[name].Containers[0].VolumeMounts[m]
		v := slices.IndexFunc(specs[name].Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if v < 0 || specs[name].Volumes[v].Secret.SecretName != "acme-keys" || mount.SubPath != "" || !mount.ReadOnly {
			t.Errorf("%s: got %+v, want the Secret itself, which is updated in place", name, mount)
		}
	}
}

// TestUpgradesLeaveTrialStoresAlone: a store that restarts throws everybody out, so its pods stay as the first version made them,
// whatever the chart's version is.
func TestUpgradesLeaveTrialStoresAlone(t *testing.T) {
	text, err := os.ReadFile("testdata/stores-0.1.0.yaml") // as the chart of 0.1.0 renders them
	if err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load("../../deploy/helm")
	if err != nil {
		t.Fatal(err)
	}
	c.Metadata.Version, c.Metadata.AppVersion = "9.9.9", "9.9.9"
	files, err := renderChart(c, trial())
	if err != nil {
		t.Fatal(err)
	}
	now := decode(t, "stores", files["chatr/templates/trial/postgres.yaml"]+"\n---\n"+files["chatr/templates/trial/redis.yaml"])
	before := decode(t, "stores-0.1.0.yaml", string(text))
	redis, redisBefore := named[*appsv1.Deployment](t, now, "chatr-redis").Spec.Template, named[*appsv1.Deployment](t, before, "chatr-redis").Spec.Template
	if !equality.Semantic.DeepEqual(redis, redisBefore) {
		t.Errorf("Redis: got\n%+v\nwant\n%+v", redis, redisBefore)
	}
	postgres, postgresBefore := named[*appsv1.StatefulSet](t, now, "chatr-postgres").Spec.Template, named[*appsv1.StatefulSet](t, before, "chatr-postgres").Spec.Template
	if !equality.Semantic.DeepEqual(postgres, postgresBefore) {
		t.Errorf("Postgres: got\n%+v\nwant\n%+v", postgres, postgresBefore)
	}
}

// TestGraceFollowsTheDrainTime wherever it is set.
func TestGraceFollowsTheDrainTime(t *testing.T) {
	for text, want := range map[string]int64{
		"{}":                                            35,
		"gateway: {drainTime: 2m}":                      135,
		"gateway: {drainTime: 1m30s}":                   105,
		"gateway: {drainTime: 500ms}":                   16,
		"settings: {gateway: {drainTime: 1h}}":          3615,
		"gateway: {preStopSeconds: 10}":                 42,
		"gateway: {terminationGracePeriodSeconds: 660}": 660,
	} {
		list := objects(t, with(t, text))
		if got := *podSpecs(list)["chatr-gateway"].TerminationGracePeriodSeconds; got != want {
			t.Errorf("%s: got %d s, want %d s", text, got, want)
		}
	}
	if l := podSpecs(objects(t, with(t, "gateway: {preStopSeconds: 0}")))["chatr-gateway"].Containers[0].Lifecycle; l != nil {
		t.Errorf("got %+v, want no hook", l)
	}
}

func TestWhoScales(t *testing.T) {
	list := objects(t, with(t, `
gateway: {replicas: null}
events: {replicas: 1}
api:
  autoscaling:
    enabled: true
    minReplicas: 3
    memory: 80
    metrics: [{type: Pods, pods: {metric: {name: gateway_connections}, target: {type: AverageValue, averageValue: "5000"}}}]
    behavior: {scaleDown: {stabilizationWindowSeconds: 600, policies: [{type: Pods, value: 1, periodSeconds: 60}]}}
  podDisruptionBudget: {minAvailable: 50%}
`))
	for name, want := range map[string]*int32{"chatr-gateway": nil, "chatr-api": nil, "chatr-events": new(int32(1))} {
		if got := named[*appsv1.Deployment](t, list, name).Spec.Replicas; (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: got %v replicas, want %v", name, got, want)
		}
	}
	scaler := named[*autoscalingv2.HorizontalPodAutoscaler](t, list, "chatr-api").Spec
	if *scaler.MinReplicas != 3 || scaler.MaxReplicas != 10 || scaler.ScaleTargetRef.Name != "chatr-api" || len(scaler.Metrics) != 3 ||
		*scaler.Metrics[0].Resource.Target.AverageUtilization != 70 || *scaler.Metrics[1].Resource.Target.AverageUtilization != 80 ||
		*scaler.Behavior.ScaleDown.StabilizationWindowSeconds != 600 {
		t.Errorf("got %+v", scaler)
	}
	budgets := map[string]policyv1.PodDisruptionBudgetSpec{}
	for _, o := range list {
		if b, ok := o.(*policyv1.PodDisruptionBudget); ok {
			budgets[b.Name] = b.Spec
		}
	}
	if got := slices.Sorted(maps.Keys(budgets)); !slices.Equal(got, []string{"chatr-api", "chatr-gateway"}) {
		t.Errorf("got budgets for %v; a single pod can have none", got)
	}
	if b := budgets["chatr-api"]; b.MinAvailable.String() != "50%" || b.MaxUnavailable != nil || *b.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
		t.Errorf("got %+v", b)
	}
}

// TestMigrationIsNamedByContent: a Job cannot be changed, and to tools that only render every revision is the first.
func TestMigrationIsNamedByContent(t *testing.T) {
	name := func(text string) string {
		return find(t, objects(t, with(t, text)), func(*batchv1.Job) bool { return true }).Name
	}
	first := name("{}")
	for _, same := range []string{"{}", "gateway: {replicas: 5}", "log: {level: debug}"} {
		if got := name(same); got != first {
			t.Errorf("%s: got %s, want %s again", same, got, first)
		}
	}
	for _, other := range []string{"image: {tag: 0.2.0}", "migrate: {resources: {limits: {memory: 256Mi}}}", "pods: {nodeSelector: {a: b}}"} {
		if got := name(other); got == first {
			t.Errorf("%s: got %s again, want another name", other, got)
		}
	}
}

func TestServices(t *testing.T) {
	list := objects(t, with(t, `
gateway:
  service:
    type: LoadBalancer
    annotations: {service.beta.kubernetes.io/azure-load-balancer-health-probe-request-path: /api/health}
    labels: {a: b}
    appProtocol: kubernetes.io/ws
    nodePort: 30080
    loadBalancerClass: example.com/internal
    loadBalancerSourceRanges: [10.0.0.0/8]
    externalTrafficPolicy: Local
redis: {trial: {service: {annotations: {c: d}, appProtocol: redis}}}
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s, relabelings: [{action: labelmap, regex: a, replacement: b}]}
  podMonitor: {enabled: true, scrapeTimeout: 5s, metricRelabelings: [{sourceLabels: [le], action: drop, regex: x}]}
`))
	gateway := named[*corev1.Service](t, list, "chatr-gateway")
	if s := gateway.Spec; s.Type != corev1.ServiceTypeLoadBalancer || *s.Ports[0].AppProtocol != "kubernetes.io/ws" || s.Ports[0].NodePort != 30080 ||
		*s.LoadBalancerClass != "example.com/internal" || s.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || len(gateway.Annotations) != 1 || gateway.Labels["a"] != "b" {
		t.Errorf("got %+v", gateway)
	}
	if len(gateway.Spec.Ports) != 1 {
		t.Error("a load balancer would open the operations port to strangers")
	}
	if s := named[*corev1.Service](t, list, "chatr-redis"); s.Annotations["c"] != "d" || *s.Spec.Ports[0].AppProtocol != "redis" {
		t.Errorf("got %+v", s)
	}
	for _, component := range []string{"gateway", "events", "api"} {
		ops := named[*corev1.Service](t, list, "chatr-"+component+"-ops")
		serviceMonitor := named[*monitoringv1.ServiceMonitor](t, list, "chatr-"+component)
		for label, value := range serviceMonitor.Spec.Selector.MatchLabels {
			if ops.Labels[label] != value {
				t.Errorf("%s: the ServiceMonitor wants %s=%s, which the Service lacks", component, label, value)
			}
		}
		if e := serviceMonitor.Spec.Endpoints[0]; e.Port != ops.Spec.Ports[0].Name || e.Interval != "30s" || len(e.RelabelConfigs) != 1 || serviceMonitor.Labels["release"] != "prometheus" {
			t.Errorf("%s: got %+v", component, e)
		}
		if e := named[*monitoringv1.PodMonitor](t, list, "chatr-"+component).Spec.PodMetricsEndpoints[0]; *e.Port != "ops" || e.ScrapeTimeout != "5s" || len(e.MetricRelabelConfigs) != 1 {
			t.Errorf("%s: got %+v", component, e)
		}
	}
}

// TestRouteIsAsTheIngress: both lead the same paths to the same services.
func TestRouteIsAsTheIngress(t *testing.T) {
	list := objects(t, with(t, "httpRoute: {enabled: true, parentRefs: [{name: front, namespace: infra, sectionName: https}], hostnames: [chat.example.com]}"))
	routed := map[string]string{}
	for _, rule := range named[*gatewayv1.HTTPRoute](t, list, "chatr").Spec.Rules {
		for _, match := range rule.Matches {
			routed[strings.TrimPrefix(string(*match.Path.Type), "Path")+" "+*match.Path.Value] = string(rule.BackendRefs[0].Name)
		}
	}
	ingress := map[string]string{}
	for _, p := range named[*networkingv1.Ingress](t, list, "chatr").Spec.Rules[0].HTTP.Paths {
		ingress[string(*p.PathType)+" "+p.Path] = p.Backend.Service.Name
	}
	if !maps.Equal(routed, ingress) {
		t.Errorf("got %v in the route, %v in the Ingress", routed, ingress)
	}
}

func TestNetworkPolicies(t *testing.T) {
	list := objects(t, with(t, `
networkPolicy:
  enabled: true
  frontFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]
  opsFrom: [{namespaceSelector: {}, podSelector: {matchLabels: {app: prometheus}}}]
`))
	// Who of the release talks to whom.
	for component, want := range map[string][]string{
		"gateway": {"api", "events", "test"}, "events": {"gateway", "test"}, "api": {"test"}, "postgres": {"api", "events", "migrate"}, "redis": {"events", "gateway"},
	} {
		policy := named[*networkingv1.NetworkPolicy](t, list, "chatr-"+component).Spec
		var got []string
		for _, peer := range policy.Ingress[0].From {
			got = append(got, peer.PodSelector.MatchLabels["app.kubernetes.io/component"])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || policy.PodSelector.MatchLabels["app.kubernetes.io/component"] != component {
			t.Errorf("%s: got %v, want %v", component, got, want)
		}
	}
	front := named[*networkingv1.NetworkPolicy](t, list, "chatr-gateway").Spec.Ingress
	if len(front) != 4 || len(front[1].From) != 1 || front[1].Ports[0].Port.StrVal != "http" || front[3].Ports[0].Port.StrVal != "ops" ||
		front[2].Ports[0].Port.StrVal != "ops" || front[2].From[0].PodSelector.MatchLabels["app.kubernetes.io/component"] != "gateway" {
		t.Errorf("got %+v", front)
	}
}

func TestExtraObjects(t *testing.T) {
	list := objects(t, with(t, `
extraObjects:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}-more"}, data: {a: b}}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: {{ include "chatr.fullname" . }}-text}
`))
	named[*corev1.ConfigMap](t, list, "chatr-more")
	named[*corev1.ConfigMap](t, list, "chatr-text")
}

// TestTenants: the default tenant takes every setting, and the chat's hub is where the chat is.
func TestTenants(t *testing.T) {
	hubs := func(tenant any) (list []map[string]any) {
		for _, hub := range tenant.(map[string]any)["hubs"].([]any) {
			list = append(list, hub.(map[string]any))
		}
		return list
	}
	tenants := settingsFile(t, objects(t, with(t, `
defaultTenant: {hosts: [chat.example.com], liveTrace: {enabled: true}, networkACLs: {publicNetwork: {deny: [RESTAPI]}}, auth: {oidc: [{issuer: "https://login.example", subjects: ["*"]}]}}
limits: {connections: 7}
hubs: [{name: Chat, compression: true, messagesPerSecond: 0}, {name: other, eventListeners: [{log: audit, userEvents: "*"}]}]
`)))["tenants"].([]any)
	tenant := tenants[0].(map[string]any)
	if tenant["hosts"].([]any)[0] != "chat.example.com" || tenant["liveTrace"].(map[string]any)["enabled"] != true || tenant["limits"].(map[string]any)["connections"] != 7 {
		t.Errorf("got %v", tenant)
	}
	if h := hubs(tenant); len(h) != 2 || h[0]["compression"] != true || h[0]["messagesPerSecond"] != 0 || h[0]["chat"] != "http://chatr-events:8080" || h[1]["name"] != "other" {
		t.Errorf("got %v", h)
	}
	tenants = settingsFile(t, objects(t, with(t, `
settings: {chat: {tenant: acme, hub: talk}, auth: {guests: false}}
tenants: [{name: acme, hosts: [acme.example], hubs: [{name: own}]}]
`)))["tenants"].([]any)
	if h := hubs(tenants[1]); len(h) != 2 || h[0]["name"] != "talk" || h[0]["chat"] != "http://chatr-events:8080" || len(hubs(tenants[0])) != 0 {
		t.Errorf("got %v", tenants)
	}
	settings := settingsFile(t, objects(t, with(t, "settings: {auth: {guests: false}}")))
	if settings["auth"].(map[string]any)["guests"] != false {
		t.Error("false in the settings does not win over the chart's true")
	}
}

// TestWorkloadIdentity: pods of some clouds need the token of their ServiceAccount.
func TestWorkloadIdentity(t *testing.T) {
	list := objects(t, with(t, "serviceAccount: {automountToken: true, annotations: {a: b}, labels: {c: d}}"))
	account := named[*corev1.ServiceAccount](t, list, "chatr")
	if !*account.AutomountServiceAccountToken || account.Annotations["a"] != "b" || account.Labels["c"] != "d" || !*podSpecs(list)["chatr-gateway"].AutomountServiceAccountToken {
		t.Errorf("got %+v", account)
	}
	if *podSpecs(list)["chatr-redis"].AutomountServiceAccountToken {
		t.Error("the trial Redis gets the token")
	}
}
