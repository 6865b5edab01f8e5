package chart

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// values is what the chart takes; its schema is made from it. What a value means is said once, by its comment in values.yaml,
// and its default stands there too. Tags:
//
//	min:"1"                      least number
//	pattern:"^…$"                what a text must look like
//	oneOf:"a,b"                  texts that are allowed; a comma at the end allows the empty one
//	setting:"gateway.drainTime"  the schema is that of this setting of the product
//	old:"chat.trustedProxies"    the value's name before it got this one; not in values.yaml
type values struct {
	Global           global                        `json:"global"`
	Image            image                         `json:"image"`
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`
	Keys             keys                          `json:"keys"`
	Postgres         postgres                      `json:"postgres"`
	Redis            redis                         `json:"redis"`
	PrivateCA        privateCA                     `json:"privateCA"`
	Chat             chat                          `json:"chat"`
	Hubs             []hub                         `json:"hubs"`
	Tenants          []tenant                      `json:"tenants"`
	TenantSecrets    []string                      `json:"tenantSecrets"`
	Limits           limits                        `json:"limits"`
	DefaultTenant    defaultTenant                 `json:"defaultTenant"`
	Log              struct {
		Level string `json:"level" setting:"log.level"`
	} `json:"log"`
	Settings       settings       `json:"settings"`
	Pods           pods           `json:"pods"`
	Gateway        gateway        `json:"gateway"`
	Events         component      `json:"events"`
	API            component      `json:"api"`
	Migrate        migrate        `json:"migrate"`
	Ingress        ingress        `json:"ingress"`
	HTTPRoute      httpRoute      `json:"httpRoute"`
	NetworkPolicy  networkPolicy  `json:"networkPolicy"`
	Metrics        metrics        `json:"metrics"`
	ServiceAccount serviceAccount `json:"serviceAccount"`
	ExtraObjects   []object       `json:"extraObjects"`
}

// These have schemas of the product's making.
type (
	settings      struct{} // the settings file, without tenants
	tenant        struct{} // one of its tenants
	defaultTenant struct{} // a tenant without what has values of its own
	limits        struct{} // a tenant's
	hub           struct{} // a tenant's
)

// object is anything: a mapping, or the text of a template.
type object struct{}

// global is what Helm hands to all charts of a release, so that it may hold what others want to know.
type global struct {
	ImageRegistry    string                        `json:"imageRegistry"`
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`
}

type image struct {
	Repository string `json:"repository" pattern:"."`
	Tag        string `json:"tag"`
	Digest     string `json:"digest" pattern:"^(sha256:[0-9a-f]{64})?$"`
	PullPolicy string `json:"pullPolicy" oneOf:"Always,IfNotPresent,Never"`
}

type keys struct {
	ExistingSecret  string `json:"existingSecret"`
	Access          string `json:"access" pattern:"^(.{32,})?$"`
	AccessSecondary string `json:"accessSecondary" pattern:"^(.{32,})?$"`
	Session         string `json:"session" pattern:"^(.{32,})?$"`
}

// store is where something is kept.
type store struct {
	URL               string `json:"url"`
	ExistingSecret    string `json:"existingSecret"`
	ExistingSecretKey string `json:"existingSecretKey" pattern:"."`
}

type postgres struct {
	store
	Trial struct {
		trialStore
		Storage          string `json:"storage"`
		StorageClassName string `json:"storageClassName"`
	} `json:"trial"`
}

type redis struct {
	store
	Trial trialStore `json:"trial"`
}

type trialStore struct {
	ownPods
	Enabled   bool                        `json:"enabled"`
	Image     string                      `json:"image" pattern:"."`
	RunAsUser *int64                      `json:"runAsUser" min:"1"`
	Resources corev1.ResourceRequirements `json:"resources"`
	Service   service                     `json:"service"`
}

type privateCA struct {
	ExistingSecret    string `json:"existingSecret"`
	ExistingConfigMap string `json:"existingConfigMap"`
	Key               string `json:"key" pattern:"."`
}

type chat struct {
	PublicURL      string `json:"publicUrl" pattern:"^(https?://[^/]+)?$"`
	TrustedProxies any    `json:"trustedProxies" setting:"chat.trustedProxies"`
	Proxies        any    `json:"proxies" setting:"chat.proxies" old:"chat.trustedProxies"`
	Guests         bool   `json:"guests"`
	LegacyGuests   bool   `json:"legacyGuests"`
	IdleAfter      string `json:"idleAfter" setting:"chat.idleAfter"`
}

// pods is what can be said of all pods, and of those of one component.
type pods struct {
	PodLabels                 map[string]string                 `json:"podLabels"`
	PodAnnotations            map[string]string                 `json:"podAnnotations"`
	PriorityClassName         string                            `json:"priorityClassName"`
	NodeSelector              map[string]string                 `json:"nodeSelector"`
	Tolerations               []corev1.Toleration               `json:"tolerations"`
	Affinity                  corev1.Affinity                   `json:"affinity"`
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints"`
	HostAliases               []corev1.HostAlias                `json:"hostAliases"`
	DNSPolicy                 string                            `json:"dnsPolicy" oneOf:"ClusterFirst,ClusterFirstWithHostNet,Default,None,"`
	DNSConfig                 corev1.PodDNSConfig               `json:"dnsConfig"`
	PodSecurityContext        corev1.PodSecurityContext         `json:"podSecurityContext"`
	ContainerSecurityContext  corev1.SecurityContext            `json:"containerSecurityContext"`
	ExtraEnv                  []corev1.EnvVar                   `json:"extraEnv"`
	ExtraEnvFrom              []corev1.EnvFromSource            `json:"extraEnvFrom"`
	ExtraVolumes              []corev1.Volume                   `json:"extraVolumes"`
	ExtraVolumeMounts         []corev1.VolumeMount              `json:"extraVolumeMounts"`
	InitContainers            []corev1.Container                `json:"initContainers"`
}

// ownPods is pods where it is about one component: values.yaml does not repeat it there.
type ownPods struct{ pods }

type component struct {
	ownPods
	Replicas                      *int32                      `json:"replicas" min:"1"`
	PreStopSeconds                int                         `json:"preStopSeconds" min:"0"`
	TerminationGracePeriodSeconds *int64                      `json:"terminationGracePeriodSeconds" min:"1"`
	ProgressDeadlineSeconds       *int32                      `json:"progressDeadlineSeconds" min:"1"`
	Resources                     corev1.ResourceRequirements `json:"resources"`
	Autoscaling                   autoscaling                 `json:"autoscaling"`
	PodDisruptionBudget           podDisruptionBudget         `json:"podDisruptionBudget"`
	Service                       service                     `json:"service"`
}

type gateway struct {
	component
	DrainTime string `json:"drainTime" setting:"gateway.drainTime"`
}

type autoscaling struct {
	Enabled     bool                                          `json:"enabled"`
	MinReplicas int                                           `json:"minReplicas" min:"1"`
	MaxReplicas int                                           `json:"maxReplicas" min:"1"`
	CPU         *int                                          `json:"cpu" min:"1"`
	Memory      *int                                          `json:"memory" min:"1"`
	Metrics     []autoscalingv2.MetricSpec                    `json:"metrics"`
	Behavior    autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
}

type podDisruptionBudget struct {
	Enabled                    bool                `json:"enabled"`
	MaxUnavailable             *intstr.IntOrString `json:"maxUnavailable"`
	MinAvailable               *intstr.IntOrString `json:"minAvailable"`
	UnhealthyPodEvictionPolicy string              `json:"unhealthyPodEvictionPolicy" oneOf:"AlwaysAllow,IfHealthyBudget"`
}

type service struct {
	Type                     string            `json:"type" oneOf:"ClusterIP,NodePort,LoadBalancer"`
	Annotations              map[string]string `json:"annotations"`
	Labels                   map[string]string `json:"labels"`
	AppProtocol              string            `json:"appProtocol"`
	NodePort                 *int32            `json:"nodePort" min:"1"`
	LoadBalancerClass        string            `json:"loadBalancerClass"`
	LoadBalancerSourceRanges []string          `json:"loadBalancerSourceRanges"`
	ExternalTrafficPolicy    string            `json:"externalTrafficPolicy" oneOf:"Cluster,Local,"`
}

type migrate struct {
	ownPods
	Annotations             map[string]string           `json:"annotations"`
	TTLSecondsAfterFinished *int32                      `json:"ttlSecondsAfterFinished" min:"0"`
	Resources               corev1.ResourceRequirements `json:"resources"`
}

type ingress struct {
	Enabled     bool                      `json:"enabled"`
	ClassName   string                    `json:"className"`
	Hosts       []string                  `json:"hosts" pattern:"."`
	TLS         []networkingv1.IngressTLS `json:"tls"`
	Labels      map[string]string         `json:"labels"`
	Annotations map[string]string         `json:"annotations"`
}

type httpRoute struct {
	Enabled     bool                        `json:"enabled"`
	ParentRefs  []gatewayv1.ParentReference `json:"parentRefs"`
	Hostnames   []string                    `json:"hostnames" pattern:"."`
	Labels      map[string]string           `json:"labels"`
	Annotations map[string]string           `json:"annotations"`
	Filters     []gatewayv1.HTTPRouteFilter `json:"filters"`
}

type networkPolicy struct {
	Enabled   bool                             `json:"enabled"`
	FrontFrom []networkingv1.NetworkPolicyPeer `json:"frontFrom"`
	OpsFrom   []networkingv1.NetworkPolicyPeer `json:"opsFrom"`
}

type metrics struct {
	Service struct {
		Enabled     bool              `json:"enabled"`
		Annotations map[string]string `json:"annotations"`
	} `json:"service"`
	PodMonitor     monitor `json:"podMonitor"`
	ServiceMonitor monitor `json:"serviceMonitor"`
}

type monitor struct {
	Enabled           bool                         `json:"enabled"`
	Labels            map[string]string            `json:"labels"`
	Interval          string                       `json:"interval"`
	ScrapeTimeout     string                       `json:"scrapeTimeout"`
	Relabelings       []monitoringv1.RelabelConfig `json:"relabelings"`
	MetricRelabelings []monitoringv1.RelabelConfig `json:"metricRelabelings"`
}

type serviceAccount struct {
	Name           string            `json:"name"`
	Annotations    map[string]string `json:"annotations"`
	Labels         map[string]string `json:"labels"`
	AutomountToken bool              `json:"automountToken"`
}
