"""The page in a real browser."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from perception.codecs import decode_panoptic_png
from perception.v1 import perception_pb2

from tests.services.viewer.browsing import canvas_pixels, colors_at, only, opened, set_opacity, settle, show
from tests.services.viewer.camera_agent import SceneFrame
from tests.support.service import ServiceProcess, eventually


@pytest.fixture(scope="module")
def shared_page(browser: Any, viewer: ServiceProcess) -> Iterator[Any]:
    with opened(browser, viewer.address) as page:
        yield page


@pytest.fixture
def page(shared_page: Any, viewer: ServiceProcess) -> Any:
    """The page as it is when it has just been opened, with the moving camera on show."""
    shared_page.goto("about:blank")
    shared_page.goto(f"http://{viewer.address}/")
    shared_page.get_by_role("button", name="street Streaming").wait_for()
    return shared_page


def inside(ids: np.ndarray, segment_id: int) -> tuple[float, float]:
    """A place well inside a segment, as fractions of width and height."""
    distance = cv2.distanceTransform((np.pad(ids, 1) == segment_id).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    assert distance.max() > 3
    return (column + 0.5) / ids.shape[1], (row + 0.5) / ids.shape[0]


def largest(frame: SceneFrame, is_thing: bool) -> perception_pb2.Segment:
    found = [segment for segment in frame.scene.panoptic.segments if segment.is_thing == is_thing]
    return max(found, key=lambda segment: segment.area)


def click_segment(page: Any, frame: SceneFrame, segment_id: int) -> None:
    x, y = inside(decode_panoptic_png(frame.scene.panoptic.png, 240, 320), segment_id)
    box = page.locator("#view").bounding_box()
    page.locator("#view").click(position={"x": x * box["width"], "y": y * box["height"]})


def test_cameras_are_listed_with_their_state(page, expect):
    entries = page.locator("#cameras button")
    expect(entries).to_have_count(3)
    expect(entries.nth(0)).to_contain_text("street")
    expect(entries.nth(0)).to_have_attribute("aria-current", "true")
    expect(entries.nth(2)).to_contain_text("Waiting to retry")
    expect(entries.nth(2)).to_contain_text("connection refused; next try in")
    expect(page.locator("#title")).to_have_text("street")
    expect(page.locator("#state")).to_have_text("Streaming")


def test_the_overlay_follows_the_video(page, street):
    show(page, "street")
    only(page, "segments")
    seen = set()
    for _ in range(3 * len(street)):
        seen.add(canvas_pixels(page))
        page.wait_for_timeout(100)
    assert len(seen) >= 4
    show(page, "still")
    settle(page)
    stays = canvas_pixels(page)
    page.wait_for_timeout(400)
    assert canvas_pixels(page) == stays


def test_every_segment_is_painted_where_it_is_in_its_colour(page, street):
    show(page, "still")
    only(page, "segments")
    set_opacity(page, 100)
    ids = decode_panoptic_png(street[0].scene.panoptic.png, 240, 320)
    segments = [segment for segment in street[0].scene.panoptic.segments if segment.area > 600]
    assert len(segments) > 5
    found = colors_at(page, [inside(ids, segment.id) for segment in segments])
    for segment, (*color, alpha) in zip(segments, found, strict=True):
        base = np.array([segment.color >> 16, segment.color >> 8 & 255, segment.color & 255])
        shade = 0.12 * (segment.track.id % 5) if segment.is_thing else 0
        np.testing.assert_allclose(color, base + (255 - base) * shade, atol=2, err_msg=segment.category)
        assert alpha == 255


def test_opacity_lets_the_picture_through(page, street):
    show(page, "still")
    only(page, "picture", "segments")
    segment = largest(street[0], is_thing=False)
    place = inside(decode_panoptic_png(street[0].scene.panoptic.png, 240, 320), segment.id)
    shown = {}
    for percent in (0, 50, 100):
        set_opacity(page, percent)
        shown[percent] = np.array(colors_at(page, [place])[0][:3], float)
    np.testing.assert_allclose(shown[50], (shown[0] + shown[100]) / 2, atol=3)
    assert np.abs(shown[0] - shown[100]).max() > 10


@pytest.mark.parametrize(("layer", "key"), [("picture", "p"), ("segments", "s"), ("boxes", "b"), ("labels", "l")])
def test_layers_are_switched_by_button_and_by_key(page, expect, layer, key):
    show(page, "still")
    only(page, "picture", "segments", "boxes", "labels")
    set_opacity(page, 55)
    everything = canvas_pixels(page)
    page.locator(f"#layer-{layer}").click()
    settle(page)
    without = canvas_pixels(page)
    assert without != everything
    page.keyboard.press(key)
    settle(page)
    expect(page.locator(f"#layer-{layer}")).to_have_attribute("aria-pressed", "true")
    assert canvas_pixels(page) == everything


def test_tracks_show_ids_and_where_things_came_from(page):
    show(page, "street")
    only(page)
    assert count_colors(page) == 1
    page.keyboard.press("t")
    page.wait_for_timeout(500)
    assert count_colors(page) > 3


def count_colors(page: Any) -> int:
    """How many colours the canvas shows."""
    encoded = canvas_pixels(page).partition(",")[2]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_UNCHANGED)
    return len(np.unique(np.ascontiguousarray(image).view(np.uint32)))


def test_a_click_shows_a_segment_s_details(page, expect, street):
    show(page, "still")
    thing, stuff = largest(street[0], True), largest(street[0], False)
    details = page.locator("#details")
    click_segment(page, street[0], thing.id)
    expect(details).to_contain_text(f"{thing.category}#{thing.track.id}")
    expect(details).to_contain_text("97.0 %")
    expect(details).to_contain_text(f"{100 * thing.area / (320 * 240):.2f} % of the picture")
    expect(details).to_contain_text("30 pixels/s →")
    click_segment(page, street[0], stuff.id)
    expect(details).to_contain_text(stuff.category)
    expect(details).to_contain_text("stuff")
    page.keyboard.press("Escape")
    expect(details).to_contain_text("Click a segment")


def test_segments_are_reached_by_key_and_followed_through_the_video(page, expect, street):
    show(page, "street")
    page.keyboard.press("n")
    name = page.locator("#details .segment-name")
    expect(name).to_contain_text("#")
    picked = name.text_content().split("not")[0]
    page.wait_for_timeout(600)
    assert name.text_content().startswith(picked)
    page.keyboard.press("n")
    expect(name).not_to_contain_text(picked)
    page.keyboard.press("N")
    expect(page.locator("#details .segment-name")).to_contain_text("#")


def test_the_legend_counts_and_hides(page, expect, street):
    show(page, "still")
    counts = Counter(segment.category for segment in street[0].scene.panoptic.segments if segment.is_thing)
    for category, count in counts.items():
        entry = page.locator("#legend li", has=page.get_by_text(category, exact=True))
        expect(entry.locator(".count")).to_have_text(str(count))
    only(page, "segments")
    before = canvas_pixels(page)
    category = largest(street[0], False).category
    entry = page.locator("#legend button", has=page.get_by_text(category, exact=True))
    entry.click()
    expect(entry).to_have_attribute("aria-pressed", "false")
    settle(page)
    assert canvas_pixels(page) != before
    click_segment(page, street[0], largest(street[0], False).id)
    expect(page.locator("#details")).to_contain_text("Click a segment")


def test_stages_and_numbers_are_those_of_the_scenes(page, expect, agent):
    show(page, "street")
    row = page.locator("#stages tr", has_text="Inference").first
    expect(row).to_contain_text("18 ms")
    expect(page.locator("#stages")).to_contain_text("Classification Skipped")
    expect(page.locator("#numbers")).to_contain_text("Source25.0/s")
    expect(page.locator("#latency")).to_have_attribute(
        "aria-label", re.compile(r"Median \d+ ms, 95th percentile \d+ ms")
    )
    dropped = page.locator("#numbers div", has_text="Dropped").locator("dd")
    before = int(dropped.text_content())
    eventually(lambda: int(dropped.text_content()) > before, 10)
