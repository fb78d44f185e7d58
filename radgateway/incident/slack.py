"""Messages to Slack's incoming webhooks: an address for each audience.

A webhook can't be asked what it has had, so a message whose end nobody saw is sent once more.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from radgateway.incident.calls import Failed, call
from radgateway.incident.outcome import Delivered, Outcome, Refused
from radgateway.incident.transaction import Job


class Slack:
    """Sends to whoever has an address. `urls` are by audience."""

    def __init__(self, http: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._http = http
        self._urls = urls

    async def send(self, job: Job) -> Outcome:
        """Post one message."""
        url = self._urls.get(str(job.body["audience"]))
        if url is None:
            return Refused(f"slack.{job.body['audience']} is not configured any more")
        try:
            await call(self._http, "POST", url, json={"text": job.body["text"]})
        except Failed as failed:
            return failed.outcome
        return Delivered()

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()
