"""The gauge shows how late the loop was."""

from __future__ import annotations

import asyncio

import pytest

from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.loop_lag import LoopLagMonitor


def test_a_stall_shows_and_passes() -> None:
    """The worst sample of the period is shown, and forgotten after it; each one is told."""
    instruments = Instruments()
    now = 0.0
    late = iter([0.0, 0.3, 0.0, 0.0, 0.0])
    shown: list[float | None] = []
    samples: list[float] = []

    def read() -> float | None:
        return instruments.registry.get_sample_value("rad_gateway_event_loop_lag_seconds")

    async def sleep(seconds: float) -> None:
        nonlocal now
        shown.append(read())
        extra = next(late, None)
        if extra is None:
            await asyncio.Event().wait()
            return
        now += seconds + extra
        await asyncio.sleep(0)

    async def run() -> None:
        monitor = LoopLagMonitor(
            instruments, period=2, on_sample=[samples.append], clock=lambda: now, sleep=sleep
        )
        monitor.start()
        monitor.start()
        for _ in range(20):
            await asyncio.sleep(0)
        await monitor.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert shown == pytest.approx([0.0, 0.0, 0.3, 0.3, 0.0, 0.0])
    assert samples == pytest.approx([0.0, 0.3, 0.0, 0.0, 0.0])


def test_it_can_be_stopped_before_it_started_and_twice() -> None:
    """Closing is always possible."""

    async def run() -> None:
        monitor = LoopLagMonitor(Instruments())
        await monitor.aclose()
        monitor.start()
        await monitor.aclose()
        await monitor.aclose()

    asyncio.run(run())


def test_bad_settings_are_named() -> None:
    """A setting out of range is an error that names it."""
    with pytest.raises(ValueError, match="interval_s"):
        LoopLagMonitor(Instruments(), interval_s=0)
    with pytest.raises(ValueError, match="period"):
        LoopLagMonitor(Instruments(), period=0)
