"""What a service can be told, and what it answers to nonsense."""

from __future__ import annotations

import sys

import pytest

from services.runtime.settings import ServiceSettings, TaskSettings, read_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["services.detection"])
    for name in TaskSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def read() -> TaskSettings:
    return read_settings(TaskSettings, "services.detection", "Finds objects.")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("PORT", "abc", "a valid integer"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("METRICS_PORT", "1.5", "a valid integer"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("MAX_IMAGE_BYTES", "0", "greater than or equal to 1"),
        ("MAX_IMAGE_PIXELS", "", "a valid integer"),
        ("MAX_CONCURRENT_REQUESTS", "0", "greater than or equal to 1"),
        ("DEFAULT_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("DEFAULT_TIMEOUT_SECONDS", "nan", "a finite number"),
        ("DEFAULT_TIMEOUT_SECONDS", "inf", "a finite number"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("DRAIN_SECONDS", "inf", "a finite number"),
        ("MAX_CONNECTION_AGE_SECONDS", "0", "greater than 0"),
        ("MAX_CONNECTION_AGE_SECONDS", "nan", "greater than 0"),
        ("MAX_CONNECTION_AGE_GRACE_SECONDS", "-1", "greater than 0"),
        ("HEALTH_INTERVAL_SECONDS", "0", "greater than 0"),
        ("HEALTH_INTERVAL_SECONDS", "inf", "a finite number"),
        ("WORKER_THREADS", "0", "greater than or equal to 1"),
        ("ENGINE", "tensorflow", "'triton' or 'onnxruntime'"),
        ("SCORE_THRESHOLD", "1.5", "less than or equal to 1"),
        ("SCORE_THRESHOLD", "nan", "less than or equal to 1"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        read()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"services.detection: {variable}: ")
    assert words in line
    assert line.endswith(f"got {value!r}")


def test_everything_that_is_wrong_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "abc")
    monkeypatch.setenv("ENGINE", "abc")
    with pytest.raises(SystemExit):
        read()
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("kind", [ServiceSettings, TaskSettings])
def test_help_documents_every_variable(
    kind: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["services.detection", "--help"])
    with pytest.raises(SystemExit) as ended:
        read_settings(kind, "services.detection", "Finds objects.")
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Finds objects." in lines
    for name, field in kind.model_fields.items():
        (number,) = [n for n, line in enumerate(lines) if line.strip().startswith(f"{name.upper()} (")]
        assert f"default: {field.default})" in lines[number]
        assert lines[number + 1].strip() == field.description
        assert field.description.endswith(".")


def test_arguments_that_do_not_exist_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["services.detection", "--port", "1"])
    with pytest.raises(SystemExit) as ended:
        read()
    assert ended.value.code == 2
    assert "unrecognized arguments: --port 1" in capsys.readouterr().err


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("ENGINE", "onnxruntime")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    settings = read()
    assert (settings.port, settings.engine) == (1234, "onnxruntime")
    assert settings.score_threshold == 0.25
    # The largest picture fits into a message with room for the rest of it.
    assert settings.max_message_bytes > settings.max_image_bytes
