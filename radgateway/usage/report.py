"""A usage report as a table that people read: the sums that were asked for, and their total."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from radgateway.usage.query import GroupBy, Sums
from radgateway.usage.sums_form import cost_known, cost_text, tokens_known

UNKNOWN: Final = "?"
_AT_LEAST: Final = "+"
_PLACES: Final = 4
"""Decimals a cost has at least."""
_PLACES_MAX: Final = 12
_GROUP_MAX: Final = 48
"""Characters of a name that are shown."""

_FIGURES: Final[tuple[tuple[str, Callable[[Sums], tuple[int, bool, int]]], ...]] = (
    ("REQUESTS", lambda sums: (sums.requests, True, 0)),
    ("ERRORS", lambda sums: (sums.requests - sums.good, True, 0)),
    ("INPUT TOKENS", lambda sums: (sums.input_tokens, tokens_known(sums), sums.unknown_usage)),
    ("OUTPUT TOKENS", lambda sums: (sums.output_tokens, tokens_known(sums), sums.unknown_usage)),
    (
        "TOKENS",
        lambda sums: (
            sums.input_tokens + sums.output_tokens,
            tokens_known(sums),
            sums.unknown_usage,
        ),
    ),
)
"""What is shown of sums: the figure, whether there is one, and how many requests it is missing."""


def report(title: str, found: Sequence[Sums], total: Sums, by: tuple[GroupBy, ...]) -> str:
    """The table, below a line that says what it is of.

    Figures are aligned at their ends and costs at their points. One that misses requests which
    don't know theirs has a `+`, and a `?` stands where none knows.
    """
    if not total.requests:
        return f"{title}\n\nNo requests.\n"
    rest = total.requests - sum(each.requests for each in found)
    places = _places([*found, total])
    lines = [[*map(str.upper, by), *(f"{name} " for name, _ in _FIGURES), "COST USD "]]
    for sums in found:
        names = [_name(value, each) for value, each in zip(sums.group, by, strict=True)]
        lines.append([*names, *_figures(sums, places)])
    lines.append(["TOTAL", *[""] * (len(by) - 1), *_figures(total, places)])
    return f"{title}\n\n{_aligned(lines, len(by))}{_notes(total, rest)}"


def _figures(sums: Sums, places: int) -> list[str]:
    cells = [_cell(f"{value:,}", known, missing) for value, known, missing in _read(sums)]
    cost = _cell(f"{sums.cost_usd:,.{places}f}", cost_known(sums), sums.unknown_cost)
    return [*cells, cost]


def _read(sums: Sums) -> list[tuple[int, bool, int]]:
    return [figure(sums) for _, figure in _FIGURES]


def _cell(figure: str, known: bool, missing: int) -> str:
    if not known:
        return f"{UNKNOWN} "
    return f"{figure}{_AT_LEAST if missing else ' '}"


def _places(sums: Sequence[Sums]) -> int:
    """As many decimals as the finest cost has, within reason, so that sums add up as shown."""
    finest = max(len(cost_text(each).partition(".")[2]) for each in sums)
    return min(max(_PLACES, finest), _PLACES_MAX)


def _name(value: str, by: GroupBy) -> str:
    if by == "day":
        return value[:10]
    if by == "hour":
        return value[:16].replace("T", " ")
    if not value:
        return "(none)"
    # What a terminal would obey is no name.
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)
    return text if len(text) <= _GROUP_MAX else text[: _GROUP_MAX - 1] + "…"


def _aligned(lines: list[list[str]], names: int) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: list[str]) -> str:
        placed = [
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(placed).rstrip()

    head, *body, last = [line(cells) for cells in lines]
    rule = "-" * max(map(len, (head, *body, last)))
    return "\n".join((head, rule, *body, rule, last)) + "\n"


def _notes(total: Sums, rest: int) -> str:
    missing = [("tokens", total.unknown_usage), ("cost", total.unknown_cost)]
    notes = [f"the {what} of {_requests(count)}" for what, count in missing if count]
    text = f"\n{_AT_LEAST} at least, {UNKNOWN} unknown: {', '.join(notes)}.\n" if notes else ""
    if rest > 0:
        text += f"\nThe total has {_requests(rest)} more, of groups that are not shown.\n"
    return text


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"
