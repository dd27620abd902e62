"""A real browser for tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
DESKTOP = (1440, 900)
PHONE = (390, 844)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: extra `dev`")
    if CHROMIUM is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, size: tuple[int, int] = DESKTOP, scheme: str = "dark") -> Iterator[Any]:
    """A page of the viewer. Fails in the end where the page reported an error or asked another host for something."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda request: problems.append(request.url) if _is_foreign(request.url, address) else None)
    page.on(
        "console",
        lambda line: problems.append(f"console: {line.text}") if "Content Security Policy" in line.text else None,
    )
    try:
        page.goto(f"http://{address}/")
        yield page
    finally:
        context.close()
    assert problems == []


def _is_foreign(url: str, address: str) -> bool:
    return not url.startswith((f"http://{address}/", f"ws://{address}/", "blob:"))


def show(page: Any, camera: str) -> None:
    """Chooses a camera and waits for its first scene."""
    page.locator("#cameras button", has_text=camera).click()
    page.locator("#title", has_text=camera).wait_for()
    page.locator("#legend li").first.wait_for()


def only(page: Any, *layers: str) -> None:
    """Switches on these layers and no others."""
    for name in ("picture", "segments", "boxes", "labels", "tracks"):
        button = page.locator(f"#layer-{name}")
        if (button.get_attribute("aria-pressed") == "true") != (name in layers):
            button.click()
    settle(page)


def settle(page: Any) -> None:
    """Waits until what was asked for is drawn."""
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def set_opacity(page: Any, percent: int) -> None:
    """Moves the slider."""
    page.locator("#opacity").fill(str(percent))
    settle(page)


def canvas_pixels(page: Any) -> str:
    """What the picture's canvas shows now, as a data address; equal where no pixel differs."""
    return str(page.evaluate("document.getElementById('view').toDataURL()"))


def colors_at(page: Any, points: list[tuple[float, float]]) -> list[list[int]]:
    """Red, green, blue and alpha of the canvas at places given as fractions of its width and height."""
    return list(
        page.evaluate(
            """(points) => {
                const canvas = document.getElementById("view");
                const context = canvas.getContext("2d");
                return points.map(([x, y]) => {
                    const [column, row] = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
                    return [...context.getImageData(column, row, 1, 1).data];
                });
            }""",
            points,
        )
    )
