{{- define "chatr.fullname" -}}
{{- if contains "chatr" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-chatr" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "chatr.selector" -}}
app.kubernetes.io/name: chatr
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "chatr.labels" -}}
{{ include "chatr.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* An image's name with global.imageRegistry in place of the registry that it names, or before it when it names none. */}}
{{- define "chatr.fromRegistry" -}}
{{- $registry := .root.Values.global.imageRegistry -}}
{{- $first := first (splitList "/" .name) -}}
{{- if not $registry }}{{ .name }}
{{- else if and (contains "/" .name) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}{{ $registry }}{{ trimPrefix $first .name }}
{{- else }}{{ $registry }}/{{ .name }}
{{- end }}
{{- end }}

{{- define "chatr.image" -}}
{{- $name := include "chatr.fromRegistry" (dict "root" . "name" .Values.image.repository) -}}
{{- if .Values.image.digest }}{{ $name }}@{{ .Values.image.digest }}{{ else }}{{ $name }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "chatr.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "chatr.fullname" .) }}
{{- end }}

{{/* Writes what is in over into base: mappings are merged, all else is replaced, and null takes away. (mergeOverwrite would
     pass over false, 0 and "".) */}}
{{- define "chatr.mergeInto" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- include "chatr.mergeInto" (dict "base" (get $base $key) "over" $value) -}}
{{- else if kindIs "invalid" $value -}}
{{- $_ := unset $base $key -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Gives values of the first version of the chart, which helm upgrade --reuse-values hands on with that version's defaults,
     the defaults of what they do not know. First in every template that uses values. */}}
{{- define "chatr.complete" -}}
{{- if not (hasKey .Values "pods") -}}
{{- $all := .Files.Get "defaults.json" | fromJson -}}{{/* what values.yaml says, which templates cannot read */}}
{{- include "chatr.mergeInto" (dict "base" $all "over" .Values) -}}
{{- range $key, $value := $all }}{{ $_ := set $.Values $key $value }}{{ end -}}
{{- end -}}
{{- end }}

{{/* What holds for a component's pods, as YAML: the values under pods, with the component's own over them. */}}
{{- define "chatr.pod" -}}
{{- $pod := deepCopy .root.Values.pods -}}
{{- if has .component (list "migrate" "postgres" "redis") }}{{ $_ := unset $pod "topologySpreadConstraints" }}{{ end -}}
{{- $own := dict -}}
{{- range $key := list "podLabels" "podAnnotations" "priorityClassName" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints"
  "hostAliases" "dnsPolicy" "dnsConfig" "podSecurityContext" "containerSecurityContext" "extraEnv" "extraEnvFrom" "extraVolumes"
  "extraVolumeMounts" "initContainers" -}}
{{- if hasKey $.values $key }}{{ $_ := set $own $key (get $.values $key) }}{{ end -}}
{{- end -}}
{{- $security := $pod.podSecurityContext -}}
{{- if .values.runAsUser -}}{{/* of the trial stores, whose images have users of their own */}}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if hasKey $security $key }}{{ $_ := set $security $key $.values.runAsUser }}{{ end -}}
{{- end -}}
{{- end -}}
{{- include "chatr.mergeInto" (dict "base" $pod "over" $own) -}}
{{ toYaml $pod }}
{{- end }}

{{/* The labels and annotations of a component's pods. */}}
{{- define "chatr.podMetadata" -}}
labels:
  {{- include "chatr.labels" . | nindent 2 }}
  {{- with .pod.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
{{- $annotations := .annotations | default dict | deepCopy }}
{{- include "chatr.mergeInto" (dict "base" $annotations "over" (.pod.podAnnotations | default dict)) }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for trial stores, whose pods keep the labels that they had in the first version: with the chart's version among them,
     every upgrade would restart Redis and throw everybody out. */}}
{{- define "chatr.storeMetadata" -}}
{{- $labels := dict "app.kubernetes.io/version" "0.1.0" "app.kubernetes.io/managed-by" .root.Release.Service "helm.sh/chart" "chatr-0.1.0" -}}
{{- include "chatr.mergeInto" (dict "base" $labels "over" (include "chatr.selector" . | fromYaml)) -}}
{{- include "chatr.mergeInto" (dict "base" $labels "over" (.pod.podLabels | default dict)) -}}
labels: {{- toYaml $labels | nindent 2 }}
{{- with .pod.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The part of a pod's specification that all pods have, before their containers and volumes. */}}
{{- define "chatr.podSpec" -}}
{{- if has .component (list "postgres" "redis") }}
automountServiceAccountToken: false
{{- else }}
serviceAccountName: {{ include "chatr.serviceAccount" .root }}
automountServiceAccountToken: {{ .root.Values.serviceAccount.automountToken }}
{{- end }}
# Service names as environment variables would only be noise beside CHATR_… settings.
enableServiceLinks: false
{{- with concat (.root.Values.global.imagePullSecrets | default list) .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .pod.podSecurityContext | nindent 2 }}
{{- range $key := list "priorityClassName" "dnsPolicy" }}
{{- with get $.pod $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" "initContainers" }}
{{- with get $.pod $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .pod.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $constraint := deepCopy . }}
  {{- if not .labelSelector }}
  {{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "chatr.selector" $ | fromYaml)) }}
  {{- if not .matchLabelKeys }}{{/* do not count the pods that an upgrade is replacing */}}
  {{- $_ := set $constraint "matchLabelKeys" (list "pod-template-hash") }}
  {{- end }}
  {{- end }}
  - {{ toYaml $constraint | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The secrets a component needs and no others, as files: they do not show in the pod's specification or environment. */}}
{{- define "chatr.volumes" -}}
{{- $uses := index (dict
  "gateway" (list "access" "redis")
  "events" (list "access" "postgres" "redis")
  "api" (list "access" "session" "postgres")
  "migrate" (list "postgres")) .component -}}
- name: secrets
  projected:
    sources:
      {{- if has "access" $uses }}
      - secret:
          name: {{ include "chatr.keysSecret" .root }}
          items:
            - {key: access-key, path: access-key}
            - {key: access-key-secondary, path: access-key-secondary}
            {{- if has "session" $uses }}
            - {key: session-key, path: session-key}
            {{- end }}
      {{- end }}
      {{- if has "postgres" $uses }}
      - secret:
          name: {{ include "chatr.postgresSecret" .root }}
          items: [{key: {{ include "chatr.postgresSecretKey" .root }}, path: postgres-url}]
      {{- end }}
      {{- if has "redis" $uses }}
      - secret:
          name: {{ include "chatr.redisSecret" .root }}
          items: [{key: {{ include "chatr.redisSecretKey" .root }}, path: redis-url}]
      {{- end }}
{{- $ca := .root.Values.privateCA }}
{{- if and $ca.existingSecret $ca.existingConfigMap }}{{ fail "privateCA: set existingSecret or existingConfigMap, not both" }}{{ end }}
{{- if $ca.existingSecret }}
- name: private-ca
  secret: {secretName: {{ $ca.existingSecret }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- else if $ca.existingConfigMap }}
- name: private-ca
  configMap: {name: {{ $ca.existingConfigMap }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- end }}
{{- with .pod.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "chatr.mounts" -}}
- {name: secrets, mountPath: /etc/chatr/secrets, readOnly: true}
{{- if or .root.Values.privateCA.existingSecret .root.Values.privateCA.existingConfigMap }}
- {name: private-ca, mountPath: /etc/chatr/ca, readOnly: true}
{{- end }}
{{- with .pod.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Environment that all of our programs have, after their own. */}}
{{- define "chatr.env" -}}
{{- if or .root.Values.privateCA.existingSecret .root.Values.privateCA.existingConfigMap }}
# Authorities beside the public ones, which are in a file of the image that is read whatever this says.
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/chatr/ca"}
{{- end }}
{{- with .pod.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "chatr.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "chatr.fullname" .)) }}
{{- end }}
{{- define "chatr.postgresSecret" -}}
{{ .Values.postgres.existingSecret | default (printf "%s-stores" (include "chatr.fullname" .)) }}
{{- end }}
{{- define "chatr.postgresSecretKey" -}}
{{ if .Values.postgres.existingSecret }}{{ .Values.postgres.existingSecretKey }}{{ else }}postgres-url{{ end }}
{{- end }}
{{- define "chatr.redisSecret" -}}
{{ .Values.redis.existingSecret | default (printf "%s-stores" (include "chatr.fullname" .)) }}
{{- end }}
{{- define "chatr.redisSecretKey" -}}
{{ if .Values.redis.existingSecret }}{{ .Values.redis.existingSecretKey }}{{ else }}redis-url{{ end }}
{{- end }}

{{/* A value that is given, else the one already in the cluster, else a new one. */}}
{{- define "chatr.kept" -}}
{{- $old := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if .given }}{{ .given | b64enc }}{{ else if and $old (hasKey $old.data .key) }}{{ index $old.data .key }}{{ else }}{{ randAlphaNum 64 | b64enc }}{{ end }}
{{- end }}

{{/* Changes with what pods read once, when they start, out of Secrets that the chart makes. */}}
{{- define "chatr.secretsChecksum" -}}
{{ list .Values.keys .Values.postgres.url .Values.redis.url | toJson | sha256sum }}
{{- end }}

{{/* One of the three services: Deployment, Service, and as far as wanted autoscaler and PodDisruptionBudget. */}}
{{- define "chatr.service" -}}
{{- $name := printf "%s-%s" (include "chatr.fullname" .root) .component -}}
{{- $pod := include "chatr.pod" . | fromYaml -}}
{{- $ctx := merge (dict "pod" $pod) . -}}
{{- $scaled := .values.autoscaling.enabled -}}
{{- $fixed := and (not $scaled) (not (kindIs "invalid" .values.replicas)) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  {{- if $fixed }}
  replicas: {{ .values.replicas }}
  {{- end }}
  {{- with .values.progressDeadlineSeconds }}
  progressDeadlineSeconds: {{ . }}
  {{- end }}
  selector:
    matchLabels: {{- include "chatr.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    # A new pod must be ready before an old one goes: clients that have to leave find somewhere to go.
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      # Tenants, hubs and access keys are reloaded while running; other settings need new pods. So do addresses of stores,
      # as far as they are values; after a change in a Secret of your own: kubectl rollout restart.
      {{- include "chatr.podMetadata" (merge (dict "annotations" (dict
        "checksum/settings" (include "chatr.ownSettings" .root | sha256sum)
        "checksum/secrets" (include "chatr.secretsChecksum" .root))) $ctx) | nindent 6 }}
    spec:
      {{- include "chatr.podSpec" $ctx | trim | nindent 6 }}
      # Longer than preStop and draining together, or the kubelet would cut off those who are still leaving.
      terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds | default (add .values.preStopSeconds .leaving) }}
      containers:
        - name: {{ .component }}
          image: {{ include "chatr.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: [{{ .component }}, --config, /etc/chatr/settings/chatr.yaml]
          securityContext: {{- toYaml $pod.containerSecurityContext | nindent 12 }}
          ports:
            - {name: http, containerPort: 8080}
            - {name: ops, containerPort: 9090}
          env:
            - {name: CHATR_ACCESS_KEY_FILE, value: /etc/chatr/secrets/access-key}
            - {name: CHATR_ACCESS_KEY_SECONDARY_FILE, value: /etc/chatr/secrets/access-key-secondary}
            {{- if ne .component "gateway" }}
            - {name: CHATR_POSTGRES_URL_FILE, value: /etc/chatr/secrets/postgres-url}
            {{- end }}
            {{- if ne .component "api" }}
            - {name: CHATR_REDIS_URL_FILE, value: /etc/chatr/secrets/redis-url}
            {{- end }}
            {{- if eq .component "gateway" }}
            # Where gateways ask each other whether Redis is there, when it is not for one of them.
            - name: POD_IP
              valueFrom: {fieldRef: {fieldPath: status.podIP}}
            - {name: CHATR_GATEWAY_PEER_ADDRESS, value: "[$(POD_IP)]:9090"}
            {{- end }}
            {{- if eq .component "api" }}
            - {name: CHATR_AUTH_SESSION_KEY_FILE, value: /etc/chatr/secrets/session-key}
            {{- with include "chatr.trustedProxies" .root }}
            - {name: CHATR_CHAT_TRUSTED_PROXIES, value: {{ . | quote }}}
            {{- end }}
            {{- end }}
            # The collector works harder before the memory limit ends the process: from 95 percent of it, which is what each
            # MiB counted as 1000000 bytes makes. The rest is for what Go does not count, such as the kernel's socket buffers.
            - name: MEMORY_MIB
              valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}
            - {name: GOMEMLIMIT, value: $(MEMORY_MIB)000000}
            {{- with include "chatr.env" $ctx | trim }}{{ . | nindent 12 }}{{ end }}
          {{- with $pod.extraEnvFrom }}
          envFrom: {{- toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts:
            - {name: settings, mountPath: /etc/chatr/settings, readOnly: true} # no subPath: those are never updated
            {{- range $i, $name := .root.Values.tenantSecrets }}
            - {name: tenant-{{ $i }}, mountPath: /etc/chatr/tenants/{{ $name }}, readOnly: true}
            {{- end }}
            {{- include "chatr.mounts" $ctx | nindent 12 }}
          livenessProbe:
            # Says only that the process answers: a store that is away is a matter of readiness, not of a restart.
            httpGet: {path: /healthz, port: ops}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /readyz, port: ops}
            periodSeconds: 3
            timeoutSeconds: 3
            failureThreshold: 2
          startupProbe:
            httpGet: {path: /healthz, port: ops}
            periodSeconds: 1
            failureThreshold: 60
          {{- with .values.preStopSeconds }}
          lifecycle:
            # Endpoints take a moment to disappear everywhere; until then this pod still takes new connections.
            preStop: {sleep: {seconds: {{ . }}}}
          {{- end }}
          resources: {{- toYaml .values.resources | nindent 12 }}
      volumes:
        - name: settings
          secret:
            secretName: {{ include "chatr.fullname" .root }}-settings
        {{- range $i, $name := .root.Values.tenantSecrets }}
        - {name: tenant-{{ $i }}, secret: {secretName: {{ $name | quote }}}}
        {{- end }}
        {{- include "chatr.volumes" $ctx | nindent 8 }}
---
{{ include "chatr.serviceObject" (merge (dict "port" 8080 "portName" "http") .) }}
{{- if $scaled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    {{- range $resource := list "cpu" "memory" }}
    {{- with get $.values.autoscaling $resource }}
    - type: Resource
      resource: {name: {{ $resource }}, target: {type: Utilization, averageUtilization: {{ . }}}}
    {{- end }}
    {{- end }}
    {{- with .values.autoscaling.metrics }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .values.autoscaling.behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- $least := 2 }}{{/* unknown where something else scales */}}
{{- if $scaled }}{{ $least = int .values.autoscaling.minReplicas }}{{ else if $fixed }}{{ $least = int .values.replicas }}{{ end }}
{{- $budget := .values.podDisruptionBudget }}
{{- if and $budget.enabled (gt $least 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" $budget.minAvailable) }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: {{ $budget.unhealthyPodEvictionPolicy }}
  selector:
    matchLabels: {{- include "chatr.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* The Service of a component. */}}
{{- define "chatr.serviceObject" -}}
{{- $service := .values.service -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "chatr.fullname" .root }}-{{ .component }}
  labels:
    {{- include "chatr.labels" . | nindent 4 }}
    {{- with $service.labels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- range $key := list "type" "loadBalancerClass" "externalTrafficPolicy" }}
  {{- with get $service $key }}
  {{ $key }}: {{ . }}
  {{- end }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{- toYaml . | nindent 4 }}
  {{- end }}
  selector: {{- include "chatr.selector" . | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .portName }}
      {{- with $service.appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
      {{- with $service.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end }}

{{/* Whole seconds of a duration such as 20s, 1m30s or 1.5h, rounded up. */}}
{{- define "chatr.seconds" -}}
{{- $seconds := 0.0 -}}
{{- $units := dict "ns" 0.000000001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- range regexFindAll "[0-9.]+[a-zµμ]+" (toString .) -1 -}}
{{- $unit := regexFind "[a-zµμ]+" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get $units $unit)) -}}
{{- end -}}
{{- ceil $seconds | int -}}
{{- end }}

{{/* How long gateways take to leave, wherever that is set. */}}
{{- define "chatr.drainTime" -}}
{{ dig "gateway" "drainTime" .Values.gateway.drainTime .Values.settings | default .Values.gateway.drainTime }}
{{- end }}

{{/* The settings file of all services: their own settings, then the tenants. */}}
{{- define "chatr.settings" -}}
{{ include "chatr.ownSettings" . }}
{{ include "chatr.tenants" . }}
{{- end }}

{{- define "chatr.ownSettings" -}}
{{- $own := dict
  "log" (dict "level" .Values.log.level)
  "gateway" (dict "url" (printf "http://%s-gateway:8080" (include "chatr.fullname" .)) "drainTime" .Values.gateway.drainTime)
  "auth" (dict "guests" .Values.chat.guests "legacyGuests" .Values.chat.legacyGuests)
  "chat" (dict "idleAfter" .Values.chat.idleAfter "publicUrl" .Values.chat.publicUrl) -}}
{{- include "chatr.mergeInto" (dict "base" $own "over" (deepCopy .Values.settings)) -}}
{{ toYaml $own }}
{{- end }}

{{/* The proxies that the chat trusts, as text, unless the settings say so themselves. New pods have them in their environment,
     since the settings file is read by pods of the version before as well, which would refuse this setting's new name. */}}
{{- define "chatr.trustedProxies" -}}
{{- $settings := .Values.settings.chat | default dict -}}
{{- if not (or (hasKey $settings "trustedProxies") (hasKey $settings "proxies")) -}}
{{- $proxies := .Values.chat.trustedProxies -}}
{{- if hasKey .Values.chat "proxies" }}{{ $proxies = .Values.chat.proxies }}{{ end -}}
{{- if kindIs "slice" $proxies }}{{ join "," $proxies }}{{ else if not (kindIs "invalid" $proxies) }}{{ $proxies }}{{ end -}}
{{- end -}}
{{- end }}

{{/* The default tenant and those of the values. The hub of the chat is in the chat's tenant; a hub of that name among the
     values says what is different about it. */}}
{{- define "chatr.tenants" -}}
{{- $chatTenant := dig "chat" "tenant" "default" .Values.settings | default "default" -}}
{{- $chatHub := dig "chat" "hub" "chat" .Values.settings | default "chat" -}}
{{- $events := printf "http://%s-events:8080" (include "chatr.fullname" .) -}}
{{- $default := dict "name" "default" "hosts" (list "*") "limits" .Values.limits "hubs" .Values.hubs -}}
{{- include "chatr.mergeInto" (dict "base" $default "over" (deepCopy .Values.defaultTenant)) -}}
{{- $tenants := list -}}
{{- $found := false -}}
{{- range prepend .Values.tenants $default -}}
{{- $tenant := deepCopy . -}}
{{- if eq .name $chatTenant -}}
{{- $found = true -}}
{{- $hub := dict "name" $chatHub "listeners" (list "history") "messagesPerSecond" 100 "chat" $events "handlers" (list (dict
  "url" (printf "%s/eventhandler/{event}" $events) "userEvents" "*" "systemEvents" (list "connect" "connected" "disconnected"))) -}}
{{- $hubs := list -}}
{{- range .hubs -}}
{{- if eq (lower .name) (lower $chatHub) -}}
{{- include "chatr.mergeInto" (dict "base" $hub "over" (deepCopy .)) -}}
{{- else -}}
{{- $hubs = append $hubs . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $tenant "hubs" (prepend $hubs $hub) -}}
{{- end -}}
{{- $tenants = append $tenants $tenant -}}
{{- end -}}
{{- if not $found }}{{ fail (printf "settings.chat.tenant is %s, and there is no such tenant" $chatTenant) }}{{ end -}}
{{ toYaml (dict "tenants" $tenants) }}
{{- end }}

{{/* What belongs to the gateways; everything else is the API service's. Lines of a kind, as Ingress has them, and a path. */}}
{{- define "chatr.gatewayPaths" -}}
Prefix: [/client, /clients, /ws, /api/hubs]
Exact: [/api/health, /api/v1/health, /livetrace]
{{- end }}
