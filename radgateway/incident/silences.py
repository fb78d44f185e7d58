"""Silences of Alertmanager, over its API v2: made for a deployment, and gone by a time that is set.

A silence is looked for by its comment before one is made, so that asking twice leaves one.
"""

from __future__ import annotations

from typing import Final

import httpx
import msgspec

from radgateway.incident.calls import call, decoded
from radgateway.incident.deployment import Deployment, matchers
from radgateway.usage.moment import rfc3339

_AUTHOR: Final = "radgateway incident"
_CALL_S: Final = 5.0
"""Seconds of a call: a deployment waits for it."""


class Made(msgspec.Struct):
    """What Alertmanager says of a silence that it has made."""

    silenceID: str


class Status(msgspec.Struct):
    """`pending`, `active` or `expired`."""

    state: str


class Silence(msgspec.Struct):
    """A silence as Alertmanager shows it."""

    id: str
    comment: str
    status: Status


class Silences:
    """Those of one Alertmanager. Its methods raise `Failed`."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._api = f"{url.rstrip('/')}/api/v2"

    async def begin(self, deployment: Deployment) -> str:
        """The id of the deployment's silence, which is made where there is none."""
        found = await self._found(deployment)
        if found is not None:
            return found
        silence = {
            "matchers": matchers(deployment),
            "startsAt": rfc3339(deployment.began_at),
            "endsAt": rfc3339(deployment.ends_at),
            "createdBy": _AUTHOR,
            "comment": _comment(deployment),
        }
        answer = await call(
            self._http, "POST", f"{self._api}/silences", json=silence, limit_s=_CALL_S
        )
        return decoded(answer, Made).silenceID

    async def end(self, silence: str) -> None:
        """Expire a silence. One that is over or gone is no failure."""
        if await self._lasts(silence):
            await call(self._http, "DELETE", f"{self._api}/silence/{silence}", limit_s=_CALL_S)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def _found(self, deployment: Deployment) -> str | None:
        answer = await call(self._http, "GET", f"{self._api}/silences", limit_s=_CALL_S)
        comment = _comment(deployment)
        for silence in decoded(answer, list[Silence]):
            if silence.comment == comment and silence.status.state != "expired":
                return silence.id
        return None

    async def _lasts(self, silence: str) -> bool:
        answer = await call(self._http, "GET", f"{self._api}/silences", limit_s=_CALL_S)
        return any(
            each.id == silence and each.status.state != "expired"
            for each in decoded(answer, list[Silence])
        )


def _comment(deployment: Deployment) -> str:
    return f"deployment {deployment.id} of {deployment.version}"
