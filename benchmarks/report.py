"""One table from one run: what each system did, and whether the gateway met its bars."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.measure import (
    MANY,
    STREAMS,
    Measured,
    others_share,
    paired,
    requests_per_cpu_s,
    streams_per_s,
)
from benchmarks.systems import GATEWAY, NGINX, UPSTREAM

_HEADINGS = (
    "system",
    f"req/s c{MANY}",
    "p50 ms",
    "p99 ms",
    "cpu",
    "req/cpu s",
    "req/s c1",
    "p50 ms",
    "p99 ms",
    f"streams/s c{STREAMS}",
    "first byte ms",
    "cpu s/1M chunks",
    "MB idle",
    "MB after",
    "errors",
    "vs nginx",
    "vs upstream",
)


DISTURBED_SHARE = 0.1
"""Share of a system's core taken by others from which on its throughput proves nothing."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, and whether it was met. `met` is None where it could not be measured."""

    text: str
    measured: str
    met: bool | None
    disturbed: bool = False
    """Other programs took so much of the core that the number decides nothing, either way."""

    @property
    def proven(self) -> bool:
        """Met, in a run that can show it."""
        return self.met is True and not self.disturbed

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.met is None:
            return "not measured"
        word = "met" if self.met else "MISSED"
        return f"UNPROVEN ({word}, but disturbed)" if self.disturbed else word


def table(measured: Mapping[str, Measured]) -> str:
    """The systems, one a line; every number is the median of the rounds."""
    rows = [_HEADINGS, *(_row(each, measured) for each in measured.values())]
    return "\n".join(_aligned(rows))


def _row(each: Measured, measured: Mapping[str, Measured]) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.median(lambda r: r.many.requests_per_s):,.0f}",
        f"{each.median(lambda r: r.many.p50_ms):.2f}",
        f"{each.median(lambda r: r.many.p99_ms):.2f}",
        f"{each.median(lambda r: r.cpu_share):.2f}",
        f"{each.median(requests_per_cpu_s):,.0f}",
        f"{each.median(lambda r: r.one.requests_per_s):,.0f}",
        f"{each.median(lambda r: r.one.p50_ms):.3f}",
        f"{each.median(lambda r: r.one.p99_ms):.3f}",
        f"{each.median(streams_per_s):,.0f}",
        f"{each.median(lambda r: r.stream_one.first_byte_p50_ms):.2f}",
        f"{each.median(lambda r: r.cpu_s_per_million_chunks):.2f}",
        f"{each.rss_idle_mb:.0f}",
        f"{each.rss_after_mb:.0f}",
        f"{each.errors:,}",
        _ratio(each, measured.get(NGINX)),
        _ratio(each, measured.get(UPSTREAM)),
    )


def _ratio(each: Measured, other: Measured | None) -> str:
    if other is None:
        return "-"
    return f"{throughput_ratio(each, other):.3f}"


def throughput_ratio(each: Measured, other: Measured) -> float:
    """Requests/s at 64 connections against another system, round by round."""
    return paired(each, other, lambda a, b: a.many.requests_per_s / b.many.requests_per_s)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]

    def line(row: tuple[str, ...]) -> str:
        first = row[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join((first, *rest)).rstrip()

    return [line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])]


def bars(measured: Mapping[str, Measured]) -> list[Bar]:
    """What the whole stack at its defaults has to reach."""
    ours, direct, nginx = measured[GATEWAY], measured[UPSTREAM], measured.get(NGINX)
    rate = ours.median(lambda r: r.many.requests_per_s)
    added = paired(ours, direct, lambda a, b: a.one.p50_ms - b.one.p50_ms)
    shared = disturbed(ours)
    ratio = None if nginx is None else throughput_ratio(ours, nginx)
    against_nginx = Bar(
        "throughput at least 0.08 of nginx's proxy_pass",
        "nginx is not installed" if ratio is None else f"{ratio:.3f}",
        None if ratio is None else ratio >= 0.08,
        # A ratio is only fair where neither side lost its core to others: the one that lost more
        # looks slower than it is.
        shared or (nginx is not None and disturbed(nginx)),
    )
    rows, counted = (ours.evidence.get(n, 0) for n in ("usage_rows", "requests_in_metrics"))
    return [
        against_nginx,
        Bar("throughput at least 2,000 requests/s", f"{rate:,.0f}", rate >= 2000, shared),
        Bar(
            "median latency added at 1 connection at most 1 ms",
            f"{added:.3f} ms",
            added <= 1,
            shared,
        ),
        Bar(
            "resident memory idle under 120 MB",
            f"{ours.rss_idle_mb:.0f} MB",
            ours.rss_idle_mb < 120,
        ),
        Bar("no failed request", f"{ours.errors:,}", ours.errors == 0),
        # Against what the gateway counted itself: wrk leaves what is in flight at its end
        # unanswered, so a few more are served than it has seen, and they would hide a loss.
        Bar(
            "every request has its usage row",
            f"{rows:,} for {counted:,}",
            rows >= counted >= ours.requests,
        ),
    ]


def disturbed(each: Measured) -> bool:
    """Whether other programs took more of the system's core than a comparison bears."""
    return each.median(others_share) > DISTURBED_SHARE


def bars_table(judged: list[Bar]) -> str:
    """The bars, one a line."""
    rows = [("bar (radgateway)", "measured", "verdict")]
    return "\n".join(_aligned([*rows, *((bar.text, bar.measured, bar.verdict) for bar in judged)]))


def notes(measured: Mapping[str, Measured]) -> list[str]:
    """What a reader has to know to read the table right."""
    direct = measured[UPSTREAM]
    lines = []
    for name, each in measured.items():
        if name == UPSTREAM:
            continue
        added = paired(each, direct, lambda a, b: a.one.p50_ms - b.one.p50_ms)
        first = paired(
            each,
            direct,
            lambda a, b: a.stream_one.first_byte_p50_ms - b.stream_one.first_byte_p50_ms,
        )
        lines.append(
            f"{name} adds {added:.3f} ms to the median request and {first:.2f} ms to a stream's "
            "first byte, at 1 connection."
        )
        idle, others = each.median(lambda r: r.idle_share), each.median(others_share)
        if idle > 0.1:
            lines.append(
                f"{name} left {idle:.0%} of its core idle at {MANY} connections: the load or the "
                "upstream was the limit, and it can do more than the table says."
            )
        if disturbed(each):
            lines.append(
                f"{name} had to share its core: {others:.0%} of it went to something else, and "
                "its throughput is too low by about as much."
            )
    nginx, ours = measured.get(NGINX), measured[GATEWAY]
    if nginx is not None:
        ratio = paired(ours, nginx, lambda a, b: requests_per_cpu_s(a) / requests_per_cpu_s(b))
        lines.append(
            f"Per CPU second {GATEWAY} does {ratio:.3f} of nginx's requests. This depends less "
            "on how much of the core each was given than the ratio of requests/s; it is no bar."
        )
    return lines


def evidence(measured: Mapping[str, Measured]) -> list[str]:
    """What each gateway's own records say about the run."""
    told: Callable[[Measured], str] = lambda each: ", ".join(  # noqa: E731
        f"{count:,} {name.replace('_', ' ')}" for name, count in each.evidence.items()
    )
    return [
        f"{each.name}: {each.requests:,} requests sent; {told(each)}."
        for each in measured.values()
        if each.evidence
    ]


def machine() -> dict[str, str]:
    """What the run was made on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load average before": load,
    }


def versions() -> dict[str, str]:
    """The packages whose speed is part of ours."""
    found = {}
    for name in ("radgateway", "uvicorn", "uvloop", "httptools", "httpx", "msgspec", "structlog"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
