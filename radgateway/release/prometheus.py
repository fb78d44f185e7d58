"""Prometheus's HTTP API, as far as judging needs it. What it can't tell is a reason, not an error.

Every question has a limit in time and in size, and an answer is taken only whole: one with warnings
may lack a part of the data.
"""

from __future__ import annotations

import json
import time
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import httpx

from radgateway.release.finding import Reading, Unmeasured

TIMEOUT_S: Final = 15.0
"""Of a question in all."""
MAX_BYTES: Final = 1_048_576
"""Of an answer: one series of a month in steps of five minutes has a quarter of it."""

NOTHING: Final = "no data, or too few requests"
_STRANGE: Final = "it answers in no form that Prometheus has"


class Unanswered(Exception):
    """A server did not tell; the message says why."""


def fetch(client: httpx.Client, url: str, query: dict[str, str]) -> tuple[int, Any]:
    """The status and the JSON of an answer. Raises `Unanswered`."""
    # The client's timeouts are each of one read only.
    end = time.monotonic() + TIMEOUT_S
    body = b""
    try:
        with client.stream("GET", url, params=query) as answer:
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise Unanswered(f"the answer is larger than {MAX_BYTES} bytes")
                if time.monotonic() > end:
                    raise Unanswered(f"no whole answer within {TIMEOUT_S:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unanswered(f"no answer: {str(error) or type(error).__name__}") from None
    try:
        return answer.status_code, json.loads(body)
    except (ValueError, RecursionError):
        raise Unanswered(f"it answers {answer.status_code} without JSON") from None


class Prometheus:
    """One that is asked. `client` has its address, its credentials and timeouts."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def values(self, expression: str) -> list[float]:
        """The values of all series that an expression has now; NaN is one. Raises `Unanswered`."""
        try:
            return [float(text) for text in self._instant({"query": expression})]
        except ValueError:
            raise Unanswered(_STRANGE) from None

    def reading(self, expression: str, at: float) -> Reading:
        """The one number of an expression at a moment, in Unix seconds."""
        try:
            texts = self._instant({"query": expression, "time": f"{at:.3f}"})
        except Unanswered as error:
            return Unmeasured(str(error))
        if not texts:
            return Unmeasured(NOTHING)
        return _number(texts[0]) if len(texts) == 1 else Unmeasured(f"{len(texts)} series, not one")

    def row(self, expression: str, end: float, step_s: int, steps: int) -> list[Reading]:
        """The number at each of so many moments, the last in the second of `end`."""
        last = int(end)
        moments = range(last - step_s * (steps - 1), last + 1, step_s)
        query = {"query": expression, "start": str(moments[0]), "end": str(last)}
        try:
            series = self._result("query_range", {**query, "step": str(step_s)}, "matrix")
            if len(series) > 1:
                return [Unmeasured(f"{len(series)} series, not one")] * steps
            points = {round(float(at)): text for each in series for at, text in each["values"]}
        except Unanswered as error:
            return [Unmeasured(str(error))] * steps
        except (LookupError, TypeError, ValueError):
            return [Unmeasured(_STRANGE)] * steps
        return [_number(points[at]) if at in points else Unmeasured(NOTHING) for at in moments]

    def _instant(self, query: dict[str, str]) -> list[str]:
        try:
            result = self._result("query", query, "vector")
            return [str(each["value"][1]) for each in result]
        except (LookupError, TypeError):
            raise Unanswered(_STRANGE) from None

    def _result(self, path: str, query: dict[str, str], kind: str) -> Any:
        status, answer = fetch(self._client, f"/api/v1/{path}", query)
        try:
            if answer["status"] != "success":
                raise Unanswered(f"it answers {status}: {str(answer.get('error'))[:200]}")
            if warnings := answer.get("warnings"):
                raise Unanswered(f"it warns: {str(warnings[0])[:200]}")
            data = answer["data"]
            if data["resultType"] != kind:
                raise Unanswered(f"the query has a {data['resultType']}, not a {kind}")
            return data["result"]
        except (LookupError, TypeError, AttributeError):
            raise Unanswered(_STRANGE) from None


def _number(text: Any) -> Reading:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return Unmeasured(_STRANGE)
    return Unmeasured("not a number: nothing to divide by") if value.is_nan() else value
