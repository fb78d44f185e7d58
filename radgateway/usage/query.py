"""What may be asked of a ledger: a page of its rows, or sums over them.

Both take the same filter, so a table and the total below it speak of the same requests. What is
not known is never counted as 0: each sum says beside it how many requests it is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from radgateway.usage.row import UsageRow

GroupBy = Literal["hour", "day", "key", "model", "provider", "outcome"]

GROUPS: Final[tuple[GroupBy, ...]] = ("hour", "day", "key", "model", "provider", "outcome")
PAGE_MAX: Final = 500
"""Rows a page holds at most."""
SUMS_MAX: Final = 10_000
"""Sums given at most, the largest groups by number of requests."""
TOKENS_MAX: Final = 10**12
"""Tokens that one request counts for at most: a provider that claims more talks nonsense, and a few
such claims would overflow the sums of everybody."""
WIDTHS_S: Final[Mapping[str, int]] = {"hour": 3600, "day": 86_400}
"""Seconds of what one may group by that is a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Which requests: all that fit every field that is set. An empty one fits all.

    Each text is one exact value, or None for any.
    """

    since: float | None = None
    """Unix seconds at which a request began, at the earliest."""
    until: float | None = None
    """Unix seconds before which a request began."""
    key: str | None = None
    """The name of the caller's key."""
    model: str | None = None
    """As the caller named it, or as the provider that served it does."""
    provider: str | None = None
    """Who served it, or was the last to be tried."""
    outcome: str | None = None
    """One of `exchange.Outcome`."""
    request_id: str | None = None
    trace_id: str | None = None

    def fits(self, row: UsageRow) -> bool:
        """Whether a row is among them."""
        return (
            (self.since is None or row.started_at >= self.since)
            and (self.until is None or row.started_at < self.until)
            and self.key in (None, row.api_key_name)
            and self.model in (None, row.model, row.selected_model)
            and self.provider in (None, row.provider)
            and self.outcome in (None, row.outcome)
            and self.request_id in (None, row.request_id)
            and self.trace_id in (None, row.trace_id)
        )


class Page(NamedTuple):
    """Rows, newest first, and where the next page begins: the id of this one's last row.

    None where there is no next page. Rows that come while somebody turns the pages are newer than
    all of them, so no page shows a row twice or leaves one out.
    """

    rows: list[UsageRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What some requests came to together. Tokens and money are of those that are known."""

    group: tuple[str, ...] = ()
    """The values of what was grouped by, in that order; an hour or day as RFC 3339 in UTC."""
    requests: int = 0
    good: int = 0
    """Requests that did not fail for a reason of ours or of a provider (`is_good`)."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    unknown_usage: int = 0
    """Requests whose tokens are not all known, and of which the sums hold what is."""
    cost_usd: Decimal = field(default_factory=Decimal)
    unknown_cost: int = 0
    """Requests whose cost is not known, and not in `cost_usd`."""

    def plus(self, other: Sums) -> Sums:
        """Both together, of this one's group."""
        added = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        return replace(self, **added)


_SUMMED = tuple(each.name for each in fields(Sums) if each.name != "group")


def is_good(status: int, outcome: str) -> bool:
    """Whether a request counts for availability: no 5xx, and no answer that broke off.

    The caller's own mistakes and its leaving (4xx, 499) are no fault of the service.
    """
    return status < 500 and outcome != "interrupted"


def sums_of(row: UsageRow) -> Sums:
    """One request as a sum of one, of no group."""
    return Sums(
        requests=1,
        good=1 if is_good(row.status, row.outcome) else 0,
        input_tokens=min(row.input_tokens or 0, TOKENS_MAX),
        output_tokens=min(row.output_tokens or 0, TOKENS_MAX),
        cached_tokens=min(row.cached_tokens or 0, TOKENS_MAX),
        reasoning_tokens=min(row.reasoning_tokens or 0, TOKENS_MAX),
        unknown_usage=1 if row.total_tokens is None else 0,
        cost_usd=Decimal(row.cost_usd) if row.cost_usd is not None else Decimal(),
        unknown_cost=1 if row.cost_usd is None else 0,
    )


def group_of(row: UsageRow, by: Iterable[GroupBy]) -> tuple[str, ...]:
    """The group a row belongs to."""
    return tuple(_value(row, each) for each in by)


def page_of(rows: Iterable[UsageRow], wanted: UsageFilter, limit: int, cursor: str | None) -> Page:
    """A page from rows that come newest first."""
    found: list[UsageRow] = []
    for row in rows:
        if (cursor is None or row.usage_id < cursor) and wanted.fits(row):
            if len(found) == limit:
                return Page(found, found[-1].usage_id if found else cursor)
            found.append(row)
    return Page(found, None)


def summed(rows: Iterable[UsageRow], wanted: UsageFilter, by: tuple[GroupBy, ...]) -> list[Sums]:
    """The sums of rows, by group: times ascending, else the most requests first.

    Without `by` it is one sum, also of nothing.
    """
    of: dict[tuple[str, ...], Sums] = {} if by else {(): Sums()}
    for row in rows:
        if wanted.fits(row):
            group = group_of(row, by)
            of[group] = of.get(group, Sums(group=group)).plus(sums_of(row))
    return ordered(of.values(), by)


def ordered(sums: Iterable[Sums], by: tuple[GroupBy, ...]) -> list[Sums]:
    """Sums in the order they are shown in, `SUMS_MAX` of them at most."""
    times = [at for at, each in enumerate(by) if each in WIDTHS_S]

    def rank(each: Sums) -> tuple[int, tuple[str, ...]]:
        return -each.requests, each.group

    found = list(sums)
    if len(found) > SUMS_MAX:
        found = sorted(found, key=rank)[:SUMS_MAX]
    # A time by itself, of which databases give the largest first: sorting thousands that are in
    # no order would hold the interpreter for tens of milliseconds.
    of: dict[tuple[str, ...], list[Sums]] = {}
    for each in found:
        of.setdefault(tuple(each.group[at] for at in times), []).append(each)
    return [each for time in sorted(of) for each in sorted(of[time], key=rank)]


def _value(row: UsageRow, by: GroupBy) -> str:
    if by in WIDTHS_S:
        return bucket_text(row.started_at, WIDTHS_S[by])
    return {
        "key": row.api_key_name,
        # Requests that reached no candidate carry whatever name their caller made up.
        "model": row.selected_model,
        "provider": row.provider,
        "outcome": row.outcome,
    }[by]


def bucket_text(unix_s: float, width_s: int) -> str:
    """The beginning of the hour or day that a time is in, as RFC 3339 in UTC."""
    began = datetime.fromtimestamp(unix_s // width_s * width_s, UTC)
    return began.strftime("%Y-%m-%dT%H:%M:%SZ")


def newest_first(rows: Iterable[UsageRow]) -> Iterator[UsageRow]:
    """Rows by their ids, which are in the order of time, descending."""
    return iter(sorted(rows, key=lambda row: row.usage_id, reverse=True))
