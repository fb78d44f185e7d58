"""Two minutes of the benchmarks' soak: what a gateway leaks, it leaks where callers leave."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.soak import Figures, Sample, Soak, run, slope_mb_per_hour

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_GROWTH_BAR_MB = 20.0
"""Within two minutes caches and arenas still fill; a task or a response kept for each request that
was left would be several times as much."""


def test_two_minutes_of_callers_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    """All are answered or left by their own caller, each has its row, and nothing is held."""
    soak = Soak(seconds=120.0, warm_up_s=40.0, rate_per_s=120.0)
    figures, _ = asyncio.run(run(soak, (0, 1), tmp_path))
    assert figures.failed == 0, figures
    assert figures.endings["left"] > 1_000
    assert figures.upstream_streams_cut > 500  # whoever left, was left at the provider too
    assert figures.in_flight_after == 0
    # The loops beside the requests: lag, dependencies, usage and its retention, the server itself.
    assert figures.tasks_after <= figures.tasks_before + 5
    assert figures.usage_rows == figures.requests
    assert figures.rss_end_mb - figures.rss_warm_mb < _GROWTH_BAR_MB, figures


def test_the_slope_is_that_of_the_time_after_the_warm_up() -> None:
    """Growth while caches fill is none; growth after it is told per hour."""
    filling = [Sample(at, 50.0 + at) for at in range(60)]
    flat = [Sample(at, 110.0) for at in range(60, 120)]
    growing = [Sample(at, 110.0 + (at - 60) / 360) for at in range(60, 120)]
    assert slope_mb_per_hour([*filling, *flat], 60) == pytest.approx(0.0)
    assert slope_mb_per_hour([*filling, *growing], 60) == pytest.approx(10.0)


def test_what_fails_is_told_from_what_leaves() -> None:
    """A caller's own leaving is no failure; everything else that is no answer is."""
    figures = Figures(10, {"ok": 6, "left": 2, "broken": 1, "late": 1}, 1, 1, 0, 0, 0, 0, 0, 10, 2)
    assert figures.failed == 2
