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

{{- define "chatr.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "chatr.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "chatr.fullname" .) }}
{{- end }}

{{/* What the "restricted" Pod Security Standard asks for, and a root file system that nobody can write to. */}}
{{- define "chatr.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "chatr.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The secrets a component needs and no others, as files: they do not show in the pod's specification or environment. */}}
{{- define "chatr.secretVolume" -}}
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

{{/* One of the three services: Deployment, Service and PodDisruptionBudget. */}}
{{- define "chatr.service" -}}
{{- $name := printf "%s-%s" (include "chatr.fullname" .root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  selector:
    matchLabels: {{- include "chatr.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    # A new pod must be ready before an old one goes: clients that have to leave find somewhere to go.
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels: {{- include "chatr.labels" . | nindent 8 }}
      annotations:
        # Tenants, hubs and access keys are reloaded while running; other settings need new pods. So do addresses of stores,
        # as far as they are values; after a change in a Secret of your own: kubectl rollout restart.
        checksum/settings: {{ include "chatr.ownSettings" .root | sha256sum }}
        checksum/secrets: {{ list .root.Values.keys .root.Values.postgres.url .root.Values.redis.url | toJson | sha256sum }}
        {{- with .values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ include "chatr.serviceAccount" .root }}
      automountServiceAccountToken: false
      # Service names as environment variables would only be noise beside CHATR_… settings.
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- include "chatr.podSecurity" (dict "uid" 65532) | nindent 8 }}
      # Longer than preStop and draining together, or the kubelet would cut off those who are still leaving.
      terminationGracePeriodSeconds: {{ .grace }}
      containers:
        - name: {{ .component }}
          image: {{ include "chatr.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: [{{ .component }}, --config, /etc/chatr/settings/chatr.yaml]
          securityContext: {{- include "chatr.containerSecurity" . | nindent 12 }}
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
            {{- if eq .component "api" }}
            - {name: CHATR_AUTH_SESSION_KEY_FILE, value: /etc/chatr/secrets/session-key}
            {{- end }}
            # The collector works harder before the memory limit ends the process: from 95 percent of it, which is what each
            # MiB counted as 1000000 bytes makes. The rest is for what Go does not count, such as the kernel's socket buffers.
            - name: MEMORY_MIB
              valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}
            - {name: GOMEMLIMIT, value: $(MEMORY_MIB)000000}
          volumeMounts:
            - {name: settings, mountPath: /etc/chatr/settings, readOnly: true} # no subPath: those are never updated
            - {name: secrets, mountPath: /etc/chatr/secrets, readOnly: true}
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
          lifecycle:
            # Endpoints take a moment to disappear everywhere; until then this pod still takes new connections.
            preStop: {sleep: {seconds: 3}}
          resources: {{- toYaml .values.resources | nindent 12 }}
      volumes:
        - name: settings
          secret:
            secretName: {{ include "chatr.fullname" .root }}-settings
        {{- include "chatr.secretVolume" . | nindent 8 }}
      # Spread over nodes, so that one node's end does not take all of a service along.
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "chatr.selector" . | nindent 14 }}
          matchLabelKeys: [pod-template-hash] # do not count the pods that an upgrade is replacing
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  selector: {{- include "chatr.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8080, targetPort: http}
{{- if gt (int .values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "chatr.labels" . | nindent 4 }}
spec:
  # One pod at a time, when nodes are drained for maintenance.
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "chatr.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Seconds of a duration such as 20s or 2m. */}}
{{- define "chatr.seconds" -}}
{{- if hasSuffix "ms" . }}1{{ else if hasSuffix "m" . }}{{ mul 60 (trimSuffix "m" . | int) }}{{ else }}{{ trimSuffix "s" . | int }}{{ end }}
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
  "chat" (dict "idleAfter" .Values.chat.idleAfter "publicUrl" .Values.chat.publicUrl "proxies" .Values.chat.proxies) -}}
{{ mergeOverwrite $own (deepCopy .Values.settings) | toYaml }}
{{- end }}

{{- define "chatr.tenants" -}}
tenants:
  - name: default
    hosts: ["*"]
    limits: {{- toYaml .Values.limits | nindent 6 }}
    hubs:
      - name: chat
        handlers:
          - url: http://{{ include "chatr.fullname" . }}-events:8080/eventhandler/{event}
            userEvents: "*"
            systemEvents: [connect, connected, disconnected]
        listeners: [history]
        messagesPerSecond: 100
        chat: http://{{ include "chatr.fullname" . }}-events:8080
      {{- with .Values.hubs }}{{ toYaml . | nindent 6 }}{{ end }}
  {{- with .Values.tenants }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
