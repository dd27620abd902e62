"""How do the models do?"""

from __future__ import annotations

from deploy.monitoring.grafana import SELECTOR, Dashboard, Query, Row, graph, number

_MODEL = f'{SELECTOR}, model=~"$model"'
_LEGEND = "{{model}} {{version}}"


def _rate(metric: str) -> str:
    return f"sum by (model, version) (rate({metric}{{{_MODEL}}}[$__rate_interval]))"


def _mean_seconds(part: str) -> str:
    """Seconds of one part of a request, on average over all Pods."""
    return f"{_rate(f'nv_inference_{part}_duration_us')} / 1e6 / ({_rate('nv_inference_request_success')} > 0)"


MODELS = Dashboard(
    name="models",
    title="Models",
    purpose=(
        "How does each version of each model do: how long do requests wait, how long does it compute, what of the GPU?"
    ),
    variables={"model": "nv_inference_request_success"},
    rows=[
        Row(
            "Health",
            [
                number(
                    "Models not ready",
                    "0. The task's service asks its model once a second; one that is not ready fails for every frame.",
                    f"count(perception:model_ready:max{{{SELECTOR}}} == 0) or vector(0)",
                    limit=1,
                ),
                number(
                    "Versions served",
                    "One for each model, except while an update goes on.",
                    f"count(count by (model, version) (nv_inference_request_success{{{_MODEL}}}))",
                ),
                number(
                    "Longest queue",
                    "A few milliseconds: what the batcher waits for. Tens of them, and the model needs more instances.",
                    f"max(perception:triton_queue_seconds:mean_rate2m{{{_MODEL}}})",
                    unit="s",
                    limit=0.1,
                ),
                number(
                    "Requests pending",
                    "Near 0. A number that grows and never falls is a model that hangs.",
                    f"sum(nv_inference_pending_request_count{{{_MODEL}}})",
                ),
                number(
                    "GPU memory, fullest",
                    "Under the threshold. Beyond it, the next model or a large batch may fail for want of memory.",
                    f"max(perception:gpu_memory_used:ratio{{{SELECTOR}}})",
                    unit="percentunit",
                    limit=0.95,
                ),
                number(
                    "GPU utilization, mean",
                    "Under load near 1 with a short queue is well used; low with a long queue is a CPU that feeds "
                    "too slowly.",
                    f"avg(nv_gpu_utilization{{{SELECTOR}}})",
                    unit="percentunit",
                ),
            ],
        ),
        Row(
            "Requests",
            [
                graph(
                    "Inferences, a second",
                    "As many as the frames that the gateway has at work, for each task. classification counts crops.",
                    Query(_rate("nv_inference_count"), _LEGEND),
                    unit="reqps",
                ),
                graph(
                    "Failures, by reason",
                    "0. REJECTED: the queue is full. CANCELED: the caller's time was over. BACKEND: the model itself "
                    "failed; Triton's log says how.",
                    Query(
                        "sum by (model, version, reason) "
                        f"(rate(nv_inference_request_failure{{{_MODEL}}}[$__rate_interval]))",
                        "{{model}} {{version}} {{reason}}",
                    ),
                    unit="reqps",
                ),
            ],
        ),
        Row(
            "Time of a request",
            [
                graph(
                    "In the queue",
                    "A few milliseconds. What grows here is the first sign that a model is too slow for what comes. "
                    "The alert's threshold is drawn.",
                    Query(_mean_seconds("queue"), _LEGEND),
                    unit="s",
                    limit=0.1,
                    columns=8,
                ),
                graph(
                    "Computing",
                    "Level. It grows with the batch, and with other models on the same GPU.",
                    Query(_mean_seconds("compute_infer"), _LEGEND),
                    unit="s",
                    columns=8,
                ),
                graph(
                    "In all, inside Triton",
                    "Queue and computing explain it. What is left is the copying of tensors in and out.",
                    Query(_mean_seconds("request"), _LEGEND),
                    unit="s",
                    columns=8,
                ),
                graph(
                    "Copying in and out",
                    "Well under a millisecond. More: pictures larger than the model's input, or a machine without "
                    "memory.",
                    Query(_mean_seconds("compute_input"), f"{_LEGEND} in"),
                    Query(_mean_seconds("compute_output"), f"{_LEGEND} out"),
                    unit="s",
                    columns=8,
                ),
                graph(
                    "Batch size",
                    "Above 1 under load, where the model's configuration has a dynamic batcher. 1 with a queue: it "
                    "has none.",
                    Query(f"{_rate('nv_inference_count')} / ({_rate('nv_inference_exec_count')} > 0)", _LEGEND),
                    columns=8,
                ),
                graph(
                    "As the services see it, 95th percentile",
                    "Little above the time in Triton. The difference is the network, and the service's own event loop.",
                    Query(
                        "histogram_quantile(0.95, sum by (le, task) (rate(perception_stage_duration_seconds_bucket"
                        f'{{{SELECTOR}, stage="inference"}}[$__rate_interval])))',
                        "{{task}}",
                    ),
                    unit="s",
                    columns=8,
                ),
            ],
        ),
        Row(
            "GPU",
            [
                graph(
                    "Utilization",
                    "Level between the GPUs of a pool. One idle beside busy ones: its Pod is not found, or not ready.",
                    Query(f"max by (pod, gpu_uuid) (nv_gpu_utilization{{{SELECTOR}}})", "{{pod}} {{gpu_uuid}}"),
                    unit="percentunit",
                    columns=8,
                ),
                graph(
                    "Memory used",
                    "Level after the models are loaded. A staircase upwards is a leak, or ever larger batches.",
                    Query(f"perception:gpu_memory_used:ratio{{{SELECTOR}}}", "{{pod}} {{gpu_uuid}}"),
                    unit="percentunit",
                    limit=0.95,
                    columns=8,
                ),
                graph(
                    "Power",
                    "Under the limit of the card. At the limit, clocks go down and computing takes longer.",
                    Query(f"max by (pod, gpu_uuid) (nv_gpu_power_usage{{{SELECTOR}}})", "{{pod}} {{gpu_uuid}}"),
                    Query(f"max by (pod, gpu_uuid) (nv_gpu_power_limit{{{SELECTOR}}})", "limit {{pod}} {{gpu_uuid}}"),
                    unit="watt",
                    columns=8,
                ),
            ],
        ),
    ],
)
