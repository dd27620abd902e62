{{/* What the schema cannot say. Each mistake ends the rendering with what was expected and what was found. */}}
{{- define "perception.checks" -}}
{{- $workloads := include "perception.workloads" . | fromJsonArray -}}
{{- $tasks := list -}}
{{- range $w := $workloads -}}
  {{- if $w.spec.task -}}
    {{- $tasks = append $tasks $w.spec.task -}}
    {{- if eq $w.spec.engine "triton" -}}
      {{- $_ := include "perception.poolOf" (dict "root" $ "model" $w.spec.model) -}}
    {{- end -}}
  {{- end -}}
  {{- if $w.pool -}}
    {{- $rolling := $w.spec.rollingUpdate -}}
    {{- if and (eq (toString $rolling.maxSurge) "0") (eq (toString $rolling.maxUnavailable) "0") -}}
      {{- fail (printf "triton.pools.%s.rollingUpdate: expected maxSurge or maxUnavailable above 0, found both 0" $w.pool) -}}
    {{- end -}}
  {{- end -}}
  {{- with $w.spec.autoscaling -}}
    {{- if gt (int .minReplicas) (int .maxReplicas) -}}
      {{- fail (printf "%s autoscaling: expected minReplicas up to maxReplicas, %v, found %v" (list $w.component $w.pool | compact | join " ") .maxReplicas .minReplicas) -}}
    {{- end -}}
  {{- end -}}
  {{- if $w.agent -}}
    {{- include "perception.checkAgent" (set $w "root" $) -}}
  {{- end -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.gatewayApi.enabled) .Values.networkPolicy.enabled (not .Values.networkPolicy.gatewayClients) -}}
  {{- fail "networkPolicy.gatewayClients: the controller behind ingress or gatewayApi has to reach the gateway: expected such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}], found none" -}}
{{- end -}}
{{- if and .Values.tracing.tritonEndpoint (not .Values.tracing.endpoint) -}}
  {{- fail "tracing.tritonEndpoint: Triton goes on with the traces of its callers, which have none: expected tracing.endpoint as well, found none" -}}
{{- end -}}
{{- if and .Values.tracing.endpoint .Values.networkPolicy.enabled (not .Values.networkPolicy.collector) -}}
  {{- fail "networkPolicy.collector: no rule lets traces reach the collector: expected such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], found none" -}}
{{- end -}}
{{- if not $tasks -}}
  {{- fail "tasks: expected at least one that is enabled, found none" -}}
{{- end -}}
{{- end -}}

{{- define "perception.checkAgent" -}}
{{- if and .spec.cameras .spec.existingSecret -}}
  {{- fail (printf "cameras.agents.%s: expected cameras or existingSecret, found both" .agent) -}}
{{- end -}}
{{- if not (or .spec.cameras .spec.existingSecret) -}}
  {{- fail (printf "cameras.agents.%s: expected cameras or existingSecret, found neither" .agent) -}}
{{- end -}}
{{- $names := list -}}
{{- range .spec.cameras -}}
  {{- if has .name $names -}}
    {{- fail (printf "cameras.agents.%s.cameras: expected no two cameras of one name, found %s" $.agent .name) -}}
  {{- end -}}
  {{- $names = append $names .name -}}
  {{- if and (regexMatch "^(rtsps?|https?):" (lower .source)) $.root.Values.networkPolicy.enabled (not $.root.Values.networkPolicy.cameraSources) -}}
    {{- fail (printf "networkPolicy.cameraSources: camera %s of agent %s is in a network, and no rule lets agents reach it: expected such as [{cidr: 10.0.20.0/24, ports: [554]}], found none" .name $.agent) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
