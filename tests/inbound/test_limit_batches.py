"""Questions of concurrent requests share a round trip, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from virtual_time import run_virtual

from radgateway.inbound.limit_batches import Batches


class Server:
    """Answers each question with its square; notes the batches."""

    def __init__(self, delay_s: float = 0.001) -> None:
        self.delay_s = delay_s
        self.batches: list[list[int]] = []
        self.left: list[tuple[int, Any]] = []
        self.at_once = self.most_at_once = 0

    async def ask(self, questions: Sequence[int]) -> list[Any]:
        self.batches.append(list(questions))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.delay_s)
        self.at_once -= 1
        if -1 in questions:
            raise ConnectionError("the whole batch")
        return [ValueError(q) if q == 13 else q * q for q in questions]

    def made(self) -> Batches[int]:
        return Batches(self.ask, lambda q, a: self.left.append((q, a)), timeout_s=1.0)


def test_what_asks_at_once_goes_together_and_one_alone_at_once() -> None:
    """A burst costs one trip; answers do not get mixed up."""

    async def story() -> None:
        server = Server()
        batches = server.made()
        answers = await asyncio.gather(*(batches.answer(n) for n in range(300) if n != 13))
        assert answers == [n * n for n in range(300) if n != 13]
        assert len(server.batches) == 3
        assert await batches.answer(7) == 49
        assert server.batches[3] == [7]
        assert server.left == []

    run_virtual(story())


def test_only_so_many_are_under_way_and_nobody_is_forgotten() -> None:
    """Those who ask meanwhile share the next batch."""

    async def story() -> None:
        server = Server(0.01)
        batches = server.made()
        asked = []
        for n in range(100, 400):
            asked.append(asyncio.ensure_future(batches.answer(n)))
            await asyncio.sleep(0.0001)
        assert await asyncio.gather(*asked) == [n * n for n in range(100, 400)]
        assert server.most_at_once == 8
        assert len(server.batches) < 60
        await batches.idle()
        assert server.at_once == 0

    run_virtual(story())


def test_an_error_is_its_own_questions_or_the_whole_batchs() -> None:
    """And what may have been done in vain is told."""

    async def story() -> None:
        server = Server()
        batches = server.made()
        results = await asyncio.gather(
            *(batches.answer(n) for n in (2, 13, 3)), return_exceptions=True
        )
        assert results[0] == 4
        assert isinstance(results[1], ValueError)
        assert results[2] == 9
        results = await asyncio.gather(
            *(batches.answer(n) for n in (2, -1)), return_exceptions=True
        )
        assert all(isinstance(r, ConnectionError) for r in results)
        server.delay_s = 60
        with pytest.raises(TimeoutError):
            await batches.answer(4)
        assert [q for q, _ in server.left] == [13, 2, -1, 4]
        assert all(isinstance(a, Exception) for _, a in server.left)

    run_virtual(story())


def test_an_answer_for_somebody_who_left_is_handed_on() -> None:
    """What was done for a request that was given up can be undone; what was not asked need not."""

    async def story() -> None:
        server = Server(0.01)
        batches = server.made()
        first, second = (asyncio.ensure_future(batches.answer(n)) for n in (5, 6))
        await asyncio.sleep(0.001)
        early = asyncio.ensure_future(batches.answer(8))
        await asyncio.sleep(0)
        early.cancel()
        first.cancel()
        assert await second == 36
        await batches.idle()
        assert server.left == [(5, 25)]
        assert server.batches == [[5, 6]]

    run_virtual(story())


def test_closing_leaves_nothing_under_way() -> None:
    """A question that hangs must not outlive its connection, nor the event loop."""

    async def story() -> None:
        ended: list[bool] = []

        async def hang(questions: Sequence[int]) -> Sequence[Any]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)
            return []

        batches: Batches[int] = Batches(hang, lambda question, answer: None, timeout_s=60)
        asking = asyncio.create_task(batches.answer(1))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait([asking])
        await batches.aclose()
        assert ended == [True]

    run_virtual(story())
