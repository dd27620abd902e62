{{/*
Names, labels, images. A workload is one Deployment; it is passed around as a dict with `root` (the chart's `.`),
`component` (gateway, detection, …), and for one pool of Triton or one camera agent its name as `pool` or `agent`.
*/}}

{{- define "perception.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 24 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that Kubernetes cuts no Pod's name: the longest is this, `-semantic-segmentation` and two hashes. */}}
{{- define "perception.fullname" -}}
{{- $name := include "perception.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 24 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of a workload's objects. */}}
{{- define "perception.workloadName" -}}
{{- list (include "perception.fullname" .root) .component .pool .agent | compact | join "-" -}}
{{- end -}}

{{/* Labels that never change, by which Services, policies and monitors find Pods. */}}
{{- define "perception.selectorLabels" -}}
app.kubernetes.io/name: {{ include "perception.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
perception/pool: {{ . }}
{{- end }}
{{- with .agent }}
perception/agent: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object; `component`, `pool` and `agent` where it belongs to one. */}}
{{- define "perception.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "perception.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: perception
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image's name with its digest, or its tag. Takes `root` and `image`. */}}
{{- define "perception.image" -}}
{{- with .image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.root.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where a workload's gRPC Service is; all its Pods, because the Service is headless. */}}
{{- define "perception.address" -}}
dns:///{{ include "perception.workloadName" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:{{ include "perception.grpcPort" .component }}
{{- end -}}

{{/* Ports of the processes; the names of container and Service ports are `grpc`, `http` and `metrics`. */}}
{{- define "perception.grpcPort" -}}
{{- if eq . "triton" }}8001{{ else if eq . "camera" }}50060{{ else }}50050{{ end -}}
{{- end -}}

{{- define "perception.httpPort" -}}
{{- if eq . "triton" }}8000{{ else }}8080{{ end -}}
{{- end -}}

{{- define "perception.metricsPort" -}}
{{- if eq . "triton" }}8002{{ else if eq . "camera" }}9060{{ else if eq . "viewer" }}9080{{ else }}9090{{ end -}}
{{- end -}}

{{/* The ports of a component by name, as YAML: `grpc: 50050`. */}}
{{- define "perception.ports" -}}
{{- if ne . "viewer" }}
grpc: {{ include "perception.grpcPort" . }}
{{- end }}
{{- if has . (list "viewer" "triton") }}
http: {{ include "perception.httpPort" . }}
{{- end }}
metrics: {{ include "perception.metricsPort" . }}
{{- end -}}

{{/*
All workloads of the release as JSON. Each has component, pool, agent, and `spec`: its values with the defaults that
it shares with others.
*/}}
{{- define "perception.workloads" -}}
{{- $all := list (dict "component" "gateway" "spec" .Values.gateway) -}}
{{- range $task, $own := .Values.tasks -}}
  {{- $spec := mergeOverwrite (deepCopy $.Values.taskDefaults) (deepCopy ($own | default dict)) -}}
  {{- $_ := set $spec "task" (snakecase $task) -}}
  {{- $_ := set $spec "model" (default (snakecase $task) $spec.model) -}}
  {{- if $spec.enabled -}}
    {{- $all = append $all (dict "component" (kebabcase $task) "spec" $spec) -}}
  {{- end -}}
{{- end -}}
{{- if include "perception.usesTriton" . -}}
  {{- range $pool, $own := .Values.triton.pools -}}
    {{- $spec := mergeOverwrite (deepCopy $.Values.triton.poolDefaults) (deepCopy ($own | default dict)) -}}
    {{- if $spec.models -}}
      {{- $all = append $all (dict "component" "triton" "pool" $pool "spec" $spec) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $agent, $own := .Values.cameras.agents -}}
  {{- $spec := mergeOverwrite (deepCopy $.Values.cameras.agentDefaults) (deepCopy ($own | default dict)) -}}
  {{- $all = append $all (dict "component" "camera" "agent" $agent "spec" $spec) -}}
{{- end -}}
{{- if .Values.viewer.enabled -}}
  {{- $all = append $all (dict "component" "viewer" "spec" .Values.viewer) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* `true` where a task's model runs in Triton, else nothing. */}}
{{- define "perception.usesTriton" -}}
{{- range $task, $own := .Values.tasks -}}
  {{- $spec := mergeOverwrite (deepCopy $.Values.taskDefaults) (deepCopy ($own | default dict)) -}}
  {{- if and $spec.enabled (eq $spec.engine "triton") }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* The name of the one pool that loads a model. Takes `root` and `model`; ends the rendering where there is none. */}}
{{- define "perception.poolOf" -}}
{{- $found := list -}}
{{- range $pool, $own := .root.Values.triton.pools -}}
  {{- $spec := mergeOverwrite (deepCopy $.root.Values.triton.poolDefaults) (deepCopy ($own | default dict)) -}}
  {{- if has $.model $spec.models -}}{{- $found = append $found $pool -}}{{- end -}}
{{- end -}}
{{- if not $found -}}
  {{- fail (printf "triton.pools: no pool loads the model %s: expected it in the models of one pool, found pools %s" .model (keys .root.Values.triton.pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if gt (len $found) 1 -}}
  {{- fail (printf "triton.pools: the model %s is in pools %s: expected one. `triton.pools.default.models: []` leaves the chart's own pool out" .model (join ", " $found)) -}}
{{- end -}}
{{- first $found -}}
{{- end -}}

{{/* Environment variables from a map. Whole numbers stay whole: Helm reads 50000000 as 5e+07. */}}
{{- define "perception.environment" -}}
{{- range $name, $value := . }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}
