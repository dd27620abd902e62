from __future__ import annotations

import numpy as np
import pytest

from services.runtime.engines.triton import TritonEngine
from services.runtime.errors import EngineUnavailable
from tests.support.triton import free_ports


async def test_without_a_server() -> None:
    engine = TritonEngine(f"127.0.0.1:{free_ports(1)[0]}", "detection")
    with pytest.raises(EngineUnavailable, match="detection"):
        await engine.describe()
    with pytest.raises(EngineUnavailable, match="detection"):
        await engine.infer({"image": np.zeros((1, 4, 4, 3), np.uint8)}, 1.0)
    assert not await engine.ready()
    await engine.close()
    await engine.close()
