from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.runtime.engines import Priority
from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
)
from tests.support.contract_models import LABELS, TASKS, picture, write_model, write_repository

IMAGE = {"image": picture()[None]}


@pytest_asyncio.fixture
async def engine_of(tmp_path: Path) -> AsyncIterator[Callable[[str], OnnxRuntimeEngine]]:
    engines = []

    def make(model: str) -> OnnxRuntimeEngine:
        engines.append(OnnxRuntimeEngine(tmp_path, model))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


async def test_it_runs_every_task(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    write_repository(tmp_path)
    for task in TASKS:
        engine = engine_of(task)
        model = await engine.describe()
        assert (model.task, model.labels, model.version) == (task, LABELS[task], "1")
        answer = await engine.infer(IMAGE, 10.0)
        assert set(answer.outputs) == {tensor.name for tensor in model.outputs}
        for tensor in model.outputs:
            assert answer.outputs[tensor.name].shape == (1, *tensor.shape)
        assert await engine.ready()


async def test_the_highest_version_runs(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    for version in (2, 10, 9):
        write_model(tmp_path, "detection", version=version)
    (tmp_path / "detection" / "notes").mkdir()
    assert (await engine_of("detection").describe()).version == "10"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": picture()}, r"expected UINT8 \[-1, 48, 64, 3\], found UINT8 \[48, 64, 3\]"),
        ({"image": picture(20, 20)[None]}, r"found UINT8 \[1, 20, 20, 3\]"),
        ({"image": picture()[None].astype(np.float32)}, r"found FP32 \[1, 48, 64, 3\]"),
        ({"image": np.zeros((9, 48, 64, 3), np.uint8)}, "expected a batch of 1 to 8, found 9"),
        ({"picture": picture()[None]}, "expected the inputs image, found picture"),
        ({}, "expected the inputs image, found none"),
    ],
)
async def test_what_the_model_does_not_take_is_refused(
    tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine], inputs: dict[str, Any], message: str
) -> None:
    write_model(tmp_path, "detection")
    engine = engine_of("detection")
    with pytest.raises(ContractViolation, match=message):
        await engine.infer(inputs, 10.0)
    assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1


async def test_a_failing_run_fails_alone(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    write_model(tmp_path, "detection", limit=250)
    engine = engine_of("detection")
    with pytest.raises(InferenceFailed, match="Gather"):
        await engine.infer({"image": picture(colour=(255, 0, 0))[None]}, 10.0)
    assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1


async def test_a_missed_deadline_ends_the_run(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    """The run of some seconds is over soon after its deadline, so that the next request need not wait for its end."""
    write_model(tmp_path, "detection", name="slow", burden=200)
    write_model(tmp_path, "detection", name="quick")
    engine = engine_of("slow")
    await engine.describe()
    started = time.monotonic()
    await engine.infer(IMAGE, 60.0)
    whole_run = time.monotonic() - started
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="inference"):
        await engine.infer(IMAGE, whole_run / 20)
    with pytest.raises(DeadlineExceeded, match="inference"):
        await engine.infer(IMAGE, whole_run / 20)
    assert time.monotonic() - started < whole_run / 2
    with pytest.raises(DeadlineExceeded):
        await engine.infer(IMAGE, 0.0)


async def test_the_event_loop_goes_on_while_the_model_runs(
    tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]
) -> None:
    write_model(tmp_path, "detection", burden=100)
    engine = engine_of("detection")
    running = asyncio.create_task(engine.infer(IMAGE, 60.0))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 10
    assert running.result().model_version == "1"


async def test_the_queue_is_bounded(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    folder = write_model(tmp_path, "detection", burden=10)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace("max_queue_size: 64", "max_queue_size: 3"))
    engine = engine_of("detection")
    answers = await asyncio.gather(*(engine.infer(IMAGE, 60.0) for _ in range(10)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 6  # one runs, three wait
    assert all(answer.retry_after_seconds for answer in refused)
    assert (await engine.infer(IMAGE, 60.0)).model_version == "1"


async def test_the_urgent_overtake_those_who_wait(
    tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]
) -> None:
    write_model(tmp_path, "detection", burden=4)
    engine, done = engine_of("detection"), []
    await engine.describe()

    async def ask(priority: Priority) -> None:
        await engine.infer(IMAGE, 60.0, priority=priority)
        done.append(priority.name)

    waiting = [Priority.NORMAL, Priority.LOW, Priority.LOW, Priority.NORMAL, Priority.HIGH]
    await asyncio.gather(*(ask(priority) for priority in waiting))
    assert done == ["NORMAL", "HIGH", "NORMAL", "LOW", "LOW"]  # the first one ran already


async def test_callers_that_go_away_make_room(tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine]) -> None:
    write_model(tmp_path, "detection", burden=100)
    engine = engine_of("detection")
    await engine.describe()
    gone = [asyncio.create_task(engine.infer(IMAGE, 60.0)) for _ in range(5)]
    await asyncio.sleep(0.02)
    for caller in gone:
        caller.cancel()
    started = time.monotonic()
    await engine.infer(IMAGE, 60.0)
    after_them = time.monotonic() - started
    started = time.monotonic()
    await engine.infer(IMAGE, 60.0)
    assert after_them < 3 * (time.monotonic() - started)
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*gone, return_exceptions=True))


@pytest.mark.parametrize(
    ("break_it", "kind", "message"),
    [
        (lambda folder: (folder / "config.pbtxt").unlink(), ModelUnavailable, "cannot be read: No such file"),
        (lambda folder: (folder / "config.pbtxt").write_text("name = 1"), ContractViolation, "no model configuration"),
        (lambda folder: (folder / "1").rename(folder / "one"), ModelUnavailable, "holds no version"),
        (lambda folder: (folder / "1" / "model.onnx").write_bytes(b"?"), ModelUnavailable, "version 1 does not load"),
        (lambda folder: (folder / "1" / "model.onnx").unlink(), ModelUnavailable, "version 1 does not load"),
    ],
    ids=["no configuration", "bad configuration", "no version", "bad graph", "no graph"],
)
async def test_what_cannot_be_loaded_is_named_and_loads_once_it_is_mended(
    tmp_path: Path,
    engine_of: Callable[[str], OnnxRuntimeEngine],
    break_it: Callable[[Path], object],
    kind: type[Exception],
    message: str,
) -> None:
    break_it(write_model(tmp_path, "detection"))
    engine = engine_of("detection")
    with pytest.raises(kind, match=message):
        await engine.describe()
    assert not await engine.ready()
    write_model(tmp_path, "detection")
    assert await engine.ready()


async def test_without_onnxruntime_it_says_what_to_install(
    tmp_path: Path, engine_of: Callable[[str], OnnxRuntimeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, "detection")
    imported = builtins.__import__

    def without_onnxruntime(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    with pytest.raises(ModelUnavailable, match=r"pip install 'perception-services\[local\]'"):
        await engine_of("detection").describe()
