"""A process that is half configured does not start, and says which variable is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from services.runtime.settings import ServiceSettings, make_settings
from services.runtime.tokens import digest
from services.viewer.settings import ViewerSettings
from tests.support.certificates import Authority


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The values of a complete configuration."""
    tls = Authority.make(tmp_path).issue("server")
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"- {{name: gate, sha256: {digest('x')}, scopes: [perceive]}}\n")
    (tmp_path / "token").write_text("x")
    (tmp_path / "nothing").write_text("nothing")
    return {
        "ca": str(tls.authorities),
        "crt": str(tls.certificate),
        "key": str(tls.key),
        "tokens": str(tokens),
        "token": str(tmp_path / "token"),
        "nothing": str(tmp_path / "nothing"),
        "missing": str(tmp_path / "missing"),
    }


@pytest.mark.parametrize(
    ("given", "variable", "words"),
    [
        ({"TLS_CERTIFICATE_FILE": "crt"}, "TLS_KEY_FILE", "expected TLS_CERTIFICATE_FILE and TLS_KEY_FILE, or neither"),
        ({"TLS_KEY_FILE": "key"}, "TLS_KEY_FILE", "expected TLS_CERTIFICATE_FILE and TLS_KEY_FILE, or neither"),
        ({"TLS_CERTIFICATE_FILE": "crt", "TLS_KEY_FILE": "nothing"}, "TLS_KEY_FILE", "with its key in"),
        ({"TLS_CERTIFICATE_FILE": "missing", "TLS_KEY_FILE": "key"}, "TLS_KEY_FILE", "missing: cannot be read"),
        ({"TLS_CA_FILE": "missing"}, "TLS_CA_FILE", "missing: cannot be read"),
        ({"TLS_CA_FILE": "nothing"}, "TLS_CA_FILE", "expected certificates in PEM"),
        (
            {"TLS_CLIENT_AUTHENTICATION": "required"},
            "TLS_CLIENT_AUTHENTICATION",
            "TLS_CERTIFICATE_FILE and TLS_CA_FILE",
        ),
        (
            {"TLS_CERTIFICATE_FILE": "crt", "TLS_KEY_FILE": "key", "TLS_CLIENT_AUTHENTICATION": "required"},
            "TLS_CLIENT_AUTHENTICATION",
            "needs TLS_CA_FILE",
        ),
        ({"AUTHENTICATION": "required"}, "AUTHENTICATION", "needs AUTHENTICATION_TOKENS_FILE or AUTHENTICATION_JWKS"),
        ({"AUTHENTICATION_TOKENS_FILE": "tokens"}, "AUTHENTICATION", "is off, but AUTHENTICATION_TOKENS_FILE is set"),
        ({"AUTHENTICATION_TOKENS_FILE": "missing"}, "AUTHENTICATION_TOKENS_FILE", "cannot be read"),
        ({"AUTHENTICATION_TOKENS_FILE": "nothing"}, "AUTHENTICATION_TOKENS_FILE", "nothing: expected a list"),
        ({"AUTHENTICATION_JWKS": "nothing"}, "AUTHENTICATION_JWKS", "Expecting value"),
        ({"AUTHENTICATION_JWKS": "missing"}, "AUTHENTICATION_JWKS", "cannot be read"),
        ({"AUTHENTICATION_JWKS": "http://issuer.test"}, "AUTHENTICATION_JWKS", "expected a path or an https URL"),
        (
            {"AUTHENTICATION_JWKS": "https://issuer.test", "AUTHENTICATION_ISSUER": "me", "AUTHENTICATION": "required"},
            "AUTHENTICATION_AUDIENCE",
            "expected AUTHENTICATION_JWKS, AUTHENTICATION_ISSUER and AUTHENTICATION_AUDIENCE, or none",
        ),
        ({"AUTHENTICATION_ISSUER": "me"}, "AUTHENTICATION_ISSUER", "expected AUTHENTICATION_JWKS"),
        ({"TOKEN_FILE": "missing"}, "TOKEN_FILE", "cannot be read"),
    ],
)
def test_half_a_configuration_is_refused(
    given: dict[str, str],
    variable: str,
    words: str,
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, files.get(value, value))
    kind = ViewerSettings if variable == "TOKEN_FILE" else GatewaySettings
    with pytest.raises(SystemExit) as ended:
        make_settings(kind, "services.gateway")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith(f"services.gateway: {variable}: ")]
    assert words in line


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a chart leaves it where it has nothing to say."""
    for name in ("TLS_CA_FILE", "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE"):
        monkeypatch.setenv(name, "")
    settings = ServiceSettings()
    assert (settings.tls_as_server, settings.tls_as_caller) == (None, None)


def test_callers_are_not_asked_for_certificates_unless_told_to(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TLS_CA_FILE", "ca"), ("TLS_CERTIFICATE_FILE", "crt"), ("TLS_KEY_FILE", "key")):
        monkeypatch.setenv(name, files[value])
    settings = ServiceSettings()
    assert settings.tls_as_server is not None
    assert settings.tls_as_server.authorities is None
    assert not settings.requires_certificates
    assert settings.tls_as_caller is not None
    assert str(settings.tls_as_caller.certificate) == files["crt"]
