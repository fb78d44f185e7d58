from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import started

from radgateway.reload.signal import NUMBER, ReloadSignal


@pytest.fixture(autouse=True)
def signal_as_it_was() -> Iterator[None]:
    """Whatever a test leaves behind is put back."""
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


_HELD = """
import asyncio, os, uvloop
from radgateway.reload.signal import NUMBER, ReloadSignal, hold_back

async def story():
    heard = []
    signals = ReloadSignal(lambda: heard.append(len(heard)))
    assert signals.take()
    async with asyncio.timeout(20):
        while len(heard) < 1:
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), NUMBER)
        while len(heard) < 2:
            await asyncio.sleep(0.001)
    signals.give_back()
    os.kill(os.getpid(), NUMBER)
    await asyncio.sleep(0.01)
    print("heard", heard)

hold_back()
os.kill(os.getpid(), NUMBER)
os.kill(os.getpid(), NUMBER)
with asyncio.Runner(loop_factory=LOOP) as runner:
    runner.run(story())
"""
_PASSED_ON = """
import os
from signal import sigpending
from radgateway.reload.signal import NUMBER, hold_back, pending, tell

hold_back()
assert not pending()
os.kill(os.getpid(), NUMBER)
assert pending()
assert not pending()
tell([None, 2**22 + 1, os.getpid()])  # one that has not started, one that is gone, and one
assert NUMBER in sigpending()
print("passed on")
"""


@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop", "uvloop.new_event_loop"])
def test_what_was_held_back_is_heard_in_the_loop(tmp_path: Path, loop: str) -> None:
    """What came before somebody listened, once; then each; and after it was given back none,
    which ends nothing either. In a process of its own: another test's threads hold nothing back."""
    with started(["-c", _HELD.replace("LOOP", loop)], tmp_path) as process:
        assert process.wait_for("heard (.*)")[1] == "[0, 1]"
        assert process.process.wait(10) == 0


def test_a_parent_passes_on_what_is_pending(tmp_path: Path) -> None:
    """To each child that is there, and nothing where nothing is pending."""
    with started(["-c", _PASSED_ON], tmp_path) as process:
        process.wait_for("passed on")
        assert process.process.wait(10) == 0


def test_a_server_that_listens_keeps_it() -> None:
    """One that replaces its workers by this signal goes on to do so."""

    async def story() -> None:
        theirs: list[int] = []
        signal.signal(NUMBER, lambda number, frame: theirs.append(number))
        signals = ReloadSignal(lambda: None)
        assert not signals.take()
        signals.give_back()
        os.kill(os.getpid(), NUMBER)
        await asyncio.sleep(0)
        assert theirs == [NUMBER]

    asyncio.run(story())


def test_only_the_main_thread_can_hear() -> None:
    """Elsewhere it is left as it is."""
    taken: list[bool] = []

    async def story() -> None:
        taken.append(ReloadSignal(lambda: None).take())

    thread = threading.Thread(target=lambda: asyncio.run(story()))
    thread.start()
    thread.join()
    assert taken == [False]
