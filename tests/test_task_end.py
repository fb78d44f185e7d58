"""A task of ours ends, though something in it swallow a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

from virtual_time import run_virtual

from radgateway.task_end import end_task


def test_a_task_ends_with_its_cleanup_done() -> None:
    """What it does in `finally` is waited for, if it is quick."""
    told: list[str] = []

    async def runs() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.2)
            told.append("clean")

    async def story() -> None:
        task = asyncio.create_task(runs())
        await asyncio.sleep(0)
        await end_task(task)
        assert task.cancelled()
        assert told == ["clean"]
        await end_task(task)
        await end_task(None)

    run_virtual(story())


def test_a_cancellation_that_is_swallowed_is_repeated() -> None:
    """As a library may, in a loop that would go on for ever."""
    rounds: list[float] = []

    async def swallows() -> None:
        while len(rounds) < 2:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            rounds.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1000)

    async def story() -> None:
        task = asyncio.create_task(swallows())
        await asyncio.sleep(0)
        await end_task(task)
        assert task.cancelled()

    run_virtual(story())
    assert len(rounds) == 2


def test_one_that_never_ends_is_left_after_five_seconds() -> None:
    """The end of the process is not held up by it."""

    async def story() -> None:
        stop = asyncio.Event()

        async def never() -> None:
            while not stop.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await stop.wait()

        task = asyncio.create_task(never())
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await end_task(task)
        assert asyncio.get_running_loop().time() - began == 5
        assert not task.done()
        stop.set()
        await task

    run_virtual(story())
