"""The floor: a profile's models in one process, and nothing else.

Runs in the environment that Triton's models run in, with the same packages, so it imports nothing of the project.
Reads lines of JSON from standard input and answers each with a line:

{"load": {task: {"path", "runtime", "options", "instances"}}, "inputs": path}
    loads ONNX files, and from an .npz file the input tensors of every frame, `<task>.<frame>.<call>`; runs each once.
    runtime: "onnxruntime", whose options are `intra_op_num_threads`, or "openvino", whose options are its properties
{"run": seconds, "in_flight": N}
    frames as fast as they go: in_flight 0 runs one model after another; else that many frames are at work at once, each
    with its models side by side, and a model never runs more often at once than it has instances, as in Triton
{"each": rounds}
    every model by itself on the first frames, for the CPU time of each
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

Tensors = list[np.ndarray]
FIRST = ("detection", "instance_segmentation", "semantic_segmentation")
LAST = "classification"
"""Looks at what the others found."""


def onnxruntime_model(path: str, asked: dict[str, Any]) -> Callable[[np.ndarray], object]:
    """A function that runs a model; the session's options are those of the services' engine and of Triton's backend."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = asked["intra_op_num_threads"]
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})


def openvino_model(path: str, asked: dict[str, Any]) -> Callable[[np.ndarray], object]:
    """The same with OpenVINO. A thread has a request of its own."""
    import openvino as ov

    compiled = ov.Core().compile_model(path, "CPU", asked)
    requests = threading.local()

    def run(tensor: np.ndarray) -> object:
        if not hasattr(requests, "one"):
            requests.one = compiled.create_infer_request()
        return requests.one.infer([tensor], share_inputs=True)

    return run


class Floor:
    """Models and the tensors that they run on."""

    def __init__(self, models: dict[str, Any], inputs: str) -> None:
        load = {"onnxruntime": onnxruntime_model, "openvino": openvino_model}
        self.models = {task: load[each["runtime"]](each["path"], each["options"]) for task, each in models.items()}
        self.pools = {task: ThreadPoolExecutor(each["instances"]) for task, each in models.items()}
        self.frames: list[dict[str, Tensors]] = []
        with np.load(inputs) as arrays:
            for key in sorted(arrays, key=lambda key: [int(part) for part in key.split(".")[1:]]):
                task, number, _ = key.split(".")
                while len(self.frames) <= int(number):
                    self.frames.append({})
                self.frames[int(number)].setdefault(task, []).append(arrays[key])
        for frame in self.frames:
            self.one_after_another(frame)

    def call(self, task: str, frame: dict[str, Tensors]) -> None:
        """Runs one model on all that it has to do for a frame."""
        for tensor in frame.get(task, ()):
            self.models[task](tensor)

    def one_after_another(self, frame: dict[str, Tensors]) -> None:
        """A frame on the calling thread."""
        for task in self.models:
            self.call(task, frame)

    def side_by_side(self, frame: dict[str, Tensors]) -> None:
        """A frame as the services do it: all models at once, and classification when they are done."""
        started = [self.pools[task].submit(self.call, task, frame) for task in FIRST if task in self.models]
        for done in wait(started).done:
            done.result()
        if LAST in self.models:
            self.pools[LAST].submit(self.call, LAST, frame).result()

    def run(self, seconds: float, in_flight: int) -> dict[str, float]:
        """Frames as fast as they go: how many a second, and the CPU time of each in ms."""
        perceive = self.side_by_side if in_flight else self.one_after_another
        begin, used = time.monotonic(), time.process_time()

        def loop(first: int) -> int:
            done = 0
            while time.monotonic() < begin + seconds:
                perceive(self.frames[(first + done) % len(self.frames)])
                done += 1
            return done

        with ThreadPoolExecutor(max(1, in_flight)) as workers:
            frames = sum(workers.map(loop, range(max(1, in_flight))))
        return {
            "throughput": frames / (time.monotonic() - begin),
            "cpu": (time.process_time() - used) * 1e3 / frames,
        }

    def each(self, rounds: int) -> dict[str, float]:
        """CPU time of every model per frame, in ms, run by itself."""
        found = {}
        for task in self.models:
            used = time.process_time()
            for _ in range(rounds):
                for frame in self.frames:
                    self.call(task, frame)
            found[task] = (time.process_time() - used) * 1e3 / rounds / len(self.frames)
        return found


def main() -> None:
    """Answers requests until standard input ends."""
    floor: Floor | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "load" in request:
            floor = Floor(request["load"], request["inputs"])
        elif floor is not None and "run" in request:
            answer = floor.run(request["run"], request["in_flight"])
        elif floor is not None:
            answer = floor.each(request["each"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
