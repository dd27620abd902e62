"""What saturates next?"""

from __future__ import annotations

from deploy.monitoring.grafana import SELECTOR, Dashboard, Query, Row, graph, number

_GATEWAY = f'{SELECTOR}, component="gateway"'


def _limit(resource: str) -> str:
    return f'sum by (component) (perception_limit{{{SELECTOR}, resource="{resource}"}})'


_STREAMS = f"sum by (component) (perception_streams{{{_GATEWAY}}}) / {_limit('streams')}"
_STREAM_FRAMES = (
    f"sum by (component) (avg_over_time(perception_stream_frames_at_work{{{_GATEWAY}}}[$__rate_interval])) "
    f"/ {_limit('stream_frames')}"
)
# A stream counts as one request for as long as it is open, and not against this limit.
_REQUESTS = (
    "sum by (component) (avg_over_time(perception_requests_in_flight"
    f'{{{SELECTOR}, method!~".*Stream|.*/Watch.*"}}[$__rate_interval])) / {_limit("requests")}'
)
_CPU = f"sum by (component) (rate(process_cpu_seconds_total{{{SELECTOR}}}[$__rate_interval]))"
_PODS = f"sum by (component) (perception:pods_up:sum{{{SELECTOR}}})"

CAPACITY = Dashboard(
    name="capacity",
    title="Capacity",
    purpose=(
        "What saturates next? Each row compares what is used with what there is; the fullest one limits the system."
    ),
    rows=[
        Row(
            "How full",
            [
                number(
                    "Streams",
                    "Under 80 %. At 100 % the gateway refuses cameras: more Pods, or a greater MAX_STREAMS.",
                    _STREAMS,
                    unit="percentunit",
                    limit=0.8,
                ),
                number(
                    "Frames at work",
                    "Under 80 %. At 100 % cameras wait for their turn and lose frames: more Pods of the gateway, if "
                    "the "
                    "task services and Triton have room.",
                    _STREAM_FRAMES,
                    unit="percentunit",
                    limit=0.8,
                ),
                number(
                    "Requests, fullest service",
                    "Under 80 %. At 100 % requests are refused as RESOURCE_EXHAUSTED.",
                    f"max({_REQUESTS})",
                    unit="percentunit",
                    limit=0.8,
                ),
                number(
                    "Longest queue in Triton",
                    "Under 20 ms, where scaling begins. Triton is what is most often full first.",
                    f"max(perception:triton_queue_seconds:mean_rate2m{{{SELECTOR}}})",
                    unit="s",
                    limit=0.02,
                ),
                number(
                    "GPU memory, fullest",
                    "Under the threshold.",
                    f"max(perception:gpu_memory_used:ratio{{{SELECTOR}}})",
                    unit="percentunit",
                    limit=0.95,
                ),
                number(
                    "Cameras with less than all",
                    "0. So many streams leave attributes or masks out, because there is no time for them.",
                    f"count(perception_stream_degradation{{{_GATEWAY}}} > 0) or vector(0)",
                    limit=1,
                ),
            ],
        ),
        Row(
            "Gateway and task services",
            [
                graph(
                    "Used, of what the limits allow",
                    "The line nearest to 100 % is what saturates next. Level under a steady load.",
                    Query(_STREAMS, "streams"),
                    Query(_STREAM_FRAMES, "frames of streams"),
                    Query(_REQUESTS, "requests {{component}}"),
                    unit="percentunit",
                    limit=0.8,
                ),
                graph(
                    "CPU cores used, per Pod",
                    "Under the CPU that a Pod requests. Above it, it lives on what its neighbours leave; decoding and "
                    "fusion get slower when they wake up.",
                    Query(f"{_CPU} / ({_PODS} > 0)", "{{component}}"),
                    columns=6,
                ),
                graph(
                    "Memory, largest Pod",
                    "Level under the Pod's limit. A line that climbs for days is a leak.",
                    Query(f"max by (component) (process_resident_memory_bytes{{{SELECTOR}}})", "{{component}}"),
                    Query(
                        "max by (component) "
                        f"(predict_linear(process_resident_memory_bytes{{{SELECTOR}}}[1h], 4 * 3600))",
                        "{{component}} in 4 hours",
                    ),
                    unit="bytes",
                    columns=6,
                ),
            ],
        ),
        Row(
            "Triton",
            [
                graph(
                    "Instances busy, by model",
                    "Under the number of the model's instances over all Pods. At it, requests queue.",
                    Query(
                        "sum by (model) "
                        f"(rate(nv_inference_compute_infer_duration_us{{{SELECTOR}}}[$__rate_interval])) / 1e6",
                        "{{model}}",
                    ),
                    columns=6,
                ),
                graph(
                    "Queue, by model",
                    "Under the dashed line, where scaling begins.",
                    Query(f"perception:triton_queue_seconds:mean_rate2m{{{SELECTOR}}}", "{{model}} {{pool}}"),
                    unit="s",
                    limit=0.02,
                    columns=6,
                ),
                graph(
                    "GPU and CPU of Triton's nodes",
                    "GPU near 1 with a queue: more GPUs. CPU near 1 with an idle GPU: more CPU for Triton's Pods.",
                    Query(f"avg by (pool) (nv_gpu_utilization{{{SELECTOR}}})", "GPU {{pool}}"),
                    Query(f"avg by (pool) (nv_cpu_utilization{{{SELECTOR}}})", "CPU {{pool}}"),
                    unit="percentunit",
                    columns=6,
                ),
                graph(
                    "Memory of Triton's nodes, used",
                    "Level. Models are loaded into it first; without room a new version does not load.",
                    Query(
                        f"max by (pool) (nv_cpu_memory_used_bytes{{{SELECTOR}}} "
                        f"/ nv_cpu_memory_total_bytes{{{SELECTOR}}})",
                        "{{pool}}",
                    ),
                    unit="percentunit",
                    limit=0.9,
                    columns=6,
                ),
            ],
        ),
        Row(
            "Pods and demand",
            [
                graph(
                    "Pods that answer",
                    "As many as are wanted. Where scaling is on, they follow the load with some minutes' delay.",
                    Query(f"perception:pods_up:sum{{{SELECTOR}}}", "{{component}} {{pool}}"),
                ),
                graph(
                    "Frames that arrive at all cameras, and scenes",
                    "Together. A gap that opens with every camera that is added: the system is full.",
                    Query(f"sum(perception_camera_frames_per_second{{{SELECTOR}}})", "frames that arrive"),
                    Query(f"sum(perception_camera_scenes_per_second{{{SELECTOR}}})", "scenes"),
                    unit="reqps",
                ),
                graph(
                    "The viewer's pages, and scenes that they missed",
                    "Missed scenes are a page's slow network or machine, and hold nobody up.",
                    Query(f'sum(perception_viewer_pages{{{SELECTOR}, component="viewer"}})', "pages"),
                    Query(
                        "sum(rate(perception_viewer_scenes_total"
                        f'{{{SELECTOR}, component="viewer", outcome="missed"}}[$__rate_interval]))',
                        "scenes missed, a second",
                    ),
                ),
            ],
        ),
    ],
)
