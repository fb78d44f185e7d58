"""A row says of a request what its record says."""

from __future__ import annotations

from decimal import Decimal

from radgateway.exchange import Exchange, Principal, Usage
from radgateway.surface import OPERATIONS
from radgateway.usage.row import new_usage_id, row_of


def test_the_management_row_has_the_originals_fields() -> None:
    """Dashboards made for the original find its fields, with null for an unknown cost."""
    exchange = Exchange("r1", "POST", lambda: 10.0)
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    exchange.principal, exchange.model, exchange.status = Principal("alice"), "fast", 200
    exchange.trace_id, exchange.started_at = "ab" * 16, 1_700_000_000.5
    attempt = exchange.begin_attempt("openai", "gpt-4o-mini", None)
    attempt.usage = Usage(12, 18)
    exchange.ended = 10.25
    shown = row_of(exchange).as_management()
    assert shown["timestamp"] == "2023-11-14T22:13:20.500Z"
    assert shown["requestId"] == "r1"
    assert shown["traceId"] == "ab" * 16
    assert shown["apiKeyName"] == "alice"
    assert shown["incomingApiType"] == "chat"
    assert shown["incomingModel"] == "fast"
    assert shown["selectedModel"] == "gpt-4o-mini"
    assert shown["provider"] == "openai"
    assert shown["responseStatus"] == "success"
    assert shown["durationMs"] == 250
    assert shown["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 18,
        "total_tokens": 30,
        "cost_total": None,
        "cached_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
    }
    assert [a["provider"] for a in shown["attempts"]] == ["openai"]


def test_a_known_cost_is_shown() -> None:
    """The sum over the attempts, without an exponent."""
    exchange = Exchange("r1", "POST")
    exchange.status = 200
    for _ in range(2):
        exchange.begin_attempt("a", "m", None).cost_usd = Decimal("0.0000001")
    row = row_of(exchange)
    assert row.cost_usd == "0.0000002"
    assert row.attempts[0].cost_usd == "0.0000001"


def test_unknown_tokens_are_null() -> None:
    """Tokens nobody reported are null, and so is their total."""
    exchange = Exchange("r1", "POST")
    exchange.disconnected = True
    row = row_of(exchange)
    assert (row.status, row.outcome) == (499, "client_disconnected")
    assert (row.input_tokens, row.total_tokens, row.usage_source) == (None, None, "absent")


def test_usage_ids_are_unique_and_in_order() -> None:
    """Ids differ, and their first part grows with time."""
    ids = [new_usage_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:12] for i in ids] == sorted(i[:12] for i in ids)
    assert {len(i) for i in ids} == {32}
