"""What the page does when cameras, agents, and the person before it come and go."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from perception.codecs import encode_panoptic_png
from perception.v1 import camera_pb2, perception_pb2
from PIL import Image

from tests.services.viewer.browsing import DESKTOP, PHONE, canvas_pixels, opened, show
from tests.services.viewer.camera_agent import SceneAgent
from tests.support.contract_models import picture
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY, Stack

TWO_SECONDS = 2000
LIMIT = 200_000


@pytest.fixture(scope="module")
def gateway(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running system."""
    folder = tmp_path_factory.mktemp("stack")
    taxonomy = folder / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with Stack(small_models, str(taxonomy), "onnxruntime", folder) as stack:
        yield stack.address


@pytest.fixture(scope="module")
def viewer(agent: SceneAgent, gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    settings = {"CAMERA_AGENTS": agent.address, "GATEWAY_URL": gateway, "MAX_IMAGE_BYTES": LIMIT}
    with ServiceProcess("viewer", tmp_path_factory.mktemp("viewer"), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def page(browser: Any, viewer: ServiceProcess) -> Iterator[Any]:
    with opened(browser, viewer.address) as opened_page:
        show(opened_page, "street")
        yield opened_page


def drop(page: Any, name: str, data: bytes) -> None:
    """Drops a file onto the page as the browser reports it."""
    page.evaluate(
        """([name, data]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
                document.querySelector("main").dispatchEvent(event);
            }
        }""",
        [name, base64.b64encode(data).decode()],
    )


def test_a_camera_that_goes_down_and_comes_back_is_seen_within_two_seconds(page, expect, agent):
    street = agent.cameras["street"]
    show(page, "street")
    street.set_state(camera_pb2.CAMERA_STATE_WAITING, "the source broke off", retry_seconds=20)
    entry = page.locator("#cameras button", has_text="street")
    expect(entry).to_contain_text("Waiting to retry", timeout=TWO_SECONDS)
    expect(page.locator("#state")).to_have_text("Waiting to retry", timeout=TWO_SECONDS)
    expect(page.locator("#notice")).to_contain_text("the source broke off; next try in", timeout=TWO_SECONDS)
    expect(page.locator("#announcer")).to_contain_text("street: Waiting to retry", timeout=TWO_SECONDS)
    before = canvas_pixels(page)
    street.set_state(camera_pb2.CAMERA_STATE_STREAMING)
    expect(entry).to_contain_text("Streaming", timeout=TWO_SECONDS)
    expect(page.locator("#state")).to_have_text("Streaming", timeout=TWO_SECONDS)
    expect(page.locator("#notice")).to_be_hidden()
    eventually(lambda: canvas_pixels(page) != before, 2)


def test_an_agent_that_goes_down_and_comes_back_is_seen_within_two_seconds(page, expect, agent):
    show(page, "street")
    agent.stop()
    expect(page.locator("#cameras button", has_text="street")).to_contain_text("Agent unreachable", timeout=TWO_SECONDS)
    expect(page.locator("#state")).to_have_text("Agent unreachable", timeout=TWO_SECONDS)
    before = canvas_pixels(page)
    agent.start()
    expect(page.locator("#state")).to_have_text("Streaming", timeout=TWO_SECONDS)
    eventually(lambda: canvas_pixels(page) != before, 2)


def test_a_camera_that_ended_stays_ended(page, expect, agent):
    show(page, "street")
    agent.cameras["street"].set_state(camera_pb2.CAMERA_STATE_ENDED, "the file is over")
    expect(page.locator("#state")).to_have_text("Ended", timeout=TWO_SECONDS)
    for _ in range(10):
        page.wait_for_timeout(100)
        assert page.locator("#state").text_content() == "Ended"
    agent.cameras["street"].set_state(camera_pb2.CAMERA_STATE_STREAMING)
    expect(page.locator("#state")).to_have_text("Streaming", timeout=TWO_SECONDS)


def test_what_is_left_out_to_keep_up_is_said(page, expect, agent):
    show(page, "street")
    agent.cameras["street"].degradation = perception_pb2.DEGRADATION_NO_INSTANCE_MASKS
    expect(page.locator("#notice")).to_contain_text("instance masks are left out")
    agent.cameras["street"].degradation = perception_pb2.DEGRADATION_UNSPECIFIED
    expect(page.locator("#notice")).to_be_hidden()


def test_nothing_is_watched_while_nobody_looks(page, agent):
    show(page, "still")
    eventually(lambda: agent.cameras["street"].watchers == 0, 5)
    assert agent.cameras["still"].watchers == 1
    _set_hidden(page, True)
    eventually(lambda: agent.cameras["still"].watchers == 0, 5)
    _set_hidden(page, False)
    eventually(lambda: agent.cameras["still"].watchers == 1, 5)


def _set_hidden(page: Any, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_pausing_freezes_the_picture(page, expect):
    show(page, "street")
    page.keyboard.press(".")
    expect(page.locator("#notice")).to_contain_text("Paused")
    page.wait_for_timeout(200)
    frozen = canvas_pixels(page)
    page.wait_for_timeout(400)
    assert canvas_pixels(page) == frozen
    page.keyboard.press(".")
    eventually(lambda: canvas_pixels(page) != frozen, 2)


def test_a_dropped_picture_is_perceived_by_the_gateway(page, expect, agent):
    show(page, "street")
    drop(page, "green.jpg", simplejpeg.encode_jpeg(picture(box=(10, 8, 40, 30)), quality=95))
    expect(page.locator("#title")).to_have_text("green.jpg")
    green = page.locator("#legend li", has=page.get_by_text("green", exact=True))
    expect(green.locator(".count")).to_have_text("1")
    expect(page.locator("#stages")).to_contain_text("Instance segmentation")
    box = page.locator("#view").bounding_box()
    page.locator("#view").click(position={"x": box["width"] * 25 / 64, "y": box["height"] * 19 / 48})
    expect(page.locator("#details")).to_contain_text("green")
    expect(page.locator("#details")).to_contain_text("Tint")
    eventually(lambda: agent.cameras["street"].watchers == 0, 5)
    page.go_back()
    expect(page.locator("#title")).to_have_text("street")


def test_a_picture_is_picked_from_a_file(page, expect):
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))

    def asks() -> bool:
        # The browser says nothing when it has begun to catch dialogs; a key that came before that opens one for nobody.
        page.keyboard.press("o")
        page.wait_for_timeout(500)
        return bool(choosers)

    eventually(asks, 20)
    encoded = io.BytesIO()
    Image.fromarray(picture(colour=(20, 40, 210))).save(encoded, "PNG")
    choosers[-1].set_files([{"name": "blue.png", "mimeType": "image/png", "buffer": encoded.getvalue()}])
    expect(page.locator("#title")).to_have_text("blue.png")
    expect(page.locator("#legend")).to_contain_text("blue")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("broken.jpg", b"no picture at all", "expected a JPEG, PNG or WebP file"),
        ("large.jpg", bytes(LIMIT + 1), "at most 0.2 MiB"),
    ],
)
def test_a_picture_that_cannot_be_perceived_says_why_and_leaves_the_camera_on(page, expect, name, data, message):
    show(page, "street")
    drop(page, name, data)
    expect(page.locator("#toast")).to_contain_text(f"{name} could not be perceived")
    expect(page.locator("#toast")).to_contain_text(message)
    expect(page.locator("#title")).to_have_text("street")


def test_the_help_documents_the_keyboard_and_can_switch_it_off(page, expect):
    show(page, "street")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    for text in ("Next camera", "Next segment", "Pause or go on", "Show or hide: labels", "Open a picture"):
        expect(page.locator("#shortcuts")).to_contain_text(text)
    page.get_by_label("Single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    expect(page.locator("#title")).to_have_text("street")
    page.get_by_role("button", name="Help").click()
    page.get_by_label("Single-key shortcuts").check()
    page.keyboard.press("j")
    expect(page.locator("#title")).to_have_text("street")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("j")
    expect(page.locator("#title")).not_to_have_text("street")


def test_ids_of_sixteen_bits_are_read_exactly_whatever_the_row_filter(page):
    ids = np.random.default_rng(0).integers(0, 65536, (37, 53)).astype(np.int32)
    ids[10:30, 5:40] = 65535
    filters = (cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_FILTER_SUB, cv2.IMWRITE_PNG_FILTER_UP)
    filters += (cv2.IMWRITE_PNG_FILTER_AVG, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_ALL_FILTERS)
    files = [
        cv2.imencode(".png", ids.astype(np.uint16), (cv2.IMWRITE_PNG_FILTER, each))[1].tobytes() for each in filters
    ]
    for data in (encode_panoptic_png(ids), *files):
        read = page.evaluate(
            """async (data) => {
                const { decodeGrey16 } = await import("/page/png.js");
                const { width, height, ids } = await decodeGrey16(new Uint8Array(data));
                return { width, height, ids: [...ids] };
            }""",
            list(data),
        )
        np.testing.assert_array_equal(np.reshape(read["ids"], (read["height"], read["width"])), ids)


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_fits_its_width_and_reads_well(browser, viewer, size, scheme, tmp_path):
    with opened(browser, viewer.address, size, scheme) as page:
        show(page, "street")
        page.keyboard.press("n")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        frame = page.locator("#view").bounding_box()
        assert frame["width"] >= 0.5 * min(size[0], size[1])
        assert frame["width"] / frame["height"] == pytest.approx(320 / 240, rel=0.02)
        texts = ("#title", ".state", ".hint", "#layer-boxes", "#numbers dt", "#stages th", "#details dt", "header h1")
        for selector in texts:
            assert contrast(page, selector) >= 4.5, selector
        for state in ("connecting", "streaming", "stalled", "waiting", "ended", "unreachable"):
            page.evaluate(
                "(state) => { document.querySelector('#cameras .state').className = `state ${state}`; }", state
            )
            assert contrast(page, "#cameras .state") >= 4.5, state
        page.screenshot(path=tmp_path / f"{size[0]}_{scheme}.png", full_page=True)


def contrast(page: Any, selector: str) -> float:
    """The contrast of an element's text to what is behind it, as WCAG 2.2 defines it."""
    colors = page.evaluate(
        """(selector) => {
            const element = document.querySelector(selector);
            let behind = element;
            while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        }""",
        selector,
    )
    lighter, darker = sorted(map(_luminance, colors), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    values = np.array([float(value) for value in color.removeprefix("rgb(").removesuffix(")").split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_a_page_without_cameras_says_so_and_shows_nothing_empty(browser, expect, tmp_path):
    settings = {"CAMERA_AGENTS": "", "GATEWAY_URL": "127.0.0.1:1"}
    with ServiceProcess("viewer", tmp_path, **settings) as viewer, opened(browser, viewer.address) as page:
        expect(page.locator("#no-cameras")).to_have_text("No camera agent is configured (CAMERA_AGENTS).")
        expect(page.locator("#notice")).to_have_text("Drop a picture here to have it perceived.")
        for hidden in ("#state", "#pause", "#latency", "#stages"):
            expect(page.locator(hidden)).to_be_hidden()
