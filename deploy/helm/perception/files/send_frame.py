"""What `helm test` runs: asks the gateway for its tasks, and sends a frame through all of them."""

import os
import ssl
import sys
import urllib.request
from pathlib import Path

import numpy as np
from perception import TLS, PerceptionClient, PerceptionError
from perception.scene import task_name

expected = set(os.environ["TASKS"].split())
mistakes = []
tls = token = None
if "TLS_CA_FILE" in os.environ:
    tls = TLS(*(os.environ[f"TLS_{name}_FILE"] for name in ("CA", "CERTIFICATE", "KEY")))
if "TOKEN_FILE" in os.environ:
    token = Path(os.environ["TOKEN_FILE"])
with PerceptionClient(os.environ["GATEWAY"], tls=tls, token=token) as client:
    try:
        described = {task_name(task.task): task for task in client.describe(timeout=20).tasks}
        for name in sorted(expected):
            task = described.get(name)
            if task is None or not task.ready:
                mistakes.append(f"{name}: not ready: {task.reason if task else 'the gateway does not know it'}")
            else:
                info = task.model.info
                print(f"{name}: {info.catalog_entry or info.name}, version {info.version}")
        ramp = np.linspace(0, 255, 640, dtype=np.uint8)
        frame = np.broadcast_to(ramp[None, :, None], (480, 640, 3)).copy()
        scene = client.perceive(frame, timeout=60)
    except PerceptionError as error:
        sys.exit(f"the gateway at {os.environ['GATEWAY']} does not answer: {error}")
for name, status in scene.task_status.items():
    print(f"{name}: {status.state} {status.reason}".rstrip())
    if status.state not in ("OK", "SKIPPED"):  # classification is skipped where nothing was found
        mistakes.append(f"{name}: {status.state}: {status.reason}")
print(f"{len(scene.panoptic.segments)} segments in a frame of {frame.shape[1]}x{frame.shape[0]}")
if viewer := os.environ.get("VIEWER"):
    trusted = ssl.create_default_context(cafile=os.environ.get("TLS_CA_FILE"))
    with urllib.request.urlopen(f"{viewer}/healthz", timeout=20, context=trusted) as answer:  # noqa: S310 - the chart's own
        print(f"viewer: {answer.read().decode()}")
if mistakes:
    sys.exit("\n".join(mistakes))
