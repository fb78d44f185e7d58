"""Waiting with a limit, at no cost where there is nothing to wait for."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator, Iterator
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
def _rest(steps: Iterator[Any], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on with an awaitable that has been begun, and hands this to the event loop.

    Does what `yield from` does (PEP 380), from its second step on. An awaitable owes no more than
    an iterator: granian's has neither `throw` nor `close`.
    """
    throw, close = getattr(steps, "throw", None), getattr(steps, "close", None)
    while True:
        error: BaseException | None = None
        try:
            yield waits_for  # a task sends nothing back
        except GeneratorExit:
            if close is not None:
                close()
            raise
        except BaseException as raised:
            if throw is None:
                raise
            error = raised
        try:
            waits_for = next(steps) if error is None or throw is None else throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
