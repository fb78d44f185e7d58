from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import now, run_virtual

from radgateway.asgi import StreamBroken
from radgateway.composition import compose
from radgateway.exchange import ATTEMPT_KEY, Attempt, open_exchange
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import (
    FAULT_KINDS,
    Fate,
    FaultInjector,
    FaultPlan,
    Faults,
    asked_for,
)
from radgateway.provider.mock import MockProvider
from radgateway.routing.models import Candidate, Route
from radgateway.routing.router import ProviderRouter
from radgateway.upstream.interface import Timeouts

EVENTS = [(b"content-type", b"text/event-stream")]
CHAT = "/v1/chat/completions"
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"one two three"}]}'


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


def saying(*chunks: bytes, headers: list[tuple[bytes, bytes]] = EVENTS) -> Any:
    """An app that answers in these chunks, the last of which ends the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1]})

    return app


def asked(app: Any, faults: Faults, **options: Any) -> Answer:
    """What a request gets that suffers from these faults; time costs none."""
    return run_virtual(drive(FaultInjector(app, faults), http_scope(CHAT), **options))


def fates(seed: int, faults: Faults) -> list[str | None]:
    plan = FaultPlan(faults, random.Random(seed))
    drawn = [plan.fate() for _ in range(1000)]
    return [fate.name if fate is not None else None for fate in drawn]


def test_the_same_seed_breaks_the_same_requests() -> None:
    """A run can be repeated exactly, and the shares are those asked for."""
    faults = Faults(error_ratio=0.2, break_ratio=0.5)
    assert fates(7, faults) == fates(7, faults)
    assert fates(7, faults) != fates(8, faults)
    assert 150 < fates(7, faults).count("error") < 250
    assert 350 < fates(7, faults).count("break") < 450
    assert set(fates(7, Faults())) == {None}


@given(
    ratios=st.fixed_dictionaries({f"{kind}_ratio": st.sampled_from([0, 1]) for kind in FAULT_KINDS})
)
def test_one_fault_a_request_and_the_first_in_order(ratios: dict[str, Any]) -> None:
    """Whatever is asked for together, a request suffers one kind: the first whose turn comes."""
    certain = [kind for kind in FAULT_KINDS if ratios[f"{kind}_ratio"]]
    expected = {certain[0]} if certain else {None}
    assert set(fates(1, replace(Faults(), **ratios))) == expected


def test_ratios_apply_to_what_is_left() -> None:
    """Half, and half of the rest, and half of that."""
    halves = Faults(error_ratio=0.5, reset_ratio=0.5, stall_ratio=0.5)
    counts = Counter(fates(3, halves))
    assert counts["error"] == pytest.approx(500, abs=60)
    assert counts["reset"] == pytest.approx(250, abs=50)
    assert counts["stall"] == pytest.approx(125, abs=40)


def test_latency_is_fixed_or_drawn_from_a_range() -> None:
    """Between its ends, evenly, for the share of requests that was asked for."""
    fixed = FaultPlan(Faults(latency_ms=250)).fate()
    assert fixed is not None
    assert (fixed.latency_s, fixed.name) == (0.25, "latency")
    plan = FaultPlan(
        Faults(latency_ms=100, latency_max_ms=300, latency_ratio=0.5), random.Random(5)
    )
    drawn = [fate.latency_s for _ in range(2000) if (fate := plan.fate()) is not None]
    assert len(drawn) == pytest.approx(1000, abs=100)
    assert 0.1 <= min(drawn) < 0.11
    assert 0.29 < max(drawn) <= 0.3
    assert statistics.fmean(drawn) == pytest.approx(0.2, abs=0.01)


def test_only_the_models_named_suffer() -> None:
    """By the caller's name for the model or the provider's."""
    plan = FaultPlan(Faults(error_ratio=1, models=("gpt-4o", "claude")))
    assert plan.fate(("gpt-4o", "gpt-4o-2024")) is not None
    assert plan.fate(("alias", "claude")) is not None
    assert plan.fate(("alias", "other")) is None
    assert plan.fate(()) is None


def test_a_header_asks_for_a_fault() -> None:
    """By name, with the figure that belongs to it, the latency beside it."""
    faults = Faults(header="x-chaos", latency_ms=70, stall_s=9)
    assert asked_for("reset", faults) == Fate(kind="reset", faults=faults)
    assert asked_for("latency", faults).latency_s == 0.07
    both = asked_for(" latency=250 , error=529", faults)
    assert (both.latency_s, both.kind, both.faults.error_status) == (0.25, "error", 529)
    assert asked_for("stall", faults).faults.stall_s == 9
    assert asked_for("stall=2.5", faults).faults.stall_s == 2.5
    assert asked_for("trickle=7", faults).faults == replace(faults, trickle_bytes_per_s=7)


@pytest.mark.parametrize(
    "text",
    ["", "explode", "error=9", "error=x", "break=1", "latency=nan", "stall=inf", "stall=nan"],
)
def test_a_header_that_asks_for_nothing_known_is_refused(text: str) -> None:
    """400, and the provider is not called: a typing error must not look like a healthy run."""
    app = FaultInjector(streaming([]), Faults(header="x-chaos"))
    answer = asyncio.run(drive(app, http_scope(CHAT, headers=[("x-chaos", text)])))
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == "invalid_request"


def test_the_header_stays_here_and_means_nothing_unless_configured() -> None:
    """The provider does not see it; where none is configured, it is any other header."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]).get(b"x-chaos"))
        await streaming([])(scope, receive, send)

    scope = http_scope(CHAT, headers=[("x-chaos", "latency=1")])
    asyncio.run(drive(FaultInjector(app, Faults(header="X-Chaos")), scope))
    assert asyncio.run(drive(FaultInjector(app, Faults()), scope)).complete
    assert seen == [None, b"latency=1"]
    assert dict(scope["headers"])[b"x-chaos"] == b"latency=1"


def test_an_injected_error_looks_like_the_providers_own() -> None:
    """The status is the one configured, the body an error in the caller's dialect, and marked."""
    app = FaultInjector(streaming([]), Faults(error_ratio=1, error_status=529))
    answer = asyncio.run(drive(app, http_scope("/v1/messages")))
    assert answer.status == 529
    assert json.loads(answer.body)["type"] == "error"
    assert answer.header("x-radgateway-fault") == "error"


def test_a_reset_is_a_connection_lost_before_the_first_byte() -> None:
    """As the upstream client reports one, and the provider is not called."""
    seen: list[str] = []
    answer = asked(streaming([], seen), Faults(reset_ratio=1))
    assert (answer.status, seen) == (502, [])
    assert json.loads(answer.body)["error"]["code"] == "upstream_connection_lost"
    assert answer.header("x-radgateway-fault") == "reset"


def test_a_cut_event_stream_ends_with_an_error_event() -> None:
    """One chunk passes, then an error event, and the provider is stopped."""
    seen: list[str] = []
    app = FaultInjector(streaming(EVENTS, seen), Faults(break_ratio=1))
    answer = asyncio.run(drive(app, http_scope("/v1/chat/completions")))
    assert answer.chunks[0] == b"data: 0\n\n"
    assert b"upstream_connection_lost" in answer.chunks[1]
    assert len(answer.chunks) == 2
    assert answer.header("x-radgateway-fault") == "break"
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


def test_a_truncated_response_ends_as_if_it_were_whole() -> None:
    """No error, no length to measure it by, and less than all of it."""
    stream = asked(streaming(EVENTS), Faults(truncate_ratio=1, after_events=2))
    assert (stream.body, stream.complete, stream.error) == (b"data: 0\n\ndata: 1\n\n", True, None)
    length = [(b"content-length", b"10")]
    whole = asked(saying(b"0123456789", headers=length), Faults(truncate_ratio=1))
    assert (whole.body, whole.complete) == (b"01234", True)
    assert whole.header("content-length") is None


@given(cuts=st.lists(st.integers(1, 60), max_size=8), after=st.integers(1, 4), crlf=st.booleans())
def test_a_stream_suffers_between_two_events(cuts: list[int], after: int, crlf: bool) -> None:
    """However a stream is chunked, exactly `after_events` whole events pass before the cut."""
    end = b"\r\n\r\n" if crlf else b"\n\n"
    events = [b"data: %d" % number + end for number in range(6)]
    stream = b"".join(events)
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    answer = asked(saying(*chunks, b""), Faults(truncate_ratio=1, after_events=after))
    assert answer.body == b"".join(events[:after])
    assert answer.complete


def test_a_stall_is_a_silence_in_the_midst_and_then_all_of_the_rest() -> None:
    """Nothing is lost: the response goes on where it stopped, seconds later."""
    times: list[tuple[float, bytes]] = []

    async def story() -> Answer:
        def on_chunk(answer: Answer) -> None:
            times.append((now(), answer.chunks[-1]))

        app = FaultInjector(streaming(EVENTS), Faults(stall_ratio=1, stall_s=20))
        return await drive(app, http_scope(CHAT), on_chunk=on_chunk)

    # The drive's own limit is 5 s of the same virtual time.
    with pytest.raises(TimeoutError):
        run_virtual(story())
    assert times == [(0.0, b"data: 0\n\n")]
    answer = asked(streaming(EVENTS), Faults(stall_ratio=1, stall_s=2))
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert answer.complete


def test_a_trickle_comes_slowly_and_whole() -> None:
    """Byte for byte what the provider said, at the rate that was asked for."""

    async def story() -> tuple[Answer, float]:
        app = FaultInjector(
            saying(b"0123456789" * 3, b"end"), Faults(trickle_ratio=1, trickle_bytes_per_s=20)
        )
        return await drive(app, http_scope(CHAT)), now()

    answer, took_s = run_virtual(story())
    assert answer.body == b"0123456789" * 3 + b"end"
    assert took_s == pytest.approx(33 / 20, abs=0.01)
    assert max(len(chunk) for chunk in answer.chunks) == 2


def test_the_layers_outside_take_it_for_the_provider() -> None:
    """A stall runs into the idle clock, a latency into the first byte's; both are its waiting."""

    async def through_deadline(faults: Faults) -> tuple[Answer, Attempt]:
        attempt = Attempt("p", "m", 0.0)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope, send, _ = open_exchange(scope, send, "r", now)
            scope["state"] = {**scope["state"], ATTEMPT_KEY: attempt}
            clocks = Timeouts(first_byte_s=1, idle_s=1, total_s=60)
            injected = FaultInjector(streaming(EVENTS), faults)
            await Deadline(injected, clocks)(scope, receive, send)

        return await drive(app, http_scope(CHAT), raises=True), attempt

    answer, attempt = run_virtual(through_deadline(Faults(latency_ms=3000)))
    assert (answer.status, attempt.failure) == (504, "first_byte_timeout")
    assert attempt.waited_s == pytest.approx(1, abs=0.01)
    answer, attempt = run_virtual(through_deadline(Faults(stall_ratio=1, stall_s=3)))
    assert (answer.status, attempt.failure) == (200, "idle_timeout")
    assert attempt.longest_gap_s == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("error", "http_503"),
        ("reset", "upstream_connection_lost"),
        ("break", "upstream_connection_lost"),
        ("truncate", "upstream_truncated"),
    ],
)
def test_below_a_router_each_fault_before_the_commit_point_fails_over(
    kind: str, failure: str
) -> None:
    """The other candidate answers, and the record says what the first one died of."""
    faults = Faults(**{f"{kind}_ratio": 1})  # type: ignore[arg-type]
    providers = {"bad": compose(MockProvider(), lambda app: FaultInjector(app, faults))}
    router = ProviderRouter(
        {**providers, "good": MockProvider()},
        {"m": Route((Candidate("bad", "m", 2), Candidate("good", "m", 1)))},
    )
    records: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope, send, exchange = open_exchange(scope, send, "r")
        records.append(exchange)
        await router(scope, receive, send)

    answer = asyncio.run(drive(app, http_scope(CHAT), STREAM))
    assert records[0].attempts[0].sent, "as if the provider had done it"
    assert answer.header("x-radgateway-provider") == "good"
    assert answer.header("x-radgateway-fault") is None
    assert answer.body.rstrip().endswith(b"[DONE]")
    assert records[0].attempts[0].failure == failure


def test_armed_faults_replace_the_configured_ones_and_go_away_again() -> None:
    """An injector without faults passes everything; each strike is told."""
    struck: list[str] = []
    app = FaultInjector(streaming([]), on_fault=struck.append)
    assert app.faults is None
    assert asyncio.run(drive(app, http_scope("/"))).status == 200
    app.arm(Faults(error_ratio=1, error_status=500))
    assert asyncio.run(drive(app, http_scope("/"))).status == 500
    app.arm(Faults(latency_ms=1))
    assert asyncio.run(drive(app, http_scope("/"))).status == 200
    app.disarm()
    assert (app.faults, struck) == (None, ["error", "latency"])

    configured = FaultInjector(streaming([]), Faults(error_ratio=1))
    configured.arm(Faults())
    assert asyncio.run(drive(configured, http_scope("/"))).status == 200
    configured.disarm()
    assert asyncio.run(drive(configured, http_scope("/"))).status == 503


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
    [
        ("latency_ms", -1),
        ("latency_ms", float("nan")),
        ("latency_max_ms", -1),
        ("latency_ratio", 2),
        ("error_ratio", 1.1),
        ("break_ratio", -0.1),
        ("error_status", 200),
        ("stall_s", 0),
        ("trickle_bytes_per_s", 0),
        ("after_events", -1),
        ("header", "x chaos"),
    ],
)
def test_bad_settings_are_named(setting: str, value: Any) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        Faults(**{setting: value})


def test_a_range_of_latency_has_its_ends_in_order() -> None:
    """The longer wait is the second."""
    with pytest.raises(ValueError, match="latency_max_ms"):
        Faults(latency_ms=300, latency_max_ms=100)
