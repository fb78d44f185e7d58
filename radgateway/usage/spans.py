"""Which part of a time comes from daily roll-ups, which from hourly ones, and which from rows."""

from __future__ import annotations

from typing import NamedTuple

from radgateway.usage.rollup import DAY_S, HOUR_S


class Span(NamedTuple):
    """From a time on, until just before another, in Unix seconds; None has no end."""

    since: float | None
    until: float | None


class Spans(NamedTuple):
    """A time in pieces that don't overlap: whole days, whole hours, and what is left."""

    days: list[Span]
    hours: list[Span]
    rows: list[Span]


def spans(asked: Span, *, by_day: bool) -> Spans:
    """Divide a time; without `by_day` whole days are taken as hours as well."""
    hours, rows = _within(asked, HOUR_S)
    if not by_day:
        return Spans([], hours, rows)
    days: list[Span] = []
    edges: list[Span] = []
    for each in hours:
        whole, rest = _within(each, DAY_S)
        days += whole
        edges += rest
    return Spans(days, edges, rows)


def _within(asked: Span, width_s: int) -> tuple[list[Span], list[Span]]:
    """The whole buckets in a span, and its edges."""
    # Not by dividing: a quotient may be rounded to a whole number that it is not.
    since = -int(-asked.since // width_s) * width_s if asked.since is not None else None
    until = int(asked.until // width_s) * width_s if asked.until is not None else None
    if since is not None and until is not None and since >= until:
        return [], [asked]
    edges = [Span(asked.since, since), Span(until, asked.until)]
    return [Span(since, until)], [each for each in edges if each.since != each.until]
