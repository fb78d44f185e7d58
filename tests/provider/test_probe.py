from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from serving import Call, provider, response
from virtual_time import now, run_virtual

from radgateway.provider.http import HTTPProvider, KindName
from radgateway.provider.probe import (
    MODELS,
    ProbeConfig,
    Probes,
    by_connection,
    by_request,
)
from radgateway.upstream.connect import connect


@pytest.mark.parametrize(
    ("kind", "base", "line", "credential"),
    [
        ("openai", "/v1", b"GET /v1/models HTTP/1.1", b"authorization: Bearer secret"),
        ("anthropic", "", b"GET /v1/models HTTP/1.1", b"x-api-key: secret"),
        ("gemini", "", b"GET /v1beta/models HTTP/1.1", b"x-goog-api-key: secret"),
    ],
)
def test_models_are_listed_as_each_kind_lists_them(
    kind: KindName, base: str, line: bytes, credential: bytes
) -> None:
    """With the credential and a GET, which generates nothing and costs nothing."""

    async def story() -> None:
        async def script(call: Call) -> None:
            await call.say(response(b'{"data":[]}'))

        upstream = connect()
        async with provider(script) as made:
            app = HTTPProvider(
                "p", upstream, base_url=made.url + base, kind=kind, api_key=lambda: "secret"
            )
            ask = by_request(app, MODELS[kind])
            assert await ask() is None
            assert await ask() is None
            head = made.calls[0].head
            assert head.startswith(line)
            assert credential.lower() in head.lower()
            assert made.calls[0].body == b""
            assert made.open == 1  # the connection is kept for the next one
            await upstream.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200 OK", None),
        ("404 Not Found", None),
        ("429 Too Many Requests", None),
        ("401 Unauthorized", "http_401"),
        ("500 Internal Server Error", "http_500"),
        ("503 Service Unavailable", "http_503"),
    ],
)
def test_an_answer_is_judged_by_what_it_says_of_the_provider(
    status: str, reason: str | None
) -> None:
    """A server without a list of models is there; one that refuses our credential is no use."""

    async def story() -> None:
        async def script(call: Call) -> None:
            await call.say(response(b"{}", status))

        upstream = connect()
        async with provider(script) as made:
            app = HTTPProvider("p", upstream, base_url=made.url)
            assert await by_request(app, "/v1/models")() == reason
            await upstream.aclose()

    asyncio.run(story())


def test_a_path_of_its_own_is_at_the_root_of_the_host() -> None:
    """`/health` is not below the API's version."""

    async def story() -> None:
        async def script(call: Call) -> None:
            await call.say(response(b"{}"))

        upstream = connect()
        async with provider(script) as made:
            app = HTTPProvider("p", upstream, base_url=made.url + "/api/v1")
            assert await by_request(app.at_origin(), "/health")() is None
            assert await by_request(app, "/v1/models")() is None
            lines = [call.head.partition(b"\r\n")[0] for call in made.calls]
            assert lines == [b"GET /health HTTP/1.1", b"GET /api/v1/models HTTP/1.1"]
            await upstream.aclose()

    asyncio.run(story())


def test_nobody_there_and_a_broken_answer_are_reasons() -> None:
    """By request and by connection alike."""

    async def story() -> None:
        async def script(call: Call) -> None:
            await call.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            call.writer.close()

        upstream = connect()
        async with provider(script) as made:
            app = HTTPProvider("p", upstream, base_url=made.url)
            assert await by_request(app, "/v1/models")() == "upstream_connection_lost"
            assert await by_connection(made.url)() is None
            assert made.calls[1:] == []
        assert await by_request(app, "/v1/models")() == "upstream_unreachable"
        assert await by_connection(made.url)() == "upstream_unreachable"
        await upstream.aclose()

    asyncio.run(story())


def test_each_is_asked_at_its_interval_and_none_waits_for_another() -> None:
    """A provider that hangs costs its own timeout; pauses differ by a tenth at most."""
    asked: dict[str, list[float]] = {"well": [], "ill": [], "hangs": [], "buggy": []}

    def asking(name: str, reason: str | None) -> Any:
        async def ask() -> str | None:
            asked[name].append(now())
            if name == "hangs":
                await asyncio.Event().wait()
            if name == "buggy":
                raise KeyError(name)
            return reason

        return ask

    async def story() -> None:
        config = ProbeConfig(interval_s=10, timeout_s=4)
        probes = Probes(
            {
                "well": (config, asking("well", None)),
                "ill": (config, asking("ill", "http_500")),
                "hangs": (config, asking("hangs", None)),
                "buggy": (config, asking("buggy", None)),
            },
            rng=random.Random(7),
            clock=now,
            wall=lambda: 1.5e9,
        )
        probes.start()
        probes.start()
        await asyncio.sleep(100)
        assert probes.results["well"] == (True, None, 0.0, 1.5e9)
        assert probes.results["ill"][:2] == (False, "http_500")
        assert probes.results["hangs"][:2] == (False, "total_timeout")
        assert probes.results["hangs"].duration_s == pytest.approx(4)
        assert probes.results["buggy"][:2] == (False, "internal_error")
        for name, least in (("well", 9), ("ill", 9), ("buggy", 9), ("hangs", 7)):
            assert least <= len(asked[name]) <= 12, name
            pauses = [b - a for a, b in zip(asked[name], asked[name][1:], strict=False)]
            held_s = 4 if name == "hangs" else 0
            assert all(9 <= pause_s - held_s <= 11 for pause_s in pauses)
            assert len(set(pauses)) > 1
        await probes.aclose()
        await probes.aclose()
        assert len(asyncio.all_tasks()) == 1

    run_virtual(story())


def test_without_probes_there_is_no_task() -> None:
    """What is off costs nothing."""

    async def story() -> None:
        probes = Probes({})
        probes.start()
        assert len(asyncio.all_tasks()) == 1
        await probes.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("field", "value"),
    [("interval_s", 0.5), ("interval_s", 4000), ("timeout_s", 0), ("timeout_s", 31), ("path", "x")],
)
def test_settings_out_of_range_are_refused(field: str, value: Any) -> None:
    """By name."""
    with pytest.raises(ValueError, match=f"^{field}"):
        ProbeConfig(**{field: value})
