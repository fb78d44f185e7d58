"""The section `jwt`: whose tokens are taken beside the API keys, and where their keys come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from radgateway.config.secrets import Secret
from radgateway.config.values import loopback
from radgateway.inbound.bearer_tokens import TokenRules
from radgateway.inbound.limit_set import REQUESTS, check_rates

_TEXT = re.compile(r"[!-~]([ -~]{0,1022}[!-~])?")
_URL = re.compile(r"[!-~]{1,2048}")
SOURCES = ("secret", "jwks_file", "jwks_url")
"""Where the keys may come from: one of these keys is given."""

_SHARED = ("HS256",)
_PUBLIC = ("RS256", "ES256")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtConfig:
    """Tokens of one issuer. Exactly one of `secret`, `jwks_file` and `jwks_url` is given."""

    issuer: str
    """The exact `iss`."""
    audience: str
    """What must be in `aud`: the name the issuer knows this gateway by."""
    algorithms: tuple[str, ...] = ()
    """By default what the source of keys can verify: HS256, or RS256 and ES256."""
    secret: Secret | None = None
    """Shared with the issuer, for HS256; at least 32 bytes."""
    jwks_file: str | None = None
    """A file with the issuer's public keys, read again when it changes."""
    jwks_url: str | None = None
    """Where the issuer publishes its public keys; https, or http on this machine."""
    ca_file: str | None = None
    """A PEM file of authorities to trust at `jwks_url` instead of the system's."""
    leeway_s: float = 60.0
    """Seconds that the issuer's clock and ours may differ, 0 to 300 (RFC 7519 §4.1.4)."""
    name_claim: str = "sub"
    """The claim that names the caller in logs and usage, and that limits are counted by."""
    max_lifetime_s: float | None = None
    """Refuse tokens made for longer than these seconds; null takes any."""
    refresh_s: float = 300.0
    """Seconds between two looks at the keys, 1 to 86400. A new key is asked for at once."""
    max_stale_s: float = 86_400.0
    """Seconds that keys are used while no newer can be had, 60 to 30 days."""
    limits: tuple[str, ...] = ()
    """Requests of each caller, such as `60/minute`; all of them hold. None by default."""

    def __post_init__(self) -> None:
        for name in ("issuer", "audience"):
            if not _TEXT.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be 1 to 1024 printable ASCII characters")
        # Whether there is one at all is for `checks`: a bad one is left out before this is tried.
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"takes one of {', '.join(SOURCES)}, and has {' and '.join(given)}")
        kind, able = ("a secret", _SHARED) if self.secret is not None else ("public keys", _PUBLIC)
        if not set(self.algorithms) <= set(able):
            raise ValueError(f"algorithms must be some of {', '.join(able)} with {kind}")
        if not self.algorithms:
            object.__setattr__(self, "algorithms", able)
        if self.jwks_url is not None:
            _check_url(self.jwks_url)
        if self.ca_file is not None and self.jwks_url is None:
            raise ValueError("ca_file is of use with jwks_url only")
        for name, low, high in (("refresh_s", 1, 86_400), ("max_stale_s", 60, 2_592_000)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
        check_rates(REQUESTS, "limits", self.limits)
        assert self.rules  # made, and so checked

    @property
    def rules(self) -> TokenRules:
        """The same, as the verifier takes it."""
        return TokenRules(
            issuer=self.issuer,
            audience=self.audience,
            algorithms=self.algorithms,
            leeway_s=self.leeway_s,
            name_claim=self.name_claim,
            max_lifetime_s=self.max_lifetime_s,
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, usable = parts.hostname or "", parts.port != 0 and _URL.fullmatch(url) is not None
    except ValueError:
        host, usable = "", False
    if not usable or not host or parts.scheme not in ("http", "https"):
        raise ValueError("jwks_url must be an https:// URL")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("jwks_url must not carry a user or a fragment")
    if parts.scheme == "http" and not loopback(host):
        # Whoever can change the answer on its way could sign tokens of their own.
        raise ValueError("jwks_url must be https://; http:// is for this machine only")
