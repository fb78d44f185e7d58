"""An issuer of tokens for the tests: its keys, its key set, and tokens good and bad."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test/realm"
AUDIENCE = "radgateway"
SECRET = "a-secret-shared-with-the-issuer-0123456789"
NOW = 1_800_000_000.0
"""What the tests' clock shows, in Unix seconds."""
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "iat": int(NOW) - 10,
    "exp": int(NOW) + 600,
}


class Clock:
    """A wall clock that the test sets."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of the issuer's RSA keys."""
    return _rsa_key(number, bits)


@functools.cache
def _rsa_key(number: int, bits: int) -> rsa.RSAPrivateKey:
    """Made once, since that takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """One of the issuer's P-256 keys."""
    return _ec_key(number)


@functools.cache
def _ec_key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(number: int = 0) -> bytes:
    """An RSA key's public half, as everybody may know it."""
    return (
        rsa_key(number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def public_der(number: int = 0) -> bytes:
    """The same in binary."""
    key = rsa_key(number).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def jwk(algorithm: str, kid: str | None, number: int = 0, **more: Any) -> dict[str, Any]:
    """A key's public half as an entry of a key set."""
    if algorithm == "RS256":
        entry = RSAAlgorithm.to_jwk(rsa_key(number).public_key(), as_dict=True)
        entry.pop("key_ops", None)
    else:
        entry = ECAlgorithm.to_jwk(ec_key(number).public_key(), as_dict=True)
    return {**entry, **({"kid": kid} if kid is not None else {}), **more}


def jwks(*entries: dict[str, Any]) -> bytes:
    """A key set's document."""
    return json.dumps({"keys": list(entries)}).encode()


KEY_SET = jwks(jwk("RS256", "rsa-0"), jwk("ES256", "ec-0", use="sig"))
"""The set with the first key of each type."""
KIDS = {"HS256": None, "RS256": "rsa-0", "ES256": "ec-0"}


def token(
    algorithm: str = "RS256",
    number: int = 0,
    header: dict[str, Any] | None = None,
    without: str = "",
    **claims: Any,
) -> bytes:
    """A signed token: the usual claims, changed as told, less one."""
    key: Any = {"HS256": SECRET, "RS256": rsa_key(number), "ES256": ec_key(number)}[algorithm]
    said = {name: value for name, value in {**CLAIMS, **claims}.items() if name != without}
    kid = KIDS[algorithm]
    headers = {**({"kid": kid} if kid is not None else {}), **(header or {})}
    # Not by `jwt.encode`, which refuses to make some of the bad ones.
    return sign(algorithm, key, {"typ": "JWT", "alg": algorithm, **headers}, json.dumps(said))


def sign(algorithm: str, key: Any, header: dict[str, Any] | str, payload: str | bytes) -> bytes:
    """Sign any bytes under any header."""
    head = header if isinstance(header, str) else json.dumps(header)
    body = payload if isinstance(payload, bytes) else payload.encode()
    signed = encoded(head.encode()) + b"." + encoded(body)
    maker = jwt.get_algorithm_by_name(algorithm)
    return signed + b"." + encoded(maker.sign(signed, maker.prepare_key(key)))


def encoded(part: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=")
