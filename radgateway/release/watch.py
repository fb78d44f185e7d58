"""Measures a canary at its template's intervals, until its verdict is certain."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from typing import Final

from radgateway.release.analysis import duration_s
from radgateway.release.canary import Canary, Course, measured
from radgateway.release.prometheus import Prometheus, Unanswered

_RETRY_S: Final = 10.0
"""After an error, where the interval is longer; as Argo does."""


def watch(
    canary: Canary,
    ask: Mapping[str, Prometheus],
    say: Callable[[str], None],
    for_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take measurements and tell of each; returns when it is certain, or after `for_s` seconds.

    `ask` has a Prometheus for each address that a criterion names.
    """
    began = clock()
    due = [
        (began + duration_s(course.criterion.metric.initialDelay), number)
        for number, course in enumerate(canary.courses)
    ]
    heapq.heapify(due)
    while due and not canary.certain:
        at, number = heapq.heappop(due)
        if at - began > for_s:
            return
        if (wait_s := at - clock()) > 0:
            sleep(wait_s)
        course = canary.courses[number]
        again_s = _measure(course, ask[course.criterion.address])
        say(_progress(clock() - began, course))
        if course.phase is None:
            heapq.heappush(due, (max(at + again_s, clock()), number))


def _measure(course: Course, prometheus: Prometheus) -> float:
    """One measurement; returns in how many seconds the next one is due."""
    interval_s = duration_s(course.criterion.metric.interval) or _RETRY_S
    try:
        values = prometheus.values(course.criterion.query)
    except Unanswered as error:
        course.record("error", why=str(error))
        return min(interval_s, _RETRY_S)
    phase, why = measured(course.criterion, values)
    course.record(phase, values, why)
    return min(interval_s, _RETRY_S) if phase == "error" else interval_s


def _progress(seconds: float, course: Course) -> str:
    name = course.criterion.metric.name
    why = f" ({course.why})" if course.why else ""
    return f"{seconds:7.1f} s  {name} = {course.latest}{why}: {course.tally}"
