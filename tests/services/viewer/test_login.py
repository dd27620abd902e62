"""Signing in with a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from services.runtime.tokens import digest
from tests.services.viewer.browsing import PHONE, opened
from tests.services.viewer.camera_agent import SceneAgent
from tests.support.service import ServiceProcess

ENTRIES = [{"name": name, "sha256": digest(name), "scopes": [name]} for name in ("watch", "describe")]


def test_a_person_signs_in_and_out_and_is_led_to_the_form_when_the_token_is_withdrawn(
    agent: SceneAgent, browser: Any, expect: Any, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(yaml.safe_dump(ENTRIES))
    settings = {"AUTHENTICATION": "required", "AUTHENTICATION_TOKENS_FILE": tokens, "CAMERA_AGENTS": agent.address}
    with ServiceProcess("viewer", tmp_path, **settings) as viewer, opened(browser, viewer.address) as page:

        def sign_in(token: str) -> None:
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Sign in").click()

        sign_in("nobody")
        expect(page.get_by_role("alert")).to_have_text("the token is not known")
        sign_in("describe")
        expect(page.get_by_role("alert")).to_have_text("token/describe lacks the scope watch")
        sign_in("watch")
        expect(page.locator("#cameras")).to_contain_text("street")
        assert "perception_token" not in page.evaluate("document.cookie")
        page.set_viewport_size(dict(zip(("width", "height"), PHONE, strict=True)))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.get_by_role("button", name="Sign out").click()
        sign_in("watch")
        expect(page.locator("#cameras")).to_contain_text("street")
        tokens.write_text("[]")
        expect(page.get_by_label("Token")).to_be_visible()
