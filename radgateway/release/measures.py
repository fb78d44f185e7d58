"""What is asked of Prometheus: the triggers' own measures, over other windows."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from radgateway.release.evidence import Evidence
from radgateway.slo.promql import seconds
from radgateway.slo.triggers import TRIGGERS, Tracks, canary_tracks

_MEASURES: Final = {trigger.name: trigger.measure for trigger in TRIGGERS}
P95: Final = ("overhead-p95", "first-token-p95")
"""Of what the gateway owns; how long a whole generation takes is not judged."""
WORDS: Final = {
    "overhead-p95": "P95 of the gateway's own time",
    "first-token-p95": "P95 to a stream's first byte",
}
_SOAK_STEP: Final = "5m"


class Row(NamedTuple):
    """A query asked at so many moments, one step apart; each looks one step back."""

    expr: str
    step_s: int
    steps: int


def of_job(job: str) -> Tracks:
    """All series of a job, whatever version they are of."""
    matchers = f'job="{job}"'
    return Tracks(matchers, matchers)


def of_track(job: str, track: str) -> Tracks:
    """The series of one of two versions that run beside each other."""
    tracks = canary_tracks(job)
    own = tracks.judged if track == "canary" else tracks.baseline
    return Tracks(own, own)


def measure(name: str, job: str, window: str) -> str:
    """The measure of a trigger, over a window."""
    return _MEASURES[name](of_job(job), window)


def serving(job: str, evidence: Evidence) -> str:
    """How many instances serve a build, or any build of a version where none is named."""
    # An image tells its commit after the version, so the number alone matches nothing that it says.
    operator, wanted = "=", evidence.build
    if not evidence.revision:
        operator, wanted = "=~", rf"{re.escape(evidence.version)}(\+.*)?"
    return f'count(rad_gateway_build_info{{job="{job}",version{operator}{json.dumps(wanted)}}})'


def hours_served(job: str, evidence: Evidence, within: str) -> str:
    """Hours in which it was seen; a gap in the scraping costs its time."""
    seen = f"count_over_time(({serving(job, evidence)})[{within}:{_SOAK_STEP}])"
    return f"{seen} * {seconds(_SOAK_STEP)} / 3600"
