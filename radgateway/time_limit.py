"""Waiting with a limit, at no cost where there is nothing to wait for."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """What `await awaitable` gives; raises `TimeoutError` where that takes longer than `seconds`.

    As `asyncio.timeout`, but the timer is only set once the awaitable has begun to wait. Most of
    what a request asks for is there already, and a timer costs more than fetching it.
    """
    steps = awaitable.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _rest(steps, waits_for)


@types.coroutine
def _rest(steps: Generator[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on with an awaitable that has been begun, and hands this to the event loop."""
    while True:
        try:
            value, error = (yield waits_for), None
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as raised:
            value, error = None, raised
        try:
            waits_for = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
