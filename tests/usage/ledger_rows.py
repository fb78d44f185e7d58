"""Rows of any kind, for holding one ledger against another."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

from radgateway.exchange import Exchange, Usage
from radgateway.surface import OPERATIONS
from radgateway.usage.query import TOKENS_MAX, UsageFilter
from radgateway.usage.row import UsageRow, row_of

DAY_S = 86_400
NOON = 20_000 * DAY_S + DAY_S // 2


def plain_row() -> UsageRow:
    """A request that one attempt served."""
    exchange = Exchange("r1", "POST")
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    exchange.model, exchange.status = "gpt-4o-mini", 200
    exchange.begin_attempt("openai", "gpt-4o-mini", None).usage = Usage(12, 18)
    return row_of(exchange, ending=True)


_edges = st.builds(
    lambda bucket, width_s, off_s: NOON + bucket * width_s + off_s,
    st.integers(-3, 3),
    st.sampled_from([3600, DAY_S]),
    st.sampled_from([-1.0, -(2.0**-22), 0.0, 2.0**-22, 0.5, 1799.25]),
)
times = _edges | st.floats(NOON - 3 * DAY_S, NOON + 3 * DAY_S)
"""Within some days, often at or beside the beginning of an hour or a day."""

_names = st.sampled_from(["", "a", "b", "A", "ä", "z'; --"])
_tokens = st.none() | st.integers(0, 10**6) | st.sampled_from([0, TOKENS_MAX, 2**63 - 1])
_costs = st.none() | st.decimals(0, 1000, places=18).map(lambda cost: f"{cost:f}")
_ids = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
rows = st.builds(
    replace,
    st.builds(plain_row),
    usage_id=_ids,
    started_at=times,
    request_id=_names,
    trace_id=_names,
    api_key_name=_names,
    model=_names,
    selected_model=_names,
    provider=_names,
    status=st.sampled_from([200, 404, 429, 499, 500, 503]),
    outcome=st.sampled_from(["success", "error", "interrupted"]),
    input_tokens=_tokens,
    output_tokens=_tokens,
    cached_tokens=_tokens,
    reasoning_tokens=_tokens,
    cost_usd=_costs | st.just("7"),
)
_any = st.none() | _names
filters = st.builds(
    UsageFilter,
    since=st.none() | times,
    until=st.none() | times,
    key=_any,
    model=_any,
    provider=_any,
    outcome=st.none() | st.sampled_from(["success", "interrupted"]),
    request_id=st.none() | st.none() | _names,
    trace_id=st.none() | st.none() | _names,
)
