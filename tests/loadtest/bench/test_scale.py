"""What is made of the runs with more streams and larger frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench import scale
from loadtest.bench.plots import draw


def samples(*names: str) -> dict[str, dict[str, list[float]]]:
    """Two rounds of each arm; each arm takes ten times as long as the one before."""
    return {
        name: {key: [10.0**index, 1.2 * 10.0**index] for key in ("p50", "p90", "cpu")}
        for index, name in enumerate(names)
    }


def test_every_number_of_streams_is_held_against_one() -> None:
    found = {each.id: each for each in scale._compare(samples("1", "64"), (1, 64), "streams", " streams")}

    assert set(found) == {"streams.64.p50", "streams.64.p90", "streams.64.cpu"}
    assert found["streams.64.cpu"].ratio == pytest.approx(10)
    assert found["streams.64.cpu"].case == "64 streams by 1 streams"


def test_every_size_is_held_against_the_smallest() -> None:
    found = [each.id for each in scale._compare(samples("480p", "1080p", "4K"), ("480p", "1080p", "4K"), "size", "")]

    assert found == [f"size.{size}.{key}" for size in ("1080p", "4K") for key in ("p50", "p90", "cpu")]


def test_growth_is_drawn_with_its_spread(tmp_path: Path) -> None:
    plot = scale._lines("growth", "More streams", "streams", ["1", "4", "64"], samples("1", "4", "64"))

    draw(plot, tmp_path / "growth.svg")

    assert plot.spread["median latency"][2] == (100.0, 120.0)
    assert (tmp_path / "growth.svg").stat().st_size > 1000
