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
{{- include "perception.checkTls" . -}}
{{- include "perception.checkAuthentication" . -}}
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

{{- define "perception.checkTls" -}}
{{- $tls := .Values.tls -}}
{{- $source := or $tls.secretName $tls.certManager.issuerRef -}}
{{- if and $source (not $tls.enabled) -}}
  {{- fail "tls: there is a certificate, and nobody uses it: expected tls.enabled: true, found false" -}}
{{- end -}}
{{- if and $tls.certManager.issuerRef (not $tls.certManager.issuerRef.name) -}}
  {{- fail "tls.certManager.issuerRef: expected a name, such as {name: perception, kind: Issuer}, found none" -}}
{{- end -}}
{{- if $tls.enabled -}}
  {{- if not $source -}}
    {{- fail "tls.secretName: expected a Secret with tls.crt, tls.key and ca.crt, or tls.certManager.issuerRef, which makes one; found neither" -}}
  {{- end -}}
  {{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.caConfigMap) -}}
    {{- fail "gatewayApi.caConfigMap: with tls.enabled the Gateway checks the gateway's certificate: expected a ConfigMap with ca.crt, found none" -}}
  {{- end -}}
  {{- include "perception.checkTlsOfIngress" . -}}
{{- end -}}
{{- end -}}

{{- define "perception.checkTlsOfIngress" -}}
{{- $annotations := .Values.ingress.annotations -}}
{{- $nginx := hasKey $annotations "nginx.ingress.kubernetes.io/backend-protocol" -}}
{{- $passes := eq (get $annotations "nginx.ingress.kubernetes.io/ssl-passthrough") "true" -}}
{{- if and .Values.ingress.enabled $nginx (not $passes) .Values.tls.mutual .Values.tls.mutualAtGateway -}}
  {{- fail "tls.mutualAtGateway: ingress-nginx shows gRPC servers no certificate: expected false, or the annotation nginx.ingress.kubernetes.io/ssl-passthrough: \"true\", which lets callers show theirs; found true" -}}
{{- end -}}
{{- end -}}

{{- define "perception.checkAuthentication" -}}
{{- $values := .Values.authentication -}}
{{- $jwks := $values.jwks -}}
{{- $keys := or $jwks.url $jwks.configMap -}}
{{- if and (or $values.tokensSecret $keys) (not $values.enabled) -}}
  {{- fail "authentication: there are tokens or keys, and nobody asks for them: expected authentication.enabled: true, found false" -}}
{{- end -}}
{{- if and $values.enabled (not (or $values.tokensSecret $keys)) -}}
  {{- fail "authentication: nobody could call: expected tokensSecret, jwks.url or jwks.configMap, found none" -}}
{{- end -}}
{{- if and $values.enabled (not $values.callerTokenSecret) -}}
  {{- fail "authentication.callerTokenSecret: camera agents, the viewer and helm test call the gateway: expected a Secret with their token, found none" -}}
{{- end -}}
{{- if and $jwks.url $jwks.configMap -}}
  {{- fail "authentication.jwks: expected url or configMap, found both" -}}
{{- end -}}
{{- range $name := list "issuer" "audience" -}}
  {{- if and $keys (not (get $jwks $name)) -}}
    {{- fail (printf "authentication.jwks.%s: tokens that a provider signed for others would be accepted: expected the one that they name, found none" $name) -}}
  {{- end -}}
{{- end -}}
{{- if and $values.enabled $jwks.url .Values.networkPolicy.enabled (not .Values.networkPolicy.identityProvider) -}}
  {{- fail "networkPolicy.identityProvider: no rule lets the gateway reach authentication.jwks.url: expected such as [{cidr: 10.0.0.0/8, ports: [443]}], found none" -}}
{{- end -}}
{{- end -}}
