"""The keys that tokens are verified with: a shared secret, or the public keys of a JWK Set.

Each key is bound to the one algorithm it is for, and is found by that algorithm's name, so what a
token says of itself chooses among keys but never how one is used: a public key can't be taken for
an HMAC secret (RFC 8725 §2.1, §3.1). The mathematics and the reading of keys are PyJWT's.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import jwt

from radgateway.inbound.bearer_tokens import SECRET_MIN_BYTES, Keys

DOCUMENT_MAX_BYTES: Final = 256 * 1024
"""Largest JWK Set read; the largest of the well-known issuers are some 20 KB."""
KEYS_MAX: Final = 100
RSA_BITS: Final = (2048, 8192)
"""Smallest (RFC 7518 §3.3) and largest RSA key taken; the cost of a check grows with its square."""

_TEXT_MAX = 2048
_KID_MAX = 256
_PARTS_OF = {"RS256": ("kty", "n", "e"), "ES256": ("kty", "crv", "x", "y")}


class SigningKey:
    """One key and its one algorithm."""

    __slots__ = ("_key", "_verify", "algorithm")

    def __init__(self, key: jwt.PyJWK) -> None:
        self.algorithm = key.algorithm_name
        self._verify = key.Algorithm.verify
        self._key = key.key

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is of this message and this key."""
        return self._verify(message, self._key, signature)


class SharedSecret:
    """One secret for HS256, known to the issuer and to us. Raises ValueError for a weak one.

    It is its own source of keys: there is nothing to renew.
    """

    def __init__(self, secret: str) -> None:
        octets = secret.encode()
        if len(octets) < SECRET_MIN_BYTES:
            raise ValueError(f"secret must have at least {SECRET_MIN_BYTES} bytes for HS256")
        try:
            jwt.get_algorithm_by_name("HS256").prepare_key(octets)
        except jwt.InvalidKeyError:
            raise ValueError("secret is a public key or certificate, which is no secret") from None
        encoded = base64.urlsafe_b64encode(octets).decode().rstrip("=")
        self._key = SigningKey(jwt.PyJWK({"kty": "oct", "k": encoded}, "HS256"))

    def find(self, algorithm: str, kid: str | None) -> SigningKey | None:
        """The one key, whatever its id, for its one algorithm."""
        return self._key if algorithm == self._key.algorithm else None

    def current(self) -> Keys:
        """The keys that are good now."""
        return self

    async def renewed(self) -> bool:
        """Whether there are newer keys: never."""
        return False


class JwkSet:
    """The usable public keys of a JWK Set (RFC 7517). Raises ValueError where it is none.

    Usable for verifying RS256 or ES256, that is. Any other key is left out: of another type, curve
    or declared purpose (`use`, `key_ops`, `alg`), too small or too large, symmetric, or private,
    since whoever can read the set could then sign.
    """

    def __init__(self, document: bytes) -> None:
        self._keys: dict[tuple[str, str | None], SigningKey] = {}
        self._only: dict[str, SigningKey | None] = {}
        for entry in _entries(document):
            key = _usable(entry)
            if key is None:
                continue
            # A key id may be that of several keys of different types (RFC 7517 §4.5).
            self._keys.setdefault((key.algorithm, entry.get("kid")), key)
            self._only[key.algorithm] = None if key.algorithm in self._only else key

    def __len__(self) -> int:
        """How many keys are usable."""
        return len(self._keys)

    def find(self, algorithm: str, kid: str | None) -> SigningKey | None:
        """The key with this id; for a token that names none, the only one of its algorithm."""
        if kid is None:
            return self._only.get(algorithm)
        return self._keys.get((algorithm, kid))


def _entries(document: bytes) -> list[Any]:
    if len(document) > DOCUMENT_MAX_BYTES:
        raise ValueError(f"the key set is larger than {DOCUMENT_MAX_BYTES} bytes")
    try:
        found = json.loads(document.decode())
    except (ValueError, RecursionError):
        raise ValueError("the key set is not JSON") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the key set has no list of keys")
    if len(entries) > KEYS_MAX:
        raise ValueError(f"the key set has more than {KEYS_MAX} keys")
    return entries


def _usable(entry: Any) -> SigningKey | None:
    """The key an entry holds, or None where it is of no use here."""
    algorithm = _algorithm_of(entry) if isinstance(entry, dict) else None
    if algorithm is None:
        return None
    parts = {name: entry.get(name) for name in _PARTS_OF[algorithm]}
    if not all(isinstance(part, str) and len(part) <= _TEXT_MAX for part in parts.values()):
        return None
    try:
        made = jwt.PyJWK(parts, algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
    if algorithm == "RS256" and not RSA_BITS[0] <= made.key.key_size <= RSA_BITS[1]:
        return None
    return SigningKey(made)


def _algorithm_of(entry: dict[str, Any]) -> str | None:
    """What an entry says its key is for, as far as that is something we do."""
    kty, curve, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if kty == "RSA":
        algorithm = "RS256"
    elif kty == "EC" and curve == "P-256":
        algorithm = "ES256"
    else:
        return None
    operations = entry.get("key_ops", ["verify"])
    fits = (
        entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and (kid is None or (isinstance(kid, str) and len(kid) <= _KID_MAX))
        and "d" not in entry
    )
    return algorithm if fits else None
