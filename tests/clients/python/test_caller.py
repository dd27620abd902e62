"""Who calls, by environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from perception import TLS
from perception.caller import NOBODY, VARIABLES, Caller

from tests.support.certificates import Authority, environment


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nobody_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Caller.of_environment() == NOBODY
    # As a Compose file or a chart sets what is not given.
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert Caller.of_environment() == NOBODY


def test_certificates_and_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.make(tmp_path)
    tls = authority.issue("caller")
    monkeypatch.setenv("TLS_CA_FILE", str(authority.file))
    assert Caller.of_environment() == Caller(TLS(authority.file))
    for name, path in environment(tls).items():
        monkeypatch.setenv(name, str(path))
    token = tmp_path / "token"
    token.write_text("camera\n")
    monkeypatch.setenv("TOKEN_FILE", str(token))
    assert Caller.of_environment() == Caller(tls, token)


MISTAKES: list[tuple[dict[str, str], str]] = [
    ({"TLS_CERTIFICATE_FILE": "caller.crt", "TLS_KEY_FILE": "caller.key"}, "expected TLS_CA_FILE beside"),
    ({"TLS_CA_FILE": "authority.pem", "TLS_CERTIFICATE_FILE": "caller.crt"}, "expected a certificate and its key"),
    ({"TLS_CA_FILE": "nowhere.pem"}, "nowhere.pem: cannot be read: No such file"),
    ({"TLS_CA_FILE": "caller.key"}, "caller.key: expected certificates in PEM"),
    ({"TOKEN_FILE": "nowhere"}, "No such file or directory: 'nowhere'"),
    ({"TOKEN_FILE": "empty"}, "empty: expected a token"),
]


@pytest.mark.parametrize(("variables", "words"), MISTAKES)
def test_what_cannot_be_used_is_named(
    variables: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Authority.make(tmp_path).issue("caller")
    (tmp_path / "empty").touch()
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        Caller.of_environment()
