"""What a request is reserved for, and what it is charged in the end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from radgateway.dialects.base import Ask
from radgateway.dialects.reading import output_limit
from radgateway.exchange import Attempt, Exchange, Operation, Usage
from radgateway.inbound.limit_estimate import (
    Estimate,
    Estimator,
    learn_from,
    spent_by,
)
from radgateway.inbound.limit_ledger import NOTHING
from radgateway.surface import GEMINI, OPERATIONS
from radgateway.usage.estimate import OUTPUT_TOKENS, writes_nothing
from radgateway.usage.prices import Price

PRICE = Price(Decimal("2.50"), Decimal("10"))
ESTIMATE = Estimate("m", 400, 100, 60, (PRICE,))


def exchange(*attempts: Attempt, status: int | None = 200, **fields: Any) -> Exchange:
    made = Exchange("r")
    made.attempts = list(attempts)
    made.final = attempts[-1] if attempts else None
    made.status = status
    made.ended = 1.0
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def attempt(
    usage: Usage | None = None,
    *,
    status: int | None = 200,
    served: bool = True,
    price: Price | None = PRICE,
    cost: str | None = None,
) -> Attempt:
    made = Attempt("p", "m", 0.0)
    made.usage, made.status, made.price = usage, status, price
    made.first_byte = 0.5 if served else None
    made.cost_usd = Decimal(cost) if cost is not None else None
    return made


def test_a_prompt_is_told_by_its_bytes_and_an_answer_by_its_bound() -> None:
    """Until more is known."""
    estimator = Estimator(lambda model: (PRICE,) if model == "m" else ())
    estimate = estimator.estimate("m", 400, 60)
    assert estimate == ESTIMATE
    assert estimate.costs == (1, 160, 100, 60, 850_000, 1)
    assert estimator.estimate("m", 401, None)[2:4] == (101, OUTPUT_TOKENS)
    assert estimator.estimate("free", 4, 1).nano_usd == 0


def test_it_learns_from_what_is_reported() -> None:
    """A model that writes little, or is sent pictures, is soon reserved for accordingly."""
    estimator = Estimator()
    for _ in range(30):
        learn_from(exchange(attempt(Usage(50, 20))), estimator.estimate("m", 1000, None), estimator)
    _, _, read, written, _ = estimator.estimate("m", 1000, None)
    assert read == pytest.approx(50, abs=2)
    assert written == pytest.approx(20, abs=2)
    assert estimator.estimate("m", 1000, 900).output_tokens == 900
    assert estimator.estimate("other", 1000, None).output_tokens == OUTPUT_TOKENS


@pytest.mark.parametrize(
    "ended",
    [
        exchange(attempt(Usage(1, 1)), disconnected=True),
        exchange(attempt(Usage(1, 1)), interrupted="idle_timeout"),
        exchange(attempt(Usage(source="absent"))),
        exchange(attempt(Usage(None, 7))),
        exchange(),
    ],
)
def test_it_learns_nothing_from_what_was_broken_off(ended: Exchange) -> None:
    """Half an answer says nothing of how long they are."""
    estimator = Estimator()
    learn_from(ended, estimator.estimate("m", 100, None), estimator)
    assert estimator.estimate("m", 100, None).output_tokens == OUTPUT_TOKENS


def test_models_are_remembered_within_a_bound() -> None:
    """Callers choose their names."""
    estimator = Estimator()
    for number in range(3000):
        estimator.estimate(f"m{number}", 1, None)
    assert len(estimator.lengths) == 1024


def spent(ended: Exchange, events: int = 0) -> tuple[int, int, int]:
    """Input, output and billionths of a dollar."""
    _, both, read, written, nano, _ = spent_by(ended, ESTIMATE, events)
    assert both == read + written
    return read, written, nano


def test_what_was_reported_is_charged() -> None:
    """With its cost as the record has it, or from the price."""
    assert spent(exchange(attempt(Usage(30, 4), cost="0.000115"))) == (30, 4, 115_000)
    assert spent(exchange(attempt(Usage(30, 4)))) == (30, 4, 115_000)
    assert spent(exchange(attempt(Usage(30, 4), price=None))) == (30, 4, 0)


def test_all_attempts_count() -> None:
    """An abandoned one has cost as well; one that was refused has not."""
    ended = exchange(
        attempt(status=429, served=False),
        attempt(Usage(30, 1)),
        attempt(None, status=None, served=False),
        attempt(Usage(30, 9)),
        attempt(Usage(40, 0, source="estimated"), status=None, served=False),
    )
    assert spent(ended) == (100, 10, 350_000)


@pytest.mark.parametrize(
    "ended",
    [
        exchange(attempt(None, status=500, served=False), status=502),
        exchange(attempt(None, status=400), status=400),
        exchange(attempt(None, status=None, served=False), status=None, disconnected=True),
        exchange(attempt(None, status=504, served=False), status=504),
        exchange(status=404),
        exchange(status=None, ended=None),
    ],
)
def test_what_used_nothing_costs_nothing(ended: Exchange) -> None:
    """A failure, a refusal, a client that left before anything was sent."""
    assert spent_by(ended, ESTIMATE, 0) == NOTHING or spent(ended) == (0, 0, 0)


def test_an_answer_without_a_report_is_charged_as_estimated() -> None:
    """Audio, images, servers that say nothing, and apps that keep no record."""
    assert spent(exchange(attempt(Usage(source="absent")))) == (100, 60, 850_000)
    assert spent(exchange()) == (100, 60, 850_000)
    assert spent(exchange(attempt(Usage(30, None)))) == (30, 60, 675_000)
    gone = attempt(Usage(source="absent"), status=None, served=False)
    assert spent(exchange(gone, status=None, disconnected=True)) == (100, 60, 850_000)


def test_a_broken_stream_is_charged_as_its_record_says() -> None:
    """The same figures as in its row, estimated or not; around other apps what went out."""
    gone = {"disconnected": True}
    cut = Usage(100, 7, source="estimated")
    assert spent(exchange(attempt(cut, cost="0.00032"), **gone), 3) == (100, 7, 320_000)
    assert spent(exchange(attempt(cut, price=None), **gone), 3) == (100, 7, 0)
    half = Usage(30, None, source="estimated")
    assert spent(exchange(attempt(half), **gone)) == (30, 60, 675_000)
    alone = exchange(status=200, ended=None)
    assert spent(alone, 7) == (100, 7, 320_000)
    assert spent(alone, 700) == (100, 60, 850_000)


def test_operations_without_output_are_known() -> None:
    """Embeddings and counting write nothing."""
    made = Exchange("r")
    assert not writes_nothing(made)
    for operation, nothing in (
        (OPERATIONS["/v1/embeddings"], True),
        (OPERATIONS["/v1/chat/completions"], False),
        (Operation("/v1beta", "gemini", GEMINI, "countTokens"), True),
        (Operation("/v1beta", "gemini", GEMINI, "generateContent"), False),
    ):
        made.operation = operation
        assert writes_nothing(made) is nothing


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"max_tokens": 5}', 5),
        (b'{"max_completion_tokens": 6, "max_tokens": 5}', 6),
        (b'{"max_output_tokens": 7}', 7),
        (b'{"generationConfig": {"maxOutputTokens": 8}}', 8),
        (b'{"max_tokens": null}', None),
        (b'{"max_tokens": -1}', None),
        (b'{"max_tokens": "5"}', None),
        (b'{"max_tokens": 1e3}', None),
        (b'{"max_tokens": [5], "max_output_tokens": 9}', 9),
        (b'{"max_tokens": 99999999999}', None),
        (b'{"generationConfig": 8}', None),
        (b'{"generationConfig": {"maxOutputTokens": {}}}', None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
        (b"", None),
    ],
)
def test_the_callers_bound_is_found_and_nothing_is_wrong_with_it(
    body: bytes, found: int | None
) -> None:
    """In each API's words; what is no number is the provider's to complain of."""
    ask = Ask("/v1/x", b"application/json", body, "m", False)
    assert output_limit(ask) == found
    assert output_limit(Ask("/v1/x", b"multipart/form-data", body, "m", False)) is None
