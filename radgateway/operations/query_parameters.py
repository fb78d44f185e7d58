"""What the query of a management path may say: each parameter declared once, and read here.

The endpoints name those they take, and the OpenAPI document shows the same declarations. Whatever
is not declared is refused: a filter that is misspelt and ignored shows other people's requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, get_args
from urllib.parse import parse_qsl

from radgateway.asgi import Scope
from radgateway.config.problems import nearest, shown
from radgateway.errors import Refusal
from radgateway.exchange import Outcome
from radgateway.telemetry.redaction import CHOSEN_LIMIT
from radgateway.usage.moment import FORMS, PATTERN, moment
from radgateway.usage.query import GROUPS, PAGE_MAX, GroupBy, UsageFilter
from radgateway.usage.row import USAGE_ID

Query = dict[str, str]

ROWS_DEFAULT: Final = 50
"""Rows of a page whose limit nobody gave."""
EXPORT_MAX: Final = 100_000
"""Rows of a CSV export at most."""

OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
_FIELDS_MAX: Final = 32


class Parameter(NamedTuple):
    """One parameter: what it means, and its form as JSON Schema."""

    description: str
    schema: Mapping[str, Any]


_NAME: Final = {"type": "string", "maxLength": CHOSEN_LIMIT}
_MOMENT: Final = {
    "type": "string",
    "pattern": PATTERN,
    "examples": ["-24h", "2026-11-25T10:00:00Z", "2026-11-25", "1795600800"],
}

PARAMETERS: Final[dict[str, Parameter]] = {
    "since": Parameter(f"Only requests that began then or later. {FORMS}.", _MOMENT),
    "until": Parameter("Only requests that began before. The same forms.", _MOMENT),
    "key": Parameter("The name of the caller's key; empty for requests without one.", _NAME),
    "model": Parameter(
        "A model as the caller named it, or as the provider that served it does.", _NAME
    ),
    "provider": Parameter(
        "Who served it, or was the last to be tried; empty for requests that reached nobody.", _NAME
    ),
    "outcome": Parameter("How it ended.", {"type": "string", "enum": list(OUTCOMES)}),
    "request_id": Parameter("The `X-Request-Id` of the request.", _NAME),
    "trace_id": Parameter("The `X-Trace-Id` of the request: 32 hex digits.", _NAME),
    "limit": Parameter(
        f"Requests a page shows, 1 to {PAGE_MAX}; a larger number is taken for {PAGE_MAX}. "
        f"Of a CSV export: requests in all, up to {EXPORT_MAX}, and all by default.",
        {"type": "integer", "minimum": 1, "default": ROWS_DEFAULT},
    ),
    "cursor": Parameter(
        "Where the page begins: the `nextCursor` of the page before.",
        {"type": "string", "pattern": f"^{USAGE_ID.pattern}$"},
    ),
    "group_by": Parameter(
        "Sums in place of rows, for each value of one or several of "
        f"{', '.join(GROUPS)}, separated by commas. `limit` and `cursor` don't go with it.",
        {
            "type": "string",
            "pattern": f"^({'|'.join(GROUPS)})(,({'|'.join(GROUPS)}))*$",
            "examples": ["day", "key,model"],
        },
    ),
    "format": Parameter(
        "csv exports all that fit as RFC 4180, as does `Accept: text/csv`.",
        {"type": "string", "enum": ["json", "csv"], "default": "json"},
    ),
}

FILTERS: Final = (
    "since",
    "until",
    "key",
    "model",
    "provider",
    "outcome",
    "request_id",
    "trace_id",
)
"""Which requests."""
PAGING: Final = ("limit", "cursor")
USAGE: Final = (*FILTERS, *PAGING, "group_by", "format")
"""What `usage` takes."""
TRACES: Final = (*FILTERS, *PAGING, "format")
"""What `traces` takes."""


def parameters_of(scope: Scope) -> Query:
    """The query of a request. Raises `Refusal` where it is too long, or says a thing twice."""
    query: bytes = scope.get("query_string", b"")
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise Refusal("invalid_request", "The query is too long.") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise Refusal("invalid_request", f"`{shown(twice)}` is given twice.")
    return parameters


def check_known(query: Query, known: Iterable[str]) -> None:
    """Raise `Refusal` for a parameter that a path does not take; it names the nearest one."""
    known = tuple(known)
    for name in query:
        if name not in known:
            near = nearest(name, known) if known else ": it takes none."
            raise Refusal("invalid_request", f"`{shown(name)}` is no parameter of this path{near}")


def filter_of(query: Query, now: float) -> UsageFilter:
    """Which requests a query wants. `now` in Unix seconds. Raises `Refusal`."""
    since, until = _moment_of(query, "since", now), _moment_of(query, "until", now)
    if since is not None and until is not None and until <= since:
        raise Refusal("invalid_request", "`until` must be later than `since`.")
    outcome = query.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise Refusal(
            "invalid_request", f"`outcome` has no {shown(outcome)!r}{nearest(outcome, OUTCOMES)}"
        )
    return UsageFilter(
        since=since,
        until=until,
        outcome=outcome,
        **{name: _text_of(query, name) for name in _TEXTS},
    )


_TEXTS: Final = ("key", "model", "provider", "request_id", "trace_id")


def _text_of(query: Query, name: str) -> str | None:
    text = query.get(name)
    if text is not None and len(text) > CHOSEN_LIMIT:
        raise Refusal("invalid_request", f"`{name}` has at most {CHOSEN_LIMIT} characters.")
    return text


def _moment_of(query: Query, name: str, now: float) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return moment(text, now)
    except ValueError as error:
        raise Refusal("invalid_request", f"`{name}` {error}.") from None


def whole_number(query: Query, name: str, default: int, most: int) -> int:
    """A parameter from 1 to `most`; a larger one is cut to it. Raises `Refusal`."""
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise Refusal("invalid_request", f"`{name}` must be a whole number from 1 to {most}.")
    return min(int(text), most)


def cursor_of(query: Query) -> str | None:
    """The cursor, where there is one. Raises `Refusal` for a text that no page gave."""
    cursor = query.get("cursor")
    if cursor is not None and not USAGE_ID.fullmatch(cursor):
        raise Refusal(
            "invalid_request",
            "`cursor` must be the `nextCursor` of a page before, as it was given.",
        )
    return cursor


def groups_of(query: Query) -> tuple[GroupBy, ...]:
    """What is grouped by; nothing where the query asks for rows. Raises `Refusal`."""
    if "group_by" not in query:
        return ()
    for name in PAGING:
        if name in query:
            raise Refusal("invalid_request", f"`{name}` pages rows; sums come all at once.")
    names = query["group_by"].split(",")
    groups = tuple(group for name in names for group in GROUPS if group == name)
    for name in names:
        if name not in GROUPS:
            raise Refusal(
                "invalid_request", f"`group_by` has no {shown(name)!r}{nearest(name, GROUPS)}"
            )
        if names.count(name) > 1:
            raise Refusal("invalid_request", f"`group_by` has {name} twice.")
    return groups
