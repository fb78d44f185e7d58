from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from radgateway.stop_signals import StopSignals

LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """Whatever a test leaves behind is put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


async def until(done: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.001)


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


@LOOPS
@pytest.mark.parametrize("listens", ["the loop", "python"])
def test_a_server_hears_when_it_is_told_and_not_before(new_loop: Any, listens: str) -> None:
    """However it listens; once, and directly again when the signals are given back."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        server: list[int] = []
        ours: list[int] = []
        heard: list[int] = []
        others: list[int] = []
        if listens == "the loop":
            loop.add_signal_handler(signal.SIGTERM, server.append, signal.SIGTERM)
        else:
            signal.signal(signal.SIGTERM, lambda number, frame: server.append(number))
        loop.add_signal_handler(signal.SIGUSR1, others.append, signal.SIGUSR1)
        signals = StopSignals(ours.append)
        assert signals.take()
        for _ in range(2):
            kill(signal.SIGTERM)
            await until(lambda: bool(ours))
            heard.append(ours.pop())
        kill(signal.SIGUSR1)  # no business of ours
        await until(lambda: bool(others))
        await asyncio.sleep(0.02)
        assert (heard, server, others) == ([signal.SIGTERM] * 2, [], [signal.SIGUSR1])
        signals.pass_on(signal.SIGTERM)
        await until(lambda: bool(server))
        await asyncio.sleep(0.02)
        assert server == [signal.SIGTERM]
        signals.give_back()
        signals.give_back()
        kill(signal.SIGTERM)
        await until(lambda: len(server) == 2)
        assert ours == []

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())


@LOOPS
def test_a_loop_that_is_run_twice_is_heard_in_both_runs(new_loop: Any) -> None:
    """As granian runs it: once for the start, once to serve, once for the end."""
    loop = new_loop()
    server: list[int] = []
    ours: list[int] = []
    signals = StopSignals(ours.append)

    async def start() -> None:
        loop.add_signal_handler(signal.SIGTERM, server.append, signal.SIGTERM)
        signals.take()

    async def serve() -> None:
        await asyncio.sleep(0.2)
        kill(signal.SIGTERM)
        await until(lambda: bool(ours))
        await asyncio.sleep(0.02)
        assert server == []
        signals.pass_on(signal.SIGTERM)
        await until(lambda: bool(server))

    async def end() -> None:
        signals.give_back()

    try:
        for part in (start(), serve(), end()):
            loop.run_until_complete(part)
    finally:
        loop.close()
    assert (ours, server) == ([signal.SIGTERM], [signal.SIGTERM])


def test_a_server_that_can_be_asked_to_end_is_asked() -> None:
    """uvicorn raises every signal it hears once more at its end, and would so die of it."""

    class Server:
        should_exit = False

        def __init__(self) -> None:
            self.heard: list[int] = []

        def handle_exit(self, number: int, frame: Any) -> None:
            self.heard.append(number)

    async def story() -> None:
        server = Server()
        signal.signal(signal.SIGTERM, server.handle_exit)
        signals = StopSignals(lambda number: None)
        assert signals.take()
        signals.pass_on(signal.SIGTERM)
        assert (server.should_exit, server.heard) == (True, [])
        signals.pass_on(signal.SIGTERM)  # whoever insists
        assert server.heard == [signal.SIGTERM]
        signals.give_back()

    asyncio.run(story())


def test_what_nobody_hears_is_left_alone() -> None:
    """A signal that kills, or is ignored, goes on doing so."""

    async def story() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals = StopSignals(lambda number: None)
        assert signals.take()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signals.pass_on(signal.SIGTERM)
        signals.give_back()

    asyncio.run(story())


def test_beside_the_main_thread_there_are_no_signals() -> None:
    """A loop of another thread can't have them, and says so."""
    taken: list[bool] = []

    async def story() -> None:
        signals = StopSignals(lambda number: None)
        taken.append(signals.take())
        signals.give_back()

    thread = threading.Thread(target=lambda: asyncio.run(story()))
    thread.start()
    thread.join(10)
    assert taken == [False]
