"""The client's codecs against pycocotools and against OpenCV as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from perception import codecs, masks
from pycocotools import mask as coco

from loadtest.bench.made_scene import make_scene
from loadtest.bench.pairs import Measured, cpu_time
from loadtest.bench.result import Comparison, Findings, Table, bars
from loadtest.bench.run import Run

SIZES = ((480, 640), (1080, 1920), (1024, 2048))
INSTANCES = 30

ABOUT = """\
Each case is one frame with 30 instances. **RLE**: all of its masks as COCO's compressed counts. Ours gets each mask
under its box, as the services have it, and where it lies; pycocotools gets whole masks, once as NumPy makes them (row
by row, to be copied column by column first) and once in its own order already. The bytes are equal. **PNG**: the map of
segment ids as 16-bit grey, against OpenCV's encoder and decoder with their defaults. CPU time on one thread, in turn.
What our decoders take includes the checks that they make because a message may claim anything."""

Crop = tuple[NDArray[np.bool_], int, int]
"""A mask under its box, and the column and row of its top left pixel."""

Arms = dict[str, Callable[[], Measured]]


def measure(run: Run) -> Findings:
    """Measures encoders and decoders on scenes of several sizes."""
    found = [_measure(run, *size) for size in run.pick(SIZES, SIZES[1:2])]
    comparisons = [comparison for case, _ in found for comparison in case]
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        tables=(
            Table(
                title="Size of a map", columns=("map", "ours", "OpenCV's defaults"), rows=tuple(row for _, row in found)
            ),
        ),
        plots=(
            bars(
                "codecs",
                "How many times as long as ours",
                comparisons,
                [f"{each.case}: {each.first}" for each in comparisons],
                logarithmic=True,
            ),
        ),
    )


def _measure(run: Run, height: int, width: int) -> tuple[list[Comparison], tuple[str, ...]]:
    scene = make_scene(height, width, INSTANCES)
    crops = [
        masks.paste(m, box, height, width) for m, box in zip(scene.instances.masks, scene.instances.boxes, strict=True)
    ]
    ids = scene.fuse().ids
    rle, png = _rle_arms(crops, scene.paste()), _png_arms(ids)
    size = f"{height} x {width}"
    samples = run.interleave(f"codecs {size}", rle | png, run.pick(15, 5))
    comparisons = [
        Comparison.of(
            samples, first, second, "cpu", id=f"{id}.{height}x{width}", case=size, quantity="CPU time", unit="ms"
        )
        for first, second, id in (
            ("pycocotools encodes rows", "we encode masks", "rle.encode"),
            ("pycocotools encodes columns", "we encode masks", "rle.encode_columns"),
            ("pycocotools decodes", "we decode masks", "rle.decode"),
            ("OpenCV encodes", "we encode the map", "png.encode"),
            ("OpenCV decodes", "we decode the map", "png.decode"),
        )
    ]
    ours, theirs = len(codecs.encode_panoptic_png(ids)), len(_default_png(ids))
    return comparisons, (size, f"{ours / 1024:.0f} KiB", f"{theirs / 1024:.0f} KiB")


def _rle_arms(crops: list[Crop], full: NDArray[np.bool_]) -> Arms:
    height, width = full.shape[1:]
    by_rows = full.astype(np.uint8)
    by_columns = [np.asfortranarray(mask) for mask in by_rows]

    def encode() -> list[bytes]:
        return [codecs.encode_rle(crop, x, y, height, width) for crop, x, y in crops]

    def encode_columns() -> list[Any]:
        return [coco.encode(mask) for mask in by_columns]

    ours, theirs = encode(), encode_columns()
    assert ours == [each["counts"] for each in theirs]
    assert all(
        np.array_equal(codecs.decode_rle(counts, height, width), mask) for counts, mask in zip(ours, full, strict=True)
    )
    return {
        "we encode masks": lambda: cpu_time(encode),
        "pycocotools encodes rows": lambda: cpu_time(
            lambda: [coco.encode(np.asfortranarray(mask)) for mask in by_rows]
        ),
        "pycocotools encodes columns": lambda: cpu_time(encode_columns),
        "we decode masks": lambda: cpu_time(lambda: [codecs.decode_rle(counts, height, width) for counts in ours]),
        "pycocotools decodes": lambda: cpu_time(lambda: [coco.decode(each) for each in theirs]),
    }


def _png_arms(ids: NDArray[np.int32]) -> Arms:
    height, width = ids.shape
    ours = codecs.encode_panoptic_png(ids)
    data = np.frombuffer(_default_png(ids), np.uint8)
    assert np.array_equal(codecs.decode_panoptic_png(ours, height, width), ids)
    return {
        "we encode the map": lambda: cpu_time(lambda: codecs.encode_panoptic_png(ids)),
        "OpenCV encodes": lambda: cpu_time(lambda: _default_png(ids)),
        "we decode the map": lambda: cpu_time(lambda: codecs.decode_panoptic_png(ours, height, width)),
        "OpenCV decodes": lambda: cpu_time(lambda: cv2.imdecode(data, cv2.IMREAD_UNCHANGED)),
    }


def _default_png(ids: NDArray[np.int32]) -> bytes:
    _, data = cv2.imencode(".png", ids.astype(np.uint16))
    return data.tobytes()
