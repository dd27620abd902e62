{{/* What all Pods of the release have in common. Each takes a workload: root, component, pool, agent, spec. */}}

{{/* Without the chart's version, which would start all Pods anew with every version of the chart. */}}
{{- define "perception.podMetadata" -}}
{{- $pod := include "perception.podValues" . | fromJson -}}
labels:
  {{- include "perception.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: perception
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $pod.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $pod.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "perception.podValues" -}}
{{- mergeOverwrite (deepCopy .root.Values.pod) (deepCopy .spec.pod) | toJson -}}
{{- end -}}

{{/* Everything of a Pod but its containers and volumes; `graceSeconds`: its time from preStop to the end. */}}
{{- define "perception.podSpec" -}}
{{- $pod := include "perception.podValues" . | fromJson -}}
{{- $gpu := .spec.gpu | default dict -}}
{{- $affinity := $pod.affinity -}}
{{- if and $gpu.count $gpu.products -}}
  {{- $product := dict "key" "nvidia.com/gpu.product" "operator" "In" "values" $gpu.products -}}
  {{- $terms := list (dict "matchExpressions" (list $product)) -}}
  {{- $required := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
  {{- if $affinity.nodeAffinity -}}
    {{- fail (printf "triton.pools.%s: gpu.products and pod.affinity.nodeAffinity both choose nodes: expected one of them; the label of a product is nvidia.com/gpu.product" .pool) -}}
  {{- end -}}
  {{- $affinity = merge (dict "nodeAffinity" $required) $affinity -}}
{{- end -}}
serviceAccountName: {{ include "perception.workloadName" . }}
automountServiceAccountToken: false
# Variables of other Services would slip into the settings by their names.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .graceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .runAsUser }}
  runAsGroup: {{ .runAsUser }}
  fsGroup: {{ .runAsUser }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .spec.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (ternary $gpu.tolerations list (gt (int $gpu.count) 0)) $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "perception.topologySpread" . }}
{{- end -}}

{{- define "perception.topologySpread" -}}
{{- $keys := dict "zone" "topology.kubernetes.io/zone" "node" "kubernetes.io/hostname" -}}
{{- $spread := list -}}
{{- range $over := list "zone" "node" -}}
  {{- with index $.root.Values.topologySpread $over -}}
    {{- $spread = append $spread (dict
      "maxSkew" 1
      "topologyKey" (index $keys $over)
      "whenUnsatisfiable" .
      "nodeTaintsPolicy" "Honor"
      "labelSelector" (dict "matchLabels" (include "perception.selectorLabels" $ | fromYaml))
      "matchLabelKeys" (list "pod-template-hash")) -}}
  {{- end -}}
{{- end -}}
{{- with $spread }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What restricted Pod Security asks of every container, and a root file system that nobody writes to. */}}
{{- define "perception.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "perception.containerPorts" -}}
{{- range $name, $port := include "perception.ports" .component | fromYaml }}
- {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
{{- end }}
{{- if and .root.Values.tls.enabled (not (has .component (list "viewer" "triton"))) }}
- {name: health, containerPort: {{ include "perception.probePort" . }}, protocol: TCP}
{{- end }}
{{- end -}}

{{/* The Pod leaves its Service first; its callers learn of it while it still answers. */}}
{{- define "perception.preStop" -}}
preStop:
  sleep: {seconds: {{ .preStopSeconds | default .root.Values.preStopSeconds }}}
{{- end -}}

{{/*
Probes of gateway and task services. Their gRPC health follows the models behind them, so it decides about readiness
alone: a restart would not bring Triton back. Under the name `liveness` it says whether the process works.
*/}}
{{- define "perception.serviceProbes" -}}
startupProbe:
  grpc: {port: {{ include "perception.probePort" . }}, service: liveness}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  grpc: {port: {{ include "perception.probePort" . }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: {{ include "perception.probePort" . }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
{{- end -}}

{{/* Resources; for a pool with its GPUs. */}}
{{- define "perception.resources" -}}
{{- $resources := deepCopy .spec.resources -}}
{{- $gpu := .spec.gpu | default dict -}}
{{- if gt (int $gpu.count) 0 -}}
  {{- $_ := set $resources "limits" (merge (dict $gpu.resource (int $gpu.count)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/*
How an update goes, and how many Pods there are. What scales them decides, so an update writes down what there are: a
Deployment that says nothing where it said something before goes back to one Pod.
*/}}
{{- define "perception.deployment" -}}
{{- if or (eq .root.Values.autoscaling.kind "none") (not .spec.autoscaling) }}
replicas: {{ .spec.replicas }}
{{- else }}
{{- with lookup "apps/v1" "Deployment" .root.Release.Namespace (include "perception.workloadName" .) }}
replicas: {{ int .spec.replicas }}
{{- end }}
{{- end }}
revisionHistoryLimit: 3
selector:
  matchLabels:
    {{- include "perception.selectorLabels" . | nindent 4 }}
{{- end -}}

{{- define "perception.rollingUpdate" -}}
strategy:
  type: RollingUpdate
  rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
{{- end -}}

{{/* Settings that all services of ours have. */}}
{{- define "perception.serviceEnvironment" -}}
- {name: HOST, value: "0.0.0.0"}
- {name: PORT, value: {{ ternary (include "perception.httpPort" .component) (include "perception.grpcPort" .component) (eq .component "viewer") | quote }}}
- {name: METRICS_PORT, value: {{ include "perception.metricsPort" .component | quote }}}
- {name: LOG_LEVEL, value: {{ .root.Values.logLevel }}}
- {name: DRAIN_SECONDS, value: {{ .root.Values.drainSeconds | quote }}}
{{- if ne .component "viewer" }}
- {name: MAX_CONNECTION_AGE_SECONDS, value: {{ .root.Values.maxConnectionAgeSeconds | quote }}}
{{- end }}
{{- include "perception.environment" .spec.settings }}
{{- include "perception.securityEnvironment" . }}
{{- include "perception.pythonEnvironment" . }}
{{- include "perception.tracingEnvironment" . }}
{{- end -}}

{{/* Traces of our own services; nothing where there is no collector. */}}
{{- define "perception.tracingEnvironment" -}}
{{- with .root.Values.tracing -}}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: parentbased_traceidratio}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .samplingRatio | quote }}}
- name: K8S_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "k8s.namespace.name={{ $.root.Release.Namespace }},k8s.pod.name=$(K8S_POD_NAME)"}
{{- end }}
{{- end }}
{{- end -}}

{{- define "perception.tracingSecret" -}}
{{- with .root.Values.tracing -}}
{{- if and .endpoint .environmentSecret -}}
envFrom: [{secretRef: {name: {{ .environmentSecret }}}}]
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "perception.pythonEnvironment" }}
- {name: PYTHONUNBUFFERED, value: "1"}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: HOME, value: /tmp}
{{- end -}}

{{- define "perception.scratchVolume" -}}
- name: scratch
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}

{{- define "perception.scratchMount" -}}
- {name: scratch, mountPath: /tmp}
{{- end -}}
