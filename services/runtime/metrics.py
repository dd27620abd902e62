"""Every metric that the services export, declared once.

Names follow Prometheus' conventions: base units, `_total` for counters. Latencies are histograms, so that they can be
added up over replicas.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from a cheap stage to the default timeout."""
CAMERA_LATENCY_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
"""Fewer of them, because there may be a thousand cameras."""

REQUESTS = Counter(
    "perception_requests_total", "Requests answered, by gRPC method and status code.", ("method", "code")
)
REQUEST_DURATION = Histogram(
    "perception_request_duration_seconds",
    "Time from a request's arrival to its answer.",
    ("method",),
    buckets=LATENCY_BUCKETS,
)
REQUESTS_IN_FLIGHT = Gauge("perception_requests_in_flight", "Requests at work now.", ("method",))
STAGE_DURATION = Histogram(
    "perception_stage_duration_seconds",
    "Time of one stage of the work on a frame.",
    ("task", "stage"),
    buckets=LATENCY_BUCKETS,
)
LIMIT = Gauge(
    "perception_limit",
    "The most that this process takes at once: of requests, and in the gateway of streams and stream_frames.",
    ("resource",),
)
LIMIT_BREACHES = Counter(
    "perception_limit_breaches_total",
    "How often a limit was breached, by the setting that it is (docs/limits.md).",
    ("setting",),
)
MODEL_READY = Gauge("perception_model_ready", "1 when the task's model answers, 0 when it does not.", ("task",))
MODEL_INPUTS = Counter(
    "perception_model_inputs_total",
    "Requests to Triton by the way of their inputs: sent, or shared, in memory of the machine.",
    ("model", "way"),
)
MODEL_RELOADS = Counter(
    "perception_model_reloads_total", "How often a model was loaded again because its process died.", ("model",)
)
TASK_RESULTS = Counter(
    "perception_task_results_total",
    "How tasks ended for the frames of the gateway: state OK, FAILED, DEADLINE_EXCEEDED or SKIPPED.",
    ("task", "state", "code"),
)
TASK_BREAKER_STATE = Gauge(
    "perception_task_breaker_state",
    "Whether the gateway asks a task: 0 it does (closed), 1 one frame tries (half-open), 2 it does not (open).",
    ("task",),
)
SEGMENTS = Histogram(
    "perception_segments",
    "Segments in a fused scene.",
    buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200),
)
CERTIFICATE_EXPIRY = Gauge(
    "perception_certificate_expiry_timestamp_seconds",
    "When the certificate that this process serves with expires, since 1970; 0 where it serves in plain text.",
)
ACCESS = Counter(
    "perception_access_total",
    "Calls of the gateway, and sign-ins and dropped pictures at the viewer, where callers authenticate: accepted, "
    "no_token, wrong_token (not known, expired or not what its issuer signed), no_scope, too_many_requests, "
    "too_many_streams, no_keys (the issuer's are not there yet), or withdrawn (what was open ended with its token).",
    ("result",),
)
TRACE_SPANS = Counter(
    "perception_trace_spans_total",
    "Spans of traces: exported, failed (the collector did not take them), or dropped (too many waited for it).",
    ("result",),
)
VIEWER_PAGES = Gauge("perception_viewer_pages", "Connections of pages to the viewer now.")
VIEWER_UPSTREAMS = Gauge("perception_viewer_upstreams", "Cameras and lists of cameras that are watched now.")
VIEWER_SCENES = Counter(
    "perception_viewer_scenes_total",
    "Scenes for the pages of the viewer: sent, or missed because a page was too slow.",
    ("outcome",),
)
VIEWER_PICTURES = Counter("perception_viewer_pictures_total", "Dropped pictures answered, by HTTP status.", ("status",))

# Of the camera agent.
CAMERA_STATE = Gauge(
    "perception_camera_state", "1 for the state that a camera is in, 0 for the others.", ("camera", "state")
)
CAMERA_FRAMES = Counter(
    "perception_camera_frames_total",
    "What became of a camera's frames: perceived, dropped (by the gateway), skipped (never sent), error, or lost (with "
    "a connection).",
    ("camera", "result"),
)
CAMERA_RECONNECTS = Counter("perception_camera_reconnects_total", "How often a source was opened again.", ("camera",))
CAMERA_LAST_FRAME_AGE = Gauge(
    "perception_camera_last_frame_age_seconds", "Time since a camera's last frame arrived; NaN before.", ("camera",)
)
CAMERA_FRAME_RATE = Gauge(
    "perception_camera_frames_per_second", "Frames that arrive from a source, over the last seconds.", ("camera",)
)
CAMERA_SCENE_RATE = Gauge(
    "perception_camera_scenes_per_second", "Scenes of a camera's frames, over the last seconds.", ("camera",)
)
CAMERA_ANSWER_AGE = Histogram(
    "perception_camera_answer_age_seconds",
    "Time from a frame's capture to its scene, as the gateway tells each camera.",
    ("camera",),
    buckets=CAMERA_LATENCY_BUCKETS,
)
CAMERA_TRACKS = Gauge("perception_camera_tracks", "Things with an identity in a camera's newest scene.", ("camera",))
CAMERA_GATEWAY_CONNECTED = Gauge(
    "perception_camera_gateway_connected", "1 when the gateway answers a camera's stream.", ("camera",)
)
CAMERA_SINK_DROPPED = Counter(
    "perception_camera_sink_dropped_total", "Answers that a sink was too slow for.", ("camera", "sink")
)

# Camera streams at the gateway.
STREAMS = Gauge("perception_streams", "Camera streams open now.")
STREAM_FRAMES = Counter(
    "perception_stream_frames_total",
    "Frames of camera streams answered: result scene, error, superseded, too_old or already_answered.",
    ("result",),
)
STREAM_FRAMES_ABANDONED = Counter(
    "perception_stream_frames_abandoned_total",
    "Frames of camera streams that were read, and whose camera was gone before their answer was sent.",
)
STREAM_ANSWER_AGE = Histogram(
    "perception_stream_answer_age_seconds",
    "Time from a frame's capture to its scene.",
    buckets=LATENCY_BUCKETS,
)
STREAM_FRAMES_AT_WORK = Gauge("perception_stream_frames_at_work", "Frames of camera streams at work now.")
STREAM_DEGRADATION = Gauge(
    "perception_stream_degradation",
    "What a camera's scenes leave out to keep the deadline: 0 nothing, 1 attributes, 2 instance masks too.",
    ("camera",),
)
