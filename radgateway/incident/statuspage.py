"""Updates of the status page, over Statuspage's API v1.

It allows one request a second for a token, and says 420 or 429 to more. Nothing in it tells a
repetition, so that a call whose end nobody saw is looked for first: an incident by our id in its
metadata, an update by its words.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import msgspec

from radgateway.incident.calls import Failed, Pace, call, decoded
from radgateway.incident.outcome import Delivered, Outcome
from radgateway.incident.transaction import Job

API_URL: Final = "https://api.statuspage.io"
INTERVAL_S: Final = 1.0
"""Seconds between two requests of a token."""
_NAMESPACE: Final = "radgateway"
_LOOKED_AT: Final = 100
"""Incidents of the page that one of ours is looked for in, newest first."""


class PageUpdate(msgspec.Struct):
    """One update of an incident on the page."""

    status: str
    body: str | None = None


class PageIncident(msgspec.Struct):
    """An incident as the page has it, newest update first."""

    id: str
    incident_updates: list[PageUpdate] = []
    metadata: dict[str, Any] | None = None


def authorization(token: str) -> dict[str, str]:
    """The header of its own that Statuspage takes."""
    return {"authorization": f"OAuth {token}"}


class Statuspage:
    """Publishes to one page. A message says all that is needed: see `Desk`."""

    def __init__(self, http: httpx.AsyncClient, url: str, page: str, pace: Pace) -> None:
        self._http = http
        self._incidents = f"{url.rstrip('/')}/v1/pages/{page}/incidents"
        self._pace = pace

    async def send(self, job: Job) -> Outcome:
        """Publish one update; the page's id of the incident is the reference."""
        body: dict[str, Any] = job.body
        try:
            known = await self._known(job)
            if known is None:
                return Delivered(await self._create(job))
            said = PageUpdate(body["status"], body["body"])
            # A try before may have arrived without our hearing of it.
            if not (job.attempts and said in known.incident_updates):
                update = {"incident": {"status": said.status, "body": said.body}}
                await self._ask("PATCH", f"/{known.id}", update)
        except Failed as failed:
            return failed.outcome
        return Delivered(known.id)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def _create(self, job: Job) -> str:
        body: dict[str, Any] = job.body
        incident = {
            "name": body["name"],
            "status": body["status"],
            "body": body["body"],
            "impact_override": body["impact"],
            "metadata": {_NAMESPACE: {"incident": job.subject}},
        }
        return decoded(await self._ask("POST", "", {"incident": incident}), PageIncident).id

    async def _known(self, job: Job) -> PageIncident | None:
        """The page's incident; None where it has none yet. Asked only of what was tried before."""
        page_id: str | None = job.body["page_id"]
        if not job.attempts:
            return PageIncident(page_id) if page_id is not None else None
        if page_id is not None:
            return decoded(await self._ask("GET", f"/{page_id}"), PageIncident)
        newest = await self._ask("GET", f"?limit={_LOOKED_AT}")
        for incident in decoded(newest, list[PageIncident]):
            ours = (incident.metadata or {}).get(_NAMESPACE)
            if isinstance(ours, dict) and ours.get("incident") == job.subject:
                return incident
        return None

    async def _ask(self, method: str, path: str, json: Any = None) -> httpx.Response:
        async with self._pace.turn():
            return await call(self._http, method, f"{self._incidents}{path}", json=json)
