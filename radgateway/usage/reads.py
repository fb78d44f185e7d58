"""The questions of `query.py` as SQL, said once for both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg as postgresql

from radgateway.short_turns import paced
from radgateway.usage.columns import usage_rows
from radgateway.usage.query import (
    SUMS_MAX,
    TOKENS_MAX,
    WIDTHS_S,
    GroupBy,
    Page,
    Sums,
    UsageFilter,
    bucket_text,
    ordered,
)
from radgateway.usage.rollup import FIGURES, HOUR_S, ROLLUP_NAMES
from radgateway.usage.spans import Span, spans
from radgateway.usage.tables import ATTEMPTS, DAILY, HOUR, HOURLY, REQUESTS

Run = Callable[[str, Any], Iterable[Sequence[Any]]]
"""Runs a statement with its values, and gives the rows of the result one by one."""
Expression = sa.ColumnElement[Any]

_AT_ONCE: Final = 500
"""Values a list in a statement has at most; SQLite before 3.32 takes 999 in all."""

EQUAL: Final[Mapping[str, str]] = {
    "key": "api_key_name",
    "provider": "provider",
    "outcome": "outcome",
    "request_id": "request_id",
    "trace_id": "trace_id",
}
"""Columns that have to equal what the filter's field says."""
_ROLLED_UP: Final = ("since", "until", "key", "provider", "outcome")
"""Fields of the filter that roll-ups can tell."""
_GROUPS: Final[Mapping[str, str]] = {
    "key": "api_key_name",
    "model": "selected_model",
    "provider": "provider",
    "outcome": "outcome",
}


class Flavour(NamedTuple):
    """What one database says otherwise than the other."""

    dialect: sa.Dialect
    second: Callable[[Expression], Expression]
    """The whole second that a time is in."""
    parts: Callable[[Expression], list[Expression]]
    """A decimal as numbers that can be summed without loss: units, then 10^-9, then 10^-18."""
    has_ids: bool
    """Whether it has indexes by the ids of requests and traces."""


def _split(text: Expression) -> list[Expression]:
    # SQLite has no exact number but the integer. Nine digits a part leave room for 10^10 summands.
    point = sa.func.instr(text, ".")
    digits = sa.case((point > 0, sa.func.substr(text, point + 1)), else_="")
    padded = digits + "0" * 18
    return [
        sa.cast(part, sa.Integer)
        for part in (text, sa.func.substr(padded, 1, 9), sa.func.substr(padded, 10, 9))
    ]


SQLITE: Final = Flavour(
    sqlite.dialect(paramstyle="named"),
    lambda time: sa.cast(time, sa.Integer),
    _split,
    has_ids=False,
)
POSTGRESQL: Final = Flavour(
    postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's own omission
    lambda time: sa.cast(sa.func.floor(time), sa.BigInteger),
    lambda number: [number],
    has_ids=True,
)


def page(flavour: Flavour, run: Run, wanted: UsageFilter, limit: int, cursor: str | None) -> Page:
    """A page as `query.page_of` gives it."""
    rows = REQUESTS.c
    statement = _selected(REQUESTS).order_by(rows.usage_id.desc()).limit(limit + 1)
    statement = statement.where(
        *_fitting(wanted), *(_hours(flavour, wanted) or _key_bounds(wanted))
    )
    if cursor is not None:
        statement = statement.where(rows.usage_id < cursor)
    found = _run(flavour, run, statement)
    shown = found[:limit]
    ids = [request[0] for request in shown]
    attempts: list[Sequence[Any]] = []
    for start in range(0, len(ids), _AT_ONCE):
        of = ATTEMPTS.c.usage_id.in_(ids[start : start + _AT_ONCE])
        order = (ATTEMPTS.c.usage_id, ATTEMPTS.c.ordinal)
        attempts += _run(flavour, run, _selected(ATTEMPTS).where(of).order_by(*order))
    following = len(found) > limit
    after = ids[-1] if ids else cursor
    return Page(list(usage_rows(shown, attempts)), after if following else None)


def sums(flavour: Flavour, run: Run, wanted: UsageFilter, by: tuple[GroupBy, ...]) -> list[Sums]:
    """Sums as `query.summed` gives them."""
    counted = _counted(flavour, wanted, by).subquery("counted")
    groups = [_group(counted, each).label(f"by_{at}") for at, each in enumerate(by)]
    figures = [
        sa.func.sum(part).label(f"{name}_{at}")
        for name, kind in FIGURES
        for at, part in enumerate(
            flavour.parts(counted.c[name]) if kind == "decimal" else [counted.c[name]]
        )
    ]
    statement = sa.select(*groups, *figures)
    if by:
        most: list[Expression] = [sa.desc("requests_0"), *(sa.asc(group.name) for group in groups)]
        statement = statement.group_by(*groups).order_by(*most).limit(SUMS_MAX)
    return ordered([_sums(by, row) for row in paced(_run(flavour, run, statement))], by)


def _run(flavour: Flavour, run: Run, statement: sa.Select[Any]) -> Sequence[Sequence[Any]]:
    compiled = statement.compile(
        dialect=flavour.dialect, compile_kwargs={"render_postcompile": True}
    )
    # One by one and paced: drivers that give all rows at once keep the interpreter for that long.
    return list(paced(run(str(compiled), compiled.params)))


def _selected(table: sa.Table) -> sa.Select[Any]:
    """All columns, with exact numbers as the text they are in a row."""
    return sa.select(
        *(
            sa.cast(column, sa.Text) if column.info.get("kind") == "decimal" else column
            for column in table.c
        )
    )


def _fitting(wanted: UsageFilter) -> list[Expression]:
    """What `UsageFilter.fits` asks of a row."""
    rows = REQUESTS.c
    asked = _within(Span(wanted.since, wanted.until), rows.started_at) + _equal(wanted, REQUESTS)
    if wanted.model is not None:
        asked.append(sa.or_(rows.model == wanted.model, rows.selected_model == wanted.model))
    return asked


def _equal(wanted: UsageFilter, table: sa.Table) -> list[Expression]:
    return [
        table.c[column] == getattr(wanted, field)
        for field, column in EQUAL.items()
        if getattr(wanted, field) is not None
    ]


def _within(span: Span, column: Expression) -> list[Expression]:
    found = [column >= span.since] if span.since is not None else []
    return [*found, column < span.until] if span.until is not None else found


def _hours(flavour: Flavour, wanted: UsageFilter) -> list[Expression]:
    """In which hours to look for an id: those that there are, found one by one along its index."""
    if not flavour.has_ids or (wanted.request_id is None and wanted.trace_id is None):
        return []
    hour = sa.func.min(HOUR)
    rows = REQUESTS.alias("others")
    first = sa.select(hour.label("hour")).select_from(rows)
    if wanted.since is not None:
        # As of the whole hour before it, or after: PostgreSQL rounds to the second.
        first = first.where(sa.literal(int(wanted.since // HOUR_S)) <= HOUR)
    hours = first.cte("hours", recursive=True)
    following = sa.select(hour).select_from(rows).where(hours.c.hour < HOUR).scalar_subquery()
    step = sa.select(following).where(hours.c.hour.is_not(None))
    if wanted.until is not None:
        step = step.where(hours.c.hour <= int(-(-wanted.until // HOUR_S)))
    hours = hours.union_all(step)
    return [HOUR.in_(sa.select(hours.c.hour))]


def _key_bounds(wanted: UsageFilter) -> list[Expression]:
    """Between which keys the rows of the time asked for are: read from the index by time.

    Keys are in the order of time, nearly. Without this a page of last month would be looked for
    from the newest row on.
    """
    span = Span(wanted.since, wanted.until)
    if span == (None, None):
        return []
    # The offset is a fence: a database that saw the least of a key here would look for it along
    # the keys, through all the rows before.
    times = REQUESTS.alias("times")
    of_the_time = sa.select(times.c.usage_id).where(*_within(span, times.c.started_at)).offset(0)
    key = of_the_time.subquery("of_the_time").c.usage_id
    edges = sa.select(sa.func.min(key).label("first"), sa.func.max(key).label("last")).cte("edges")
    return [
        REQUESTS.c.usage_id >= sa.select(edges.c.first).scalar_subquery(),
        REQUESTS.c.usage_id <= sa.select(edges.c.last).scalar_subquery(),
    ]


def _counted(
    flavour: Flavour, wanted: UsageFilter, by: tuple[GroupBy, ...]
) -> sa.CompoundSelect[Any] | sa.Select[Any]:
    """All there is to add up, in the columns of a roll-up: roll-ups where they will do, or rows."""
    asked = Span(wanted.since, wanted.until)
    if any(
        getattr(wanted, each.name) is not None
        for each in fields(wanted)
        if each.name not in _ROLLED_UP
    ):
        return _of_rows(flavour).where(*_fitting(wanted), *_hours(flavour, wanted))
    pieces = spans(asked, by_day="hour" not in by)
    parts: list[sa.Select[Any]] = []
    for table, found in ((DAILY, pieces.days), (HOURLY, pieces.hours)):
        whole = sa.select(*(table.c[name] for name in ROLLUP_NAMES))
        parts += [
            whole.where(*_within(span, table.c.bucket), *_equal(wanted, table)) for span in found
        ]
    parts += [
        _of_rows(flavour).where(*_within(span, REQUESTS.c.started_at), *_equal(wanted, REQUESTS))
        for span in pieces.rows
    ]
    return sa.union_all(*parts) if len(parts) > 1 else parts[0]


def _of_rows(flavour: Flavour) -> sa.Select[Any]:
    """Each row as a roll-up of one: `query.sums_of`."""
    rows = REQUESTS.c
    second = flavour.second(rows.started_at)
    unknown_usage = sa.or_(rows.input_tokens.is_(None), rows.output_tokens.is_(None))
    good = sa.and_(rows.status < 500, rows.outcome != "interrupted")
    figures: dict[str, Expression] = {
        "requests": sa.literal(1),
        "good": _one_if(good),
        **{
            name: sa.case(
                (rows[name] > TOKENS_MAX, TOKENS_MAX), else_=sa.func.coalesce(rows[name], 0)
            )
            for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        },
        "unknown_usage": _one_if(unknown_usage),
        "cost_usd": sa.func.coalesce(rows.cost_usd, sa.cast("0", rows.cost_usd.type)),
        "unknown_cost": _one_if(rows.cost_usd.is_(None)),
    }
    return sa.select(
        (second - second % HOUR_S).label("bucket"),
        rows.api_key_name,
        rows.selected_model,
        rows.provider,
        rows.outcome,
        *(figures[name].label(name) for name, _ in FIGURES),
    )


def _one_if(condition: Expression) -> Expression:
    return sa.case((condition, 1), else_=0)


def _group(counted: sa.Subquery, by: GroupBy) -> Expression:
    width_s = WIDTHS_S.get(by)
    if width_s is None:
        return counted.c[_GROUPS[by]]
    return counted.c.bucket - counted.c.bucket % width_s


def _sums(by: tuple[GroupBy, ...], row: Sequence[Any]) -> Sums:
    group = tuple(
        bucket_text(value, WIDTHS_S[each]) if each in WIDTHS_S else value
        for each, value in zip(by, row, strict=False)
    )
    values = iter(row[len(by) :])
    figures: dict[str, Any] = {}
    parts = len(row) - len(by) - len(FIGURES) + 1
    for name, kind in FIGURES:
        if kind == "decimal":
            figures[name] = sum(
                (Decimal(next(values) or 0).scaleb(-9 * at) for at in range(parts)), Decimal()
            )
        else:
            figures[name] = int(next(values) or 0)
    return Sums(group=group, **figures)
