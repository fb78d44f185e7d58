"""Change events to PagerDuty's Events API v2: what was deployed, beside the incidents of the hour.

They wake nobody. There is no key to tell a repetition by; the deployment's id is in the details.
"""

from __future__ import annotations

from typing import Final

import httpx

from radgateway.incident.calls import Failed, call
from radgateway.incident.outcome import Delivered, Outcome
from radgateway.incident.transaction import Job

EVENTS_URL: Final = "https://events.pagerduty.com"
_SUMMARY_MAX: Final = 1_024


class PagerDuty:
    """Sends change events to one integration."""

    def __init__(self, http: httpx.AsyncClient, url: str, routing_key: str) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/v2/change/enqueue"
        self._routing_key = routing_key

    async def send(self, job: Job) -> Outcome:
        """Send one event."""
        payload = {**job.body, "summary": str(job.body["summary"])[:_SUMMARY_MAX]}
        event = {"routing_key": self._routing_key, "payload": payload}
        try:
            await call(self._http, "POST", self._url, json=event)
        except Failed as failed:
            return failed.outcome
        return Delivered()

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()
