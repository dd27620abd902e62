{{/* What the system is scaled on. Each takes a workload. */}}

{{- define "perception.seriesSelector" -}}
namespace="{{ .root.Release.Namespace }}",pod=~"{{ include "perception.workloadName" . }}-[a-z0-9]+-[a-z0-9]+"
{{- end -}}

{{/*
Microseconds that a request waits in Triton's queue, over the Pods of a pool. Sums before the division, so that an idle
model does not count as an empty queue; 0 where nothing was asked.
*/}}
{{- define "perception.queueQuery" -}}
{{- $selector := include "perception.seriesSelector" . -}}
sum(rate(nv_inference_queue_duration_us{ {{- $selector -}} }[1m])) / (sum(rate(nv_inference_request_success{ {{- $selector -}} }[1m])) > 0) or vector(0)
{{- end -}}

{{/*
Frames at work in all Pods of a service. A camera's stream counts as one request for as long as it is open, so the
gateway's are counted by their frames.
*/}}
{{- define "perception.inFlightQuery" -}}
{{- $selector := include "perception.seriesSelector" . -}}
(sum(avg_over_time(perception_requests_in_flight{ {{- $selector -}} ,method!~".*Stream"}[1m])) or vector(0))
{{- if eq .component "gateway" }} + (sum(avg_over_time(perception_stream_frames_at_work{ {{- $selector -}} }[1m])) or vector(0)){{ end -}}
{{- end -}}

{{- define "perception.scalingQuery" -}}
{{- if eq .component "triton" }}{{ include "perception.queueQuery" . }}{{ else }}{{ include "perception.inFlightQuery" . }}{{ end -}}
{{- end -}}

{{- define "perception.scalingMetric" -}}
{{- if eq .component "triton" }}perception_triton_queue_microseconds{{ else }}perception_frames_in_flight{{ end -}}
{{- end -}}
