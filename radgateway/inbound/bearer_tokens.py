"""TokenVerifier: who a JSON Web Token (RFC 7519) speaks of, or why it is not believed.

A token is believed where its signature is by one of the keys at hand, under an algorithm of the
allow-list (RFC 8725 §3.1), and where it names our issuer and our audience and is valid now. The
claims are not looked at before the signature is known to be good. `none` is no algorithm here.

The clock is injected, since tokens are about two clocks: the issuer's and ours. Where they differ
by more than the leeway, good tokens fail, and the message says so.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from radgateway.exchange import Principal
from radgateway.inbound.compact_jwt import read_object, take_apart

TOKEN_MAX: Final = 8 * 1024
"""Bytes of the longest token looked at: what servers take as one header line."""
KNOWN_MAX: Final = 4096
"""Verified tokens remembered, some 400 bytes each."""
SKEW_PLAUSIBLE_S: Final = 300.0
"""Seconds by which clocks that nobody keeps may differ; beyond, the token is simply old or new."""
NAME_PREFIX: Final = "jwt:"
"""Begins the names of all who come with a token. No API key's name can hold a colon, so no subject
an issuer makes up can pass for the holder of a key in logs, limits or usage."""
ALGORITHMS: Final = ("HS256", "RS256", "ES256")
SECRET_MIN_BYTES: Final = 32
"""An HS256 secret is at least as long as the hash (RFC 7518 §3.2)."""

Reason = Literal[
    "invalid",
    "expired",
    "not_yet_valid",
    "wrong_audience",
    "wrong_issuer",
    "unknown_key",
    "keys_unavailable",
]

_CLAIM_NAME = re.compile(r"[!#-\[\]-~]{1,256}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@-]")
_CLAIM_MAX = 1024
_YEAR_9999_S = 253_402_300_800


class Rejection(NamedTuple):
    """Why a token is not believed. The message is for its bearer and repeats nothing of it."""

    reason: Reason
    message: str


class Key(Protocol):
    """One key, bound to one algorithm."""

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is of this message and this key."""


class Keys(Protocol):
    """Keys that are good at one moment; newer ones are another object."""

    def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key for an algorithm, by the key id a token names, if any."""


class KeySource(Protocol):
    """Where the keys come from."""

    def current(self) -> Keys | None:
        """The keys that are good now; None while there are none that can be trusted."""

    async def renewed(self) -> bool:
        """Wait a bounded time for newer keys than the current ones; whether there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say to be believed."""

    issuer: str
    """The exact `iss`."""
    audience: str
    """One of `aud`: who a token is for. Without it a token for any other service would do."""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    """Of HS256, RS256 and ES256, those that are taken."""
    leeway_s: float = 60.0
    """Seconds that the clocks may differ, 0 to 300. RFC 7519 §4.1.4 speaks of "no more than a few
    minutes"; a minute is what Envoy, gRPC and Spring Security allow."""
    name_claim: str = "sub"
    """The claim that names the caller: text of 1 to 1024 characters."""
    max_lifetime_s: float | None = None
    """Longest time from `iat` (from now, without one) to `exp`; None for any."""

    def __post_init__(self) -> None:
        for name in ("issuer", "audience"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        # It is named in a header (RFC 6750 §3), which can carry no more.
        if not _CLAIM_NAME.fullmatch(self.name_claim):
            raise ValueError("name_claim must be visible ASCII without quotes and backslashes")
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")
        if not 0 <= self.leeway_s <= SKEW_PLAUSIBLE_S:
            raise ValueError(f"leeway_s must be 0 to {SKEW_PLAUSIBLE_S:.0f}, not {self.leeway_s}")
        if self.max_lifetime_s is not None and not self.max_lifetime_s > 0:
            raise ValueError(f"max_lifetime_s must be over 0, not {self.max_lifetime_s}")


class _Disbelief(Exception):
    """Carries a rejection out of the steps of a judgement."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection


def _invalid(message: str) -> _Disbelief:
    return _Disbelief(Rejection("invalid", message))


class _Known(NamedTuple):
    """A token whose signature and claims are good, for as long as its keys and times are."""

    keys: Keys
    not_before: float
    expires: float
    principal: Principal


class TokenVerifier:
    """Judges tokens by `rules` with the keys of `source`; remembers those it has believed.

    What is remembered is a keyed hash of the token and the time in which it holds. It is void once
    the source has other keys, so a key that is withdrawn ends its tokens at once. `clock` gives
    Unix seconds.
    """

    def __init__(
        self, rules: TokenRules, source: KeySource, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._rules = rules
        self._source = source
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def verify(self, token: bytes) -> Principal | Rejection:
        """As `check`; where the key is not known, new keys are waited for once, for a moment."""
        found = self.check(token)
        if (
            isinstance(found, Rejection)
            and found.reason in ("unknown_key", "keys_unavailable")
            and await self._source.renewed()
        ):
            found = self.check(token)
        return found

    def check(self, token: bytes) -> Principal | Rejection:
        """Who the token speaks of, by the keys at hand, or why it is not believed."""
        if len(token) > TOKEN_MAX:
            return Rejection("invalid", f"The token is longer than {TOKEN_MAX} bytes.")
        keys = self._source.current()
        if keys is None:
            return _NO_KEYS
        digest = hashlib.blake2b(token, key=self._salt, digest_size=16).digest()
        known = self._known.get(digest)
        if known is None or known.keys is not keys:
            try:
                known = self._judged(token, keys)
            except _Disbelief as disbelief:
                return disbelief.rejection
            except (ValueError, RecursionError):
                return _MALFORMED
        rejection = self._untimely(known)
        if rejection is not None:
            self._known.pop(digest, None)
            return rejection
        self._remember(digest, known)
        return known.principal

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _judged(self, token: bytes, keys: Keys) -> _Known:
        """Everything but the time. Raises `_Disbelief`, or ValueError for what is no token."""
        algorithm, kid, signed, payload, signature = take_apart(token)
        if algorithm not in self._rules.algorithms:
            raise _Disbelief(_ALGORITHM)
        key = keys.find(algorithm, kid)
        if key is None:
            raise _Disbelief(_UNKNOWN_KEY)
        if not key.signed(signed, signature):
            raise _Disbelief(_SIGNATURE)
        return self._believed(read_object(payload), keys)

    def _believed(self, claims: dict[str, Any], keys: Keys) -> _Known:
        rules = self._rules
        if claims.get("iss") != rules.issuer:
            raise _Disbelief(_ISSUER)
        audience = claims.get("aud")
        among = rules.audience in audience if isinstance(audience, list) else False
        if audience != rules.audience and not among:
            raise _Disbelief(_AUDIENCE)
        name = claims.get(rules.name_claim)
        if not isinstance(name, str) or not 0 < len(name) <= _CLAIM_MAX:
            raise _invalid(f"The token must have a text `{rules.name_claim}`.")
        expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
        if expires is None:
            raise _invalid("The token must have an expiry, `exp`.")
        began = issued if issued is not None else self._clock()
        if rules.max_lifetime_s is not None and expires - began > rules.max_lifetime_s:
            raise _invalid(
                f"The token must expire within {rules.max_lifetime_s:.0f} s of its issue."
            )
        # A token from the future is as early by `iat` as by `nbf`: its issuer's clock is ahead.
        begins = max(_moment(claims, "nbf") or 0.0, issued or 0.0)
        return _Known(keys, begins, expires, Principal(principal_name(name)))

    def _untimely(self, known: _Known) -> Rejection | None:
        now, leeway = self._clock(), self._rules.leeway_s
        if now < known.not_before - leeway:
            early = known.not_before - now
            return Rejection(
                "not_yet_valid",
                f"The token is valid only in {_duration(early)}.{self._hint(early)}",
            )
        # The current time must be before `exp` (RFC 7519 §4.1.4).
        if now >= known.expires + leeway:
            late = now - known.expires
            return Rejection(
                "expired",
                f"The token expired {_duration(late)} ago; get a new one.{self._hint(late)}",
            )
        return None

    def _hint(self, off_s: float) -> str:
        if off_s > SKEW_PLAUSIBLE_S + self._rules.leeway_s:
            return ""
        return (
            f" Clocks may differ by {self._rules.leeway_s:.0f} s: if the token was issued just "
            "now, check the clocks of its issuer and of this gateway."
        )


_NO_KEYS = Rejection(
    "keys_unavailable", "Tokens can't be checked now: the keys of their issuer are not at hand."
)
_MALFORMED = Rejection("invalid", "The token is not a well-formed JWT.")
_ALGORITHM = Rejection("invalid", "The token is signed with an algorithm that is not accepted.")
_UNKNOWN_KEY = Rejection("unknown_key", "The token is signed with a key that is not known here.")
_SIGNATURE = Rejection("invalid", "The signature of the token is not valid.")
_ISSUER = Rejection("wrong_issuer", "The token is by another issuer, `iss`.")
_AUDIENCE = Rejection("wrong_audience", "The token is for another audience, `aud`.")


def principal_name(claim: str) -> str:
    """The name of who has this claim: fit for a log line, and no two claims have the same.

    A claim of the alphabet of key names stays as it is. In any other, each foreign character
    becomes `_`, and after a `~`, which no plain name can hold, 16 digits of the claim's hash keep
    it apart from its like.
    """
    if _NAME.fullmatch(claim):
        return NAME_PREFIX + claim
    digest = hashlib.blake2b(claim.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{NAME_PREFIX}{_NOT_IN_NAMES.sub('_', claim[:47])}~{digest}"


def _moment(claims: dict[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 §2) in Unix seconds, or None where the claim is missing."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (0 <= value < _YEAR_9999_S)
    ):
        raise _invalid(f"The token must give `{name}` in seconds since 1970.")
    return float(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
