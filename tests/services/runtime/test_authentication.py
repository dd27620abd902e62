"""Whose token it is."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from services.runtime import tokens
from services.runtime.authentication import Authentication, AuthenticationSettings
from services.runtime.errors import KeysUnavailable, WrongToken
from services.runtime.issuer_keys import RemoteKeys, read_keys
from services.runtime.tokens import TokenEntry, digest, find, new_token, read_tokens
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, decoded, encoded, jwks
from tests.support.pairs import ratio_of_medians

ENTRY = {"name": "gate", "sha256": digest("secret"), "scopes": ["perceive"]}


def of_tokens(tmp_path: Path, *entries: dict[str, Any]) -> Authentication:
    path = tmp_path / "tokens.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return Authentication(AuthenticationSettings(authentication="required", authentication_tokens_file=path))


def of_issuer(tmp_path: Path, *issuers: Issuer) -> Authentication:
    path = tmp_path / "jwks.json"
    path.write_text(jwks(issuers))
    return Authentication(
        AuthenticationSettings(
            authentication="required",
            authentication_jwks=str(path),
            authentication_issuer=ISSUER,
            authentication_audience=AUDIENCE,
        )
    )


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


async def test_a_token_has_what_its_entry_says(tmp_path: Path) -> None:
    entry = {**ENTRY, "scopes": ["watch", "describe"], "rate": 2.5, "burst": 7, "streams": 3}
    client = await of_tokens(tmp_path, {**ENTRY, "name": "other", "sha256": digest("other")}, entry).client("secret")
    assert client.name == "token/gate"
    assert client.scopes == {"watch", "describe"}
    assert (client.rate, client.burst, client.streams) == (2.5, 7, 3)


@pytest.mark.parametrize("token", ["secre", "secrets", "SECRET", "s\0ecret", ENTRY["sha256"], "a.b.c", "x" * 100_000])
async def test_a_token_that_nobody_made(token: str, tmp_path: Path) -> None:
    with pytest.raises(WrongToken, match="the token is not known"):
        await of_tokens(tmp_path, ENTRY).client(token)


async def test_a_token_s_time_ends(tmp_path: Path) -> None:
    known = of_tokens(tmp_path, {**ENTRY, "expires": "2020-01-01"}, {**ENTRY, "name": "b", "sha256": digest("b")})
    with pytest.raises(WrongToken, match=r"of gate expired at 2020-01-01T00:00:00\+00:00"):
        await known.client("secret")
    assert (await known.client("b")).name == "token/b"


def test_comparison_tells_nothing_of_the_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry is compared, in constant time, by a hash of fixed length: no prefix of a token is ever looked at."""
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Recorded:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(tokens, "hmac", Recorded)
    entries = [TokenEntry(name=f"n{number}", sha256=digest(str(number)), scopes=("watch",)) for number in range(5)]
    for shown in ("0", "4", "none", "0" * 10_000):
        compared.clear()
        find(shown, entries)
        assert compared == [(digest(shown), entry.sha256) for entry in entries]
        assert {len(each) for pair in compared for each in pair} == {64}


def wrong_from(token: str, letter: int) -> str:
    """The token up to a letter, and from there on no letter of it."""
    return token[:letter] + "".join("B" if each == "A" else "A" for each in token[letter:])


def test_time_tells_nothing_of_a_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """CPU time of tokens that are wrong in their last letter, over that of those that are wrong in all of them."""
    token = new_token()
    known = [*(new_token() for _ in range(20)), token]
    entries = [TokenEntry(name=f"n{n}", sha256=digest(each), scopes=("watch",)) for n, each in enumerate(known)]
    near, far = wrong_from(token, len(token) - 1), wrong_from(token, 0)
    assert find(near, entries) is find(far, entries) is None

    def ratio(compare: Callable[[str], object]) -> float:
        def often(shown: str) -> None:
            for _ in range(20):
                compare(shown)

        return ratio_of_medians(lambda: often(near), lambda: often(far), 500, time.thread_time)

    def letter_by_letter(shown: str) -> bool:
        return all(mine == theirs for mine, theirs in zip(shown, token, strict=True))

    assert ratio(letter_by_letter) > 1.5, "this would be seen"
    found = [ratio(lambda shown: find(shown, entries))]
    while not 0.9 < found[-1] < 1.1 and len(found) < 3:
        found.append(ratio(lambda shown: find(shown, entries)))
    with capsys.disabled():
        print(f" [{found[-1]:.4f} times as long for a token that is right but for its last letter]", end="")
    assert 0.9 < found[-1] < 1.1, found


def test_tokens_are_random_and_not_kept() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        random = token.removeprefix(tokens.PREFIX)
        assert len(base64.urlsafe_b64decode(random + "=")) == 32
        assert token not in digest(token)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected YAML"),
        ("- !!timestamp soon", "expected YAML"),
        ("- !!int ''", "expected YAML"),
        ("name: gate", "expected a list"),
        ("- {name: gate}", "0.sha256: Field required"),
        ("- {name: a b, sha256: x, scopes: []}", "0.name"),
        ("- {name: gate, sha256: perception_forgotten, scopes: [watch]}", "0.sha256"),
        ("- {name: gate, sha256: HASH, scopes: [fly]}", "'perceive', 'watch', 'describe' or 'administer'"),
        ("- {name: gate, sha256: HASH, scopes: [watch], rate: 0}", "0.rate"),
        ("- {name: gate, sha256: HASH, scopes: [watch], rate: .inf}", "0.rate"),
        ("- {name: gate, sha256: HASH, scopes: [watch], admin: true}", "0.admin"),
        (
            "- {name: gate, sha256: HASH, scopes: [watch]}\n- {name: b, sha256: HASH, scopes: [watch]}",
            "no two entries of one sha256",
        ),
    ],
)
def test_a_file_that_is_wrong_says_where_and_shows_no_token(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text.replace("HASH", digest("x")))
    with pytest.raises(ValueError, match=r"tokens\.yaml") as caught:
        read_tokens(path)
    assert words in str(caught.value)
    assert "forgotten" not in str(caught.value)


async def test_an_issuer_s_token(tmp_path: Path, issuer: Issuer) -> None:
    known = of_issuer(tmp_path, issuer, Issuer("second", "RS256"))
    client = await known.client(issuer.token(scope="openid watch perceive admin"))
    assert client.name == "issuer/anna"
    assert client.scopes == {"watch", "perceive"}
    assert (await known.client(issuer.token(scope=None, scp=["describe", 3]))).scopes == {"describe"}
    assert (await known.client(issuer.token(scope=None))).scopes == frozenset()
    assert (await known.client(issuer.token(scope={"watch": 1}))).scopes == frozenset()


def forged(issuer: Issuer) -> Iterator[tuple[str, str]]:
    """What must not be accepted, and a word of why."""
    now = int(time.time())
    yield issuer.token(exp=now - 60), "expired"
    yield issuer.token(nbf=now + 600), "not yet valid"
    yield issuer.token(iss="https://elsewhere.test"), "issuer"
    yield issuer.token(aud="another"), "Audience"
    for claim in ("exp", "iss", "aud", "sub"):
        yield issuer.token(**{claim: None}), claim
    yield issuer.token(sub=""), "sub"
    yield issuer.token(header={"kid": "unknown"}), "'unknown'"
    yield Issuer().token(), "Signature verification failed"
    yield issuer.token(key="", algorithm="none"), "alg"
    unsigned, _, _ = issuer.token().rpartition(".")
    yield f"{unsigned}.", "Signature verification failed"
    # The oldest trick: the public key, which everybody has, as the secret of an HMAC.
    yield issuer.hmac_token(), "alg"
    yield Issuer(issuer.key_id, "RS256").token(), "alg"
    header, claims, signature = issuer.token().split(".")
    yield f"{header}.{encoded({**decoded(claims), 'scope': 'administer'})}.{signature}", "Signature"
    for broken in ("a.b.c", "..", f"{header}.{claims}.!", f"{encoded([])}.{claims}.{signature}"):
        yield broken, "is not accepted"
    deep = base64.urlsafe_b64encode(b"[" * 50_000).decode()
    yield f"{deep}.{claims}.{signature}", "is not accepted"
    yield f"{encoded({'alg': 'ES256', 'kid': ['first']})}.{claims}.{signature}", "is not accepted"
    yield f"{encoded({'alg': 'ES256', 'crit': ['x'], 'kid': 'first'})}.{claims}.{signature}", "is not accepted"


async def test_what_an_issuer_did_not_sign_for_us(tmp_path: Path, issuer: Issuer) -> None:
    known = of_issuer(tmp_path, issuer)
    for token, word in forged(issuer):
        with pytest.raises(WrongToken) as caught:
            pytest.fail(f"{await known.client(token)}: {token:.300}")
        assert word in str(caught.value), token
        assert len(str(caught.value)) < 400


def test_only_keys_that_prove_something_are_taken(issuer: Issuer) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    unusable = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**issuer.public_key(), "kid": "encryption", "use": "enc"},
        {**jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True), "kid": "weak"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off the curve"},
        {"kty": "EC", "crv": "secp256k1", "kid": "other"},
        "key",
    ]
    assert set(read_keys(json.dumps({"keys": [*unusable, issuer.public_key()]}))) == {issuer.key_id}
    for document in (json.dumps({"keys": unusable}), "[]", '{"keys": {}}', "{"):
        with pytest.raises(ValueError):
            read_keys(document)


class KeyServer:
    """An issuer's page of keys."""

    def __init__(self) -> None:
        self.answer = web.Response(status=503)
        self.asked = 0

    async def get(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.answer.status, text=self.answer.text)


async def test_an_issuer_s_page_is_asked_when_it_is_needed_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down at first, then with one key, then with another one, then down again."""
    first, second = Issuer("first"), Issuer("second")
    page = KeyServer()
    application = web.Application()
    application.router.add_get("/", page.get)
    clock = [1000.0]
    monkeypatch.setattr("services.runtime.issuer_keys.time.monotonic", lambda: clock[0])
    async with TestServer(application) as server:
        keys = RemoteKeys(str(server.make_url("/")))
        for _ in range(3):
            with pytest.raises(KeysUnavailable):
                await keys.key("first")
        assert page.asked == 1
        clock[0] += 1.5
        page.answer = web.Response(text=jwks([first]))
        assert await keys.key("first") is not None
        assert await keys.key(None) is not None
        assert page.asked == 2
        page.answer = web.Response(text=jwks([first, second]))
        for _ in range(3):
            assert await keys.key("second") is None
        assert page.asked == 2, "whoever makes up names of keys makes no calls"
        clock[0] += 31
        assert await keys.key("second") is not None
        assert await keys.key(None) is None, "there are two"
        assert page.asked == 3
        page.answer = web.Response(text="x" * (2**20 + 1))
        clock[0] += 700
        assert await keys.key("unknown") is None
        assert page.asked == 4
        assert await keys.key("first") is not None
