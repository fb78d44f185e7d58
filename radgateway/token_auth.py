"""From the section `jwt` to who judges tokens: the verifier, its keys, and what is said of them.

The parts are imported when there is such a section: the library that reads keys is an extra.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from radgateway.config.jwt import JwtConfig
from radgateway.inbound.bearer_tokens import TokenVerifier
from radgateway.upstream import Upstream

if TYPE_CHECKING:
    from radgateway.inbound.key_renewal import RenewedKeys

_log = logging.getLogger("radgateway.jwt")


class TokenAuth:
    """The verifier of one configuration. `client` fetches `jwks_url` and is closed with it."""

    def __init__(self, config: JwtConfig, client: Upstream | None) -> None:
        self._leeway_s = config.leeway_s
        self._client = client
        self._off = False
        self._renewal: RenewedKeys | None = None
        if config.secret is not None:
            from radgateway.inbound.signing_keys import SharedSecret  # noqa: PLC0415

            self.verifier = TokenVerifier(config.rules, SharedSecret(config.secret.reveal()))
            return
        from radgateway.inbound.jwks_fetch import jwks_at_url, jwks_in_file  # noqa: PLC0415
        from radgateway.inbound.key_renewal import RenewedKeys  # noqa: PLC0415

        if config.jwks_url is not None:
            assert client is not None
            fetch = jwks_at_url(config.jwks_url, client)
        else:
            if config.jwks_file is None:
                raise ValueError("jwt has neither secret nor jwks_file nor jwks_url")
            fetch = jwks_in_file(config.jwks_file)
        self._renewal = RenewedKeys(
            fetch,
            refresh_s=config.refresh_s,
            max_stale_s=config.max_stale_s,
            on_change=_changed,
            on_skew=self._skewed,
        )
        self.verifier = TokenVerifier(config.rules, self._renewal)

    def start(self) -> None:
        """Begin to fetch the keys, on the running loop."""
        if self._renewal is not None:
            self._renewal.start()

    async def fetched(self, wait_s: float) -> bool:
        """Begin, and wait so many seconds for keys that can be used; False where none came."""
        return self._renewal is None or await self._renewal.fetched(wait_s)

    async def aclose(self) -> None:
        """Stop, and close what keys are fetched with."""
        if self._renewal is not None:
            await self._renewal.aclose()
        if self._client is not None:
            await self._client.aclose()

    def state(self) -> str:
        """A word for readiness."""
        word = self._renewal.state if self._renewal is not None else "ok"
        return "clocks_differ" if self._off and word == "ok" else word

    def _skewed(self, skew_s: float) -> None:
        """Say once that the clocks differ, before tokens fail for it: at half the leeway."""
        # Date has whole seconds, and the answer was on its way for some of them.
        off = abs(skew_s) > max(5.0, self._leeway_s / 2)
        if off and not self._off:
            _log.warning("radgateway.jwt.clocks_differ", extra={"issuer_ahead_s": round(skew_s)})
        elif self._off and not off:
            _log.warning("radgateway.jwt.clocks_agree")
        self._off = off


def _changed(available: bool, reason: str) -> None:
    if available:
        _log.warning("radgateway.jwt.keys_recovered")
    else:
        _log.warning("radgateway.jwt.keys_lost", extra={"reason": reason})
