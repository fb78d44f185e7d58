from __future__ import annotations

import asyncio
from typing import Any

import pytest

from radgateway.time_limit import within


async def at_once() -> str:
    """Has nothing to wait for."""
    return "here"


async def after(turns: int) -> str:
    """Waits for a few turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return "here"


def test_what_is_there_sets_no_timer() -> None:
    """An awaitable that does not wait costs no timer: a limit of 0 can't end it."""

    async def main() -> str:
        return await within(0.0, at_once())

    assert asyncio.run(main()) == "here"


@pytest.mark.parametrize("turns", [1, 2, 7])
def test_what_has_to_wait_is_waited_for(turns: int) -> None:
    """The result arrives whatever the number of times it waited, with and without a limit."""

    async def main() -> list[str]:
        return [await within(5.0, after(turns)), await within(None, after(turns))]

    assert asyncio.run(main()) == ["here", "here"]


def test_a_future_is_awaited_as_any_other() -> None:
    """Not only coroutines: a future, and a task, resume where they are waited for."""

    async def main() -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, 7)
        return await within(5.0, future), await within(5.0, loop.create_task(after(3)))

    assert asyncio.run(main()) == (7, "here")


def test_an_error_passes_through_before_and_after_a_wait() -> None:
    """The awaitable's own exception is what the caller gets."""

    async def fail(turns: int) -> None:
        await after(turns)
        raise KeyError(turns)

    async def main(turns: int) -> None:
        await within(5.0, fail(turns))

    for turns in (0, 3):
        with pytest.raises(KeyError):
            asyncio.run(main(turns))


def test_too_long_a_wait_is_a_timeout_and_ends_what_waited() -> None:
    """`TimeoutError`, and the awaitable has run its `finally`."""
    cleaned = []

    async def never() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(True)

    async def main() -> None:
        await within(0.01, never())

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert cleaned == [True]


def test_a_cancellation_reaches_what_is_waited_for_and_passes_through() -> None:
    """Cancelling the waiting task is no timeout."""
    seen = []

    async def never() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.ensure_future(within(5.0, never()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert seen == ["cancelled"]


def test_what_survives_a_cancellation_goes_on() -> None:
    """An awaitable that swallows one and waits again is resumed as before."""

    async def stubborn() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return await after(2)
        raise AssertionError("a future nobody sets")

    async def main() -> str:
        task = asyncio.ensure_future(within(5.0, stubborn()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "here"


class Bare:
    """An awaitable as the compiled ones of some servers are: an iterator and no more."""

    def __init__(self, future: asyncio.Future[str]) -> None:
        self.future = future

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Bare:
        return self

    def __next__(self) -> asyncio.Future[str]:
        if self.future.done():
            raise StopIteration(self.future.result())
        self.future._asyncio_future_blocking = True
        return self.future


def test_an_awaitable_that_is_a_bare_iterator_will_do() -> None:
    """`throw` and `close` are optional (PEP 380); cancellation and the limit work without them."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        loop.call_soon(future.set_result, "here")
        here: str = await within(5.0, Bare(future))
        with pytest.raises(TimeoutError):
            await within(0.01, Bare(loop.create_future()))
        waiting = asyncio.ensure_future(within(5.0, Bare(loop.create_future())))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return here

    assert asyncio.run(main()) == "here"
