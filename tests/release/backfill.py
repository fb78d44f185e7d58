"""Days of a gateway's series, written into a Prometheus's storage before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slo_tools import run

Share = Callable[[float], float]
"""A share of the requests, by the seconds before the end."""


def never(_: float) -> float:
    """None of them."""
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One job, and how it did."""

    job: str
    failing: Share = never
    slow: Share = never
    """Over a second in the gateway itself, and to a stream's first byte; under five."""
    per_s: Share = lambda _: 2.0
    """Requests a second."""
    version: str = "1.4.0+3bbdefc"
    """As a gateway tells it: with the commit, where its image has it."""
    version_since_s: float = 1e9
    """Seconds before the end from which this version served."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """When samples are taken, in seconds before the end."""

    begins_s: int
    ends_s: int = 0
    every_s: int


def backfill(folder: Path, end: float, stretch: Stretch, services: Iterable[Service]) -> None:
    """Write blocks of all that. Counters count from 0 at the beginning of the stretch."""
    file = folder / "backfill.txt"
    file.write_text("\n".join([*_lines(end, stretch, tuple(services)), "# EOF", ""]))
    made = run(
        "promtool",
        "tsdb",
        "create-blocks-from",
        # One pass over the file, not one for each two hours.
        "--max-block-duration=1024h",
        "openmetrics",
        file,
        folder / "tsdb",
    )
    assert made.returncode == 0, made.stdout + made.stderr


def _lines(end: float, stretch: Stretch, services: tuple[Service, ...]) -> Iterator[str]:
    """The series one after another, each as it grew."""
    ages = range(stretch.begins_s, stretch.ends_s - 1, -stretch.every_s)
    watchdog = 'ALERTS{alertname="Watchdog",alertstate="firing",service="rad-gateway"}'
    yield from (f"{watchdog} 1 {end - age:.0f}" for age in ages)
    for service in services:
        job = f'job="{service.job}"'
        build = f'rad_gateway_build_info{{{job},version="{service.version}"}}'
        yield from (f"{build} 1 {end - age:.0f}" for age in ages if age <= service.version_since_s)
        for series, share in _parts(service, job).items():
            total = 0.0
            for age in ages:
                total += stretch.every_s * service.per_s(age) * share(age)
                yield f"{series} {total:.3f} {end - age:.0f}"


def _parts(service: Service, job: str) -> dict[str, Share]:
    """Each counter of a service, with the share of its requests that it counts."""

    def served(age: float) -> float:
        return 1 - service.failing(age)

    def fast(age: float) -> float:
        return 1 - service.slow(age)

    def every(_: float) -> float:
        return 1.0

    parts: dict[str, Share] = {
        f'rad_gateway_requests_total{{{job},status="200"}}': served,
        f'rad_gateway_requests_total{{{job},status="503"}}': service.failing,
        f"rad_gateway_responses_interrupted_total{{{job}}}": never,
    }
    for metric in ("overhead", "time_to_first_token"):
        for le, share in (("0.1", fast), ("1.0", fast), ("5.0", every), ("+Inf", every)):
            parts[f'rad_gateway_{metric}_seconds_bucket{{{job},le="{le}"}}'] = share
    return parts
