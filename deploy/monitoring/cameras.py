"""How is each camera?"""

from __future__ import annotations

from deploy.monitoring.grafana import SELECTOR, Dashboard, Panel, Query, Row, graph, number

_CAMERA = f'{SELECTOR}, camera=~"$camera"'
_STATES = {
    1: ("streaming", "green"),
    2: ("connecting", "blue"),
    3: ("waiting", "orange"),
    4: ("stalled", "red"),
    5: ("ended", "gray"),
}
_STATE = " or ".join(
    f'{value} * perception_camera_state{{{_CAMERA}, state="{state}"}}' for value, (state, _) in _STATES.items()
)
_AGE = f"rate(perception_camera_answer_age_seconds_bucket{{{_CAMERA}}}[$__rate_interval])"

CAMERAS = Dashboard(
    name="cameras",
    title="Cameras",
    purpose="How is each camera: what is it doing, how many frames come of it, how old are its answers, what is lost?",
    variables={"camera": "perception_camera_state"},
    rows=[
        Row(
            "State",
            [
                number(
                    "Cameras",
                    "As many as the agents were told of.",
                    f"count(perception:camera_up:max{{{_CAMERA}}})",
                ),
                number(
                    "Streaming",
                    "All of them.",
                    f'sum(perception_camera_state{{{_CAMERA}, state="streaming"}})',
                ),
                number(
                    "Not served",
                    "0. These give frames that the gateway does not answer: it is down, or full (MAX_STREAMS).",
                    f"count(perception:camera_connected:max{{{_CAMERA}}} == 0) or vector(0)",
                    limit=1,
                ),
                number(
                    "Oldest frame",
                    "Under a second for live cameras. More than stall_seconds, and the camera is stalled.",
                    f"max(perception_camera_last_frame_age_seconds{{{_CAMERA}}} > 0)",
                    unit="s",
                ),
                number(
                    "Sources opened again",
                    "0. Each is a source that broke off within the last hour, and was opened anew.",
                    f"sum(increase(perception_camera_reconnects_total{{{_CAMERA}}}[1h]))",
                ),
                number(
                    "Things tracked",
                    "What the scenes would make one expect. 0 over all cameras for long: look at the pictures.",
                    f"sum(perception_camera_tracks{{{_CAMERA}}})",
                ),
                Panel(
                    "state-timeline",
                    "What each camera is doing",
                    "Green throughout. Stalled, then waiting: the camera or its network is gone. Between connecting "
                    "and "
                    "waiting: address, password or codec. The agent's log has the reason.",
                    [Query(f"max by (camera) ({_STATE})", "{{camera}}")],
                    columns=24,
                    mappings=_STATES,
                ),
            ],
        ),
        Row(
            "Frames",
            [
                graph(
                    "Frames that arrive, a second",
                    "Level, at the camera's own rate. Waves or gaps are the network's, or a decoder without enough "
                    "CPU.",
                    Query(f"max by (camera) (perception_camera_frames_per_second{{{_CAMERA}}})", "{{camera}}"),
                    columns=8,
                ),
                graph(
                    "Scenes, a second",
                    "As many as frames that are sent. Fewer than arrive, with frames_per_second not set: the system is "
                    "slower than the camera.",
                    Query(f"max by (camera) (perception_camera_scenes_per_second{{{_CAMERA}}})", "{{camera}}"),
                    columns=8,
                ),
                graph(
                    "Seconds since the last frame",
                    "A low saw. A straight line upwards is a camera that went silent.",
                    Query(f"max by (camera) (perception_camera_last_frame_age_seconds{{{_CAMERA}}})", "{{camera}}"),
                    unit="s",
                    columns=8,
                ),
            ],
        ),
        Row(
            "Answers",
            [
                graph(
                    "Age of the answers, mean",
                    "Alike for cameras of one kind. One that is older than the others sends late frames: compare "
                    "its clock.",
                    Query(
                        "sum by (camera) (rate(perception_camera_answer_age_seconds_sum"
                        f"{{{_CAMERA}}}[$__rate_interval])) / (sum by (camera) "
                        f"(rate(perception_camera_answer_age_seconds_count{{{_CAMERA}}}[$__rate_interval])) > 0)",
                        "{{camera}}",
                    ),
                    unit="s",
                ),
                graph(
                    "Age of the answers, 95th percentile",
                    "Under the stream's deadline. At the deadline, tasks are left out of the answers.",
                    Query(f"histogram_quantile(0.95, sum by (camera, le) ({_AGE}))", "{{camera}}"),
                    unit="s",
                ),
                graph(
                    "Left out to keep the deadline",
                    "0. 1: attributes are left out of the scenes, 2: instance masks too. The gateway lifts it by "
                    "itself "
                    "when there is time again.",
                    Query(f"max by (camera) (perception_stream_degradation{{{_CAMERA}}})", "{{camera}}"),
                ),
                graph(
                    "Things tracked",
                    "Follows what moves in the picture. A fall to 0 is a cut, a reconnect, or a tracker that lost all.",
                    Query(f"max by (camera) (perception_camera_tracks{{{_CAMERA}}})", "{{camera}}"),
                ),
            ],
        ),
        Row(
            "Losses",
            [
                graph(
                    "Frames lost, of all",
                    "Under the alert's threshold, which is drawn.",
                    Query(f"perception:camera_frames_dropped:ratio_rate2m{{{_CAMERA}}}", "{{camera}}"),
                    unit="percentunit",
                    limit=0.1,
                    columns=8,
                ),
                graph(
                    "What became of the frames",
                    "perceived, nearly all. skipped and dropped: too slow. error: every task failed. lost: the "
                    "connection broke off.",
                    Query(
                        "sum by (camera, result) "
                        f"(rate(perception_camera_frames_total{{{_CAMERA}}}[$__rate_interval]))",
                        "{{camera}} {{result}}",
                    ),
                    unit="reqps",
                    columns=8,
                ),
                graph(
                    "Answers that sinks missed",
                    "Nothing. A sink that is too slow, such as a film on a slow disk, misses answers and holds "
                    "nobody up.",
                    Query(
                        "sum by (camera, sink) "
                        f"(rate(perception_camera_sink_dropped_total{{{_CAMERA}}}[$__rate_interval]))",
                        "{{camera}} {{sink}}",
                    ),
                    unit="reqps",
                    columns=8,
                ),
            ],
        ),
    ],
)
