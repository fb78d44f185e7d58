"""Reading a JSON Web Token in its compact form (RFC 7515 §7.1), strictly.

One token has one spelling and one meaning: base64url without padding or stray bits, objects in
UTF-8, no name twice. Everything here raises ValueError (or RecursionError, for what is nested
without end) where a token is not in order, and looks at no claim before it is asked to.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TYPES = frozenset({"jwt", "at+jwt"})
_EXTENSIONS = frozenset({"crit", "b64"})


class CompactToken(NamedTuple):
    """A token taken apart; nothing of it is to be believed yet."""

    algorithm: str
    kid: str | None
    signed: bytes
    """What the signature is of."""
    payload: bytes
    """The claims, still encoded."""
    signature: bytes


def looks_like_token(key: bytes) -> bool:
    """Whether a key is in the form of a JWT: an encoded JSON object, and two dots."""
    return key[:3] == b"eyJ" and key.count(b".") == 2


def take_apart(token: bytes) -> CompactToken:
    """The parts of a token whose header asks for nothing that is not done here."""
    # Cheaper than finding out in what follows, which would.
    if token.translate(None, _ALPHABET) != b"..":
        raise ValueError("not the compact form")
    signed, _, signature = token.rpartition(b".")
    head, _, payload = signed.partition(b".")
    header = read_object(head)
    kind = header.get("typ", "jwt")
    # Other kinds (a logout token, a proof) are by the same issuer and mean something else
    # (RFC 8725 §3.11); an extension that must be understood is not (RFC 7515 §4.1.11).
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise ValueError("not the kind of token that lets one in")
    if header.keys() & _EXTENSIONS:
        raise ValueError("an extension")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise ValueError("alg and kid are text")
    return CompactToken(algorithm, kid, signed, payload, _decoded(signature))


def read_object(part: bytes) -> dict[str, Any]:
    """The JSON object that a part encodes."""
    # Decoded here, for json would also take UTF-16.
    found = _JSON.decode(_decoded(part).decode())
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _decoded(part: bytes) -> bytes:
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    # The last character may hold bits that stand for nothing; set, they would make of one token
    # several (RFC 4648 §3.5).
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise ValueError("stray bits")
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519 §4: names are unique, and a parser may refuse what breaks that."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
