{{/* What the system is scaled on. Each takes a workload. */}}

{{- define "perception.seriesSelector" -}}
namespace="{{ .root.Release.Namespace }}",pod=~"{{ include "perception.workloadName" . }}-[a-z0-9]+-[a-z0-9]+"
{{- end -}}

{{/*
Microseconds that a request waits in Triton's queue, over the Pods of a pool. Sums before the division, so that an idle
model does not count as an empty queue; 0 where nothing was asked. Nothing where Prometheus sees no Pod: then there stay
as many as there are.
*/}}
{{- define "perception.queueQuery" -}}
{{- $selector := include "perception.seriesSelector" . -}}
{{- $requests := printf "sum(rate(nv_inference_request_success{%s}[2m]))" $selector -}}
sum(rate(nv_inference_queue_duration_us{ {{- $selector -}} }[2m])) / ({{ $requests }} > 0) or 0 * {{ $requests }}
{{- end -}}

{{/*
Frames at work in all Pods of a service. A camera's stream counts as one request for as long as it is open, so the
gateway's are counted by their frames. A service exports its requests from the first on; until then it has none.
*/}}
{{- define "perception.inFlightQuery" -}}
{{- $selector := include "perception.seriesSelector" . -}}
{{- $requests := printf "sum(avg_over_time(perception_requests_in_flight{%s,method!~\".*Stream\"}[1m]))" $selector -}}
{{- if eq .component "gateway" -}}
{{- $frames := printf "sum(avg_over_time(perception_stream_frames_at_work{%s}[1m]))" $selector -}}
({{ $requests }} or 0 * {{ $frames }}) + {{ $frames }}
{{- else -}}
{{ $requests }} or 0 * sum(process_start_time_seconds{ {{- $selector -}} })
{{- end -}}
{{- end -}}

{{- define "perception.scalingQuery" -}}
{{- if eq .component "triton" }}{{ include "perception.queueQuery" . }}{{ else }}{{ include "perception.inFlightQuery" . }}{{ end -}}
{{- end -}}

{{- define "perception.scalingMetric" -}}
{{- if eq .component "triton" }}perception_triton_queue_microseconds{{ else }}perception_frames_in_flight{{ end -}}
{{- end -}}
