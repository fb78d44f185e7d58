"""What `radgateway incident serve` knows: the open incidents, and what its P1 alerts were worth."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import httpx

from radgateway.release.finding import Unmeasured
from radgateway.release.prometheus import Unanswered, fetch

PATH: Final = "/v0/incidents"
_SEVERITY = re.compile(r"SEV-[1-4]")
_STRANGE: Final = "the incident app answers in no form that this version knows"


class Incident(NamedTuple):
    """One, as far as a release needs to know it."""

    severity: str
    """`SEV-1` to `SEV-4`."""
    title: str

    def __str__(self) -> str:
        return self.title or "without a title"


class P1Tally(NamedTuple):
    """P1 incidents of some days, by what people marked them as."""

    incidents: int
    false_positives: int
    unmarked: int


def open_incidents(client: httpx.Client) -> list[Incident] | Unmeasured:
    """Those that are open; why not where that isn't told whole."""
    answer = _asked(client, PATH, {"open": "true"})
    if isinstance(answer, Unmeasured):
        return answer
    try:
        listed, more = answer["data"], answer.get("nextCursor")
        found = [Incident(each["severity"], str(each.get("title", ""))[:200]) for each in listed]
        if not all(_SEVERITY.fullmatch(incident.severity) for incident in found):
            # One that can't be read may be the one.
            return Unmeasured(_STRANGE)
    except (LookupError, TypeError, AttributeError):
        return Unmeasured(_STRANGE)
    if more is not None and all(incident.severity != "SEV-1" for incident in found):
        return Unmeasured(f"more incidents are open than the {len(found)} that are listed")
    return found


def p1_tally(client: httpx.Client, days: int) -> P1Tally | Unmeasured:
    """What the review says of the P1 of so many days; why not where it doesn't."""
    answer = _asked(client, f"{PATH}/review", {"since": f"-{days}d"})
    if isinstance(answer, Unmeasured):
        return answer
    try:
        (p1,) = (each for each in answer["priorities"] if each["name"] == "P1")
        tally = P1Tally(int(p1["incidents"]), int(p1["falsePositives"]), int(p1["unmarked"]))
    except (LookupError, TypeError, ValueError, AttributeError):
        return Unmeasured(_STRANGE)
    if min(tally) < 0 or tally.false_positives + tally.unmarked > tally.incidents:
        return Unmeasured(_STRANGE)
    return tally


def _asked(client: httpx.Client, path: str, query: dict[str, str]) -> Any:
    try:
        status, answer = fetch(client, path, query)
    except Unanswered as error:
        return Unmeasured(str(error))
    return answer if status == 200 else Unmeasured(f"the incident app answers {status}")
