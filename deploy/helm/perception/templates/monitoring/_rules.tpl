{{/*
The groups of rules/*.yaml with what the values say: the release's namespace in every selector, the latency objective,
and for each alert whether it is there, its severity, its `for`, and the number at the end of its expression.
*/}}

{{- define "perception.ruleGroups" -}}
{{- $groups := list -}}
{{- range $path := list "rules/recording.yaml" "rules/alerts.yaml" -}}
  {{- range $group := (fromYaml ($.Files.Get $path)).groups -}}
    {{- $rules := list -}}
    {{- range $rule := $group.rules -}}
      {{- $_ := set $rule "expr" (include "perception.ruleExpression" (dict "root" $ "expr" $rule.expr)) -}}
      {{- if $rule.alert -}}
        {{- $alert := index $.Values.monitoring.alerts ($rule.alert | trimPrefix "Perception" | untitle) -}}
        {{- if $alert.enabled -}}
          {{- $rules = append $rules (include "perception.alert" (dict "root" $ "rule" $rule "alert" $alert) | fromJson) -}}
        {{- end -}}
      {{- else -}}
        {{- $rules = append $rules $rule -}}
      {{- end -}}
    {{- end -}}
    {{- with $rules -}}
      {{- $groups = append $groups (dict "name" $group.name "rules" .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}

{{- define "perception.ruleExpression" -}}
{{- $objective := .root.Values.monitoring.latencyObjective -}}
{{- .expr
  | replace "job=\"perception\"" (printf "job=\"perception\", namespace=\"%s\"" .root.Release.Namespace)
  | replace "le=\"0.5\"" (printf "le=\"%s\"" $objective.seconds)
  | replace "(1 - 0.99)" (printf "(1 - %v)" $objective.ratio) -}}
{{- end -}}

{{/* One alert as JSON. Takes root, rule, and alert: its values. */}}
{{- define "perception.alert" -}}
{{- $rule := .rule -}}
{{- $values := .root.Values.monitoring.rules -}}
{{- $_ := set $rule "for" .alert.for -}}
{{- $_ := set $rule "labels" (merge (dict "severity" .alert.severity) $values.alertLabels) -}}
{{- if hasKey .alert "threshold" -}}
  {{- $_ := set $rule "expr" (regexReplaceAll "[0-9.]+$" $rule.expr (toString .alert.threshold)) -}}
{{- end -}}
{{- $runbook := printf "%s/%s.md" (trimSuffix "/" $values.runbooksUrl) $rule.alert -}}
{{- $_ := set $rule.annotations "runbook_url" $runbook -}}
{{- toJson $rule -}}
{{- end -}}
