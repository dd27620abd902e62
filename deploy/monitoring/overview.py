"""Is the system healthy?"""

from __future__ import annotations

from deploy.monitoring.grafana import SELECTOR, Dashboard, Query, Row, graph, number

_GATEWAY = f'{SELECTOR}, component="gateway"'
_AGE = f"sum by (le) (rate(perception_stream_answer_age_seconds_bucket{{{_GATEWAY}}}[$__rate_interval]))"

OVERVIEW = Dashboard(
    name="overview",
    title="Overview",
    purpose="Is it healthy? From left to right and top to bottom: what is down, what comes, what fails, what is late.",
    rows=[
        Row(
            "Health",
            [
                number(
                    "Alerts",
                    "0. Otherwise the alert's runbook says what to do; Prometheus' page of alerts names it.",
                    f'count(ALERTS{{{SELECTOR}, alertstate="firing"}}) or vector(0)',
                    limit=1,
                ),
                number(
                    "Components down",
                    "0. A component counts where none of its Pods answers Prometheus.",
                    f"count(perception:component_down{{{SELECTOR}}}) or vector(0)",
                    limit=1,
                ),
                number(
                    "Models not ready",
                    "0. A task without its model fails for every frame; the frame is answered without it.",
                    f"count(perception:model_ready:max{{{SELECTOR}}} == 0) or vector(0)",
                    limit=1,
                ),
                number(
                    "Cameras down",
                    "0. The dashboard Cameras says which, and what each of them is doing.",
                    f"count(perception:camera_up:max{{{SELECTOR}}} == 0) or vector(0)",
                    limit=1,
                ),
                number(
                    "Frames answered",
                    "As many as the cameras send. A drop to 0 while cameras stream is an outage.",
                    f"perception:frames_answered:rate5m{{{SELECTOR}}}",
                    unit="reqps",
                ),
                number(
                    "Late frames",
                    "Under the budget that the row Latency draws. Late is what was answered after the objective's "
                    "time.",
                    f"perception:frames_late:ratio_rate5m{{{SELECTOR}}}",
                    unit="percentunit",
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                graph(
                    "Frames of camera streams, by result",
                    "Mostly scene. superseded and too_old mean that the system is slower than the cameras; error, that "
                    "no task answered at all.",
                    Query(
                        f"sum by (result) (rate(perception_stream_frames_total{{{_GATEWAY}}}[$__rate_interval]))",
                        "{{result}}",
                    ),
                    unit="reqps",
                ),
                graph(
                    "Streams, and calls at the gateway",
                    "One stream for each camera. A stream that ends is counted as one request, so that jumps of "
                    "PerceiveStream are cameras that connect anew.",
                    Query(f"sum(perception_streams{{{_GATEWAY}}})", "streams open"),
                    Query(
                        f"sum by (method) (rate(perception_requests_total{{{_GATEWAY}}}[$__rate_interval]))",
                        "{{method}} per second",
                    ),
                ),
            ],
        ),
        Row(
            "Errors",
            [
                graph(
                    "Calls that did not end well, by code",
                    "Nothing, but for CANCELLED when callers leave, and UNAVAILABLE of PerceiveStream when the gateway "
                    "hands a stream over: two to four times an hour for each camera, and in updates. "
                    "INVALID_ARGUMENT is the caller's, RESOURCE_EXHAUSTED says that the gateway is full, UNAVAILABLE "
                    "and INTERNAL are ours.",
                    Query(
                        f'sum by (method, code) (rate(perception_requests_total{{{_GATEWAY}, code!="OK"}}'
                        "[$__rate_interval]))",
                        "{{method}} {{code}}",
                    ),
                    unit="reqps",
                ),
                graph(
                    "Frames for which a task failed or was late",
                    "0. One task alone points at its service or model, all of them at Triton or at too much load. The "
                    "alert's threshold is drawn.",
                    Query(f"perception:task_failed:ratio_rate2m{{{SELECTOR}}}", "{{task}}"),
                    unit="percentunit",
                    limit=0.05,
                ),
            ],
        ),
        Row(
            "Latency",
            [
                graph(
                    "Age of a frame when it is answered",
                    "Flat, and the 99th percentile under the objective. What grows in all three is load; what grows in "
                    "the 99th alone is a few cameras, or a model that hesitates.",
                    *(Query(f"histogram_quantile({q}, {_AGE})", f"{round(q * 100)} %") for q in (0.5, 0.95, 0.99)),
                    unit="s",
                    columns=8,
                ),
                graph(
                    "Late frames, against the budget",
                    "Under the budget. Over it for five minutes is a blip; an hour at 14.4 times the budget pages.",
                    Query(f"perception:frames_late:ratio_rate5m{{{SELECTOR}}}", "5 minutes"),
                    Query(f"perception:frames_late:ratio_rate1h{{{SELECTOR}}}", "1 hour"),
                    Query(f"perception:frames_late:ratio_rate6h{{{SELECTOR}}}", "6 hours"),
                    Query(f"perception:frames_late_budget:ratio{{{SELECTOR}}}", "budget"),
                    unit="percentunit",
                    columns=8,
                ),
                graph(
                    "Stages, 95th percentile",
                    "inference of the slowest task, and the gateway's total close to it. A task whose total is much "
                    "more "
                    "than its inference lacks CPU.",
                    Query(
                        "histogram_quantile(0.95, sum by (le, task, stage) "
                        f"(rate(perception_stage_duration_seconds_bucket{{{SELECTOR}}}[$__rate_interval])))",
                        "{{task}} {{stage}}",
                    ),
                    unit="s",
                    columns=8,
                ),
            ],
        ),
        Row(
            "Dropped frames",
            [
                graph(
                    "Cameras that lose the most frames",
                    "Under the alert's threshold, which is drawn. All cameras alike: the system is full. One alone: "
                    "its "
                    "link, its deadline, or more frames a second than were planned.",
                    Query(f"topk(10, perception:camera_frames_dropped:ratio_rate2m{{{SELECTOR}}})", "{{camera}}"),
                    unit="percentunit",
                    limit=0.1,
                ),
                graph(
                    "Frames that were not perceived, by reason",
                    "skipped: replaced by a newer one before they were sent. dropped: given up by the gateway. error: "
                    "every task failed. lost: the connection broke off.",
                    Query(
                        "sum by (result) (rate(perception_camera_frames_total"
                        f'{{{SELECTOR}, result!="perceived"}}[$__rate_interval]))',
                        "{{result}}",
                    ),
                    unit="reqps",
                ),
            ],
        ),
    ],
)
