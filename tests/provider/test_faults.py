from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from virtual_time import now, run_virtual

from radgateway.asgi import StreamBroken
from radgateway.provider.faults import FaultInjector, Faults

EVENTS = [(b"content-type", b"text/event-stream")]


def streaming(headers: list[tuple[bytes, bytes]], seen: list[str] | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(3):
            body = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if seen is not None:
                seen.append(f"sent {number}")
        await send({"type": "http.response.body", "body": b""})

    return app


def fates(seed: int, faults: Faults) -> list[str | None]:
    rng = random.Random(seed)
    return [faults.draw(rng) for _ in range(1000)]


def test_the_same_seed_breaks_the_same_requests() -> None:
    """A run can be repeated exactly, and the shares are those asked for."""
    faults = Faults(error_ratio=0.2, break_ratio=0.5)
    assert fates(7, faults) == fates(7, faults)
    assert fates(7, faults) != fates(8, faults)
    assert 150 < fates(7, faults).count("error") < 250
    assert 350 < fates(7, faults).count("break") < 450
    assert set(fates(7, Faults())) == {None}


def test_an_injected_error_looks_like_the_providers_own() -> None:
    """The status is the one configured, the body an error in the caller's dialect, and marked."""
    app = FaultInjector(streaming([]), Faults(error_ratio=1, error_status=529))
    answer = asyncio.run(drive(app, http_scope("/v1/messages")))
    assert answer.status == 529
    assert json.loads(answer.body)["type"] == "error"
    assert answer.header("x-radgateway-fault") == "error"


def test_a_cut_event_stream_ends_with_an_error_event() -> None:
    """One chunk passes, then an error event, and the provider is stopped."""
    seen: list[str] = []
    app = FaultInjector(streaming(EVENTS, seen), Faults(break_ratio=1))
    answer = asyncio.run(drive(app, http_scope("/v1/chat/completions")))
    assert answer.chunks[0] == b"data: 0\n\n"
    assert b"upstream_connection_lost" in answer.chunks[1]
    assert len(answer.chunks) == 2
    assert seen == []


def test_a_cut_body_looks_cut() -> None:
    """A whole body is cut in the middle, so that counting its bytes tells."""

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"0123456789"})

    app = FaultInjector(whole, Faults(break_ratio=1))
    answer = asyncio.run(drive(app, http_scope("/"), raises=True))
    assert isinstance(answer.error, StreamBroken)
    assert answer.body == b"01234"
    assert not answer.complete


def test_an_app_that_fails_by_itself_is_not_hidden() -> None:
    """Only what follows our own cut is swallowed."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    app = FaultInjector(broken, Faults(break_ratio=1))
    answer = asyncio.run(drive(app, http_scope("/"), raises=True))
    assert isinstance(answer.error, RuntimeError)


def test_latency_is_added_before_the_provider() -> None:
    """Each request waits as long as configured, and then passes unharmed."""

    async def story() -> tuple[float, Answer]:
        app = FaultInjector(streaming([]), Faults(latency_ms=250))
        return now(), await drive(app, http_scope("/"))

    started, answer = run_virtual(story())
    assert started == 0
    assert answer.complete

    async def waited() -> float:
        await drive(FaultInjector(streaming([]), Faults(latency_ms=250)), http_scope("/"))
        return now()

    assert run_virtual(waited()) == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("latency_ms", -1), ("error_ratio", 1.1), ("break_ratio", -0.1), ("error_status", 200)],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        Faults(**{setting: value})  # type: ignore[arg-type]
