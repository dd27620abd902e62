"""Who issues JSON Web Tokens, for tests."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://issuer.test"
AUDIENCE = "perception"


class Issuer:
    """Signs with a key of its own; `jwks` tells the public half."""

    def __init__(self, key_id: str = "first", algorithm: str = "ES256") -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.key: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )

    def token(
        self, *, key: Any = None, algorithm: str = "", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token of anna's for an hour with the scope `perceive`, but for what is given; a claim of None is none."""
        all_claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "anna",
            "exp": int(time.time()) + 3600,
            "scope": "perceive",
            **claims,
        }
        present = {name: value for name, value in all_claims.items() if value is not None}
        return jwt.encode(
            present,
            self.key if key is None else key,
            algorithm or self.algorithm,
            headers={"kid": self.key_id} | (header or {}),
        )

    def hmac_token(self) -> str:
        """A token that is signed by nobody: its HMAC is made with the public key, which everybody may have."""
        claims = self.token().split(".")[1]
        header = encoded({"alg": "HS256", "typ": "JWT", "kid": self.key_id})
        signature = hmac.digest(self.public_pem(), f"{header}.{claims}".encode(), "sha256")
        return f"{header}.{claims}.{_base64(signature)}"

    def public_pem(self) -> bytes:
        """The public key, as anybody may have it."""
        return bytes(
            self.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def public_key(self) -> dict[str, Any]:
        """The public key as one of a JSON Web Key Set."""
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        return {**algorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": self.key_id, "use": "sig"}


def jwks(issuers: Sequence[Issuer]) -> str:
    """Their JSON Web Key Set."""
    return json.dumps({"keys": [issuer.public_key() for issuer in issuers]})


def encoded(value: object) -> str:
    """A part of a token."""
    return _base64(json.dumps(value).encode())


def decoded(part: str) -> Any:
    """What a part of a token holds."""
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
