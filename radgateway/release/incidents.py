"""The open incidents, as `radgateway incident serve` lists them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import httpx

from radgateway.release.finding import Unmeasured
from radgateway.release.prometheus import Unanswered, fetch

PATH: Final = "/v0/incidents"
_SEVERITY = re.compile(r"SEV-[1-4]")


class Incident(NamedTuple):
    """One, as far as a release needs to know it."""

    severity: str
    """`SEV-1` to `SEV-4`."""
    title: str

    def __str__(self) -> str:
        return self.title or "without a title"


def open_incidents(client: httpx.Client) -> list[Incident] | Unmeasured:
    """Those that are open; why not where that isn't told whole."""
    try:
        status, answer = fetch(client, PATH, {"open": "true"})
    except Unanswered as error:
        return Unmeasured(str(error))
    if status != 200:
        return Unmeasured(f"the incidents' address answers {status}")
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return Unmeasured("the incidents' address answers without a list in data")
    found = []
    for each in listed:
        severity = each.get("severity") if isinstance(each, dict) else None
        if not isinstance(severity, str) or not _SEVERITY.fullmatch(severity):
            # One that can't be read may be the one.
            return Unmeasured("an incident has no severity of SEV-1 to SEV-4")
        found.append(Incident(severity, str(each.get("title", ""))[:200]))
    return found
