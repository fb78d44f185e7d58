"""`radgateway health` as a health check runs it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from serving import Call, provider, response, serving

from radgateway import create_gateway
from radgateway.cli import main
from radgateway.gateway import Gateway

CONFIG: dict[str, Any] = {
    "keys": [],
    "providers": {"mock": {"kind": "mock"}},
    "models": {"m": {"candidates": [{"provider": "mock"}]}},
    "storage": {"usage": "memory://"},
}


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway on a socket, and where."""
    made = create_gateway(CONFIG)
    async with serving(made) as url:
        yield made, url


async def health(*arguments: str) -> int:
    """The command's exit code; it has a loop of its own, so it runs beside ours."""
    return await asyncio.to_thread(main, ["health", *arguments])


async def both(capsys: pytest.CaptureFixture[str]) -> list[tuple[int, str]]:
    """Alive and ready, of one gateway that works and one that drains."""
    found = []
    async with gateway() as (made, url):
        for draining in (False, True):
            if draining:
                made.drain.start()
            for ready in ([], ["--ready"]):
                code = await health("--url", url, *ready)
                said = capsys.readouterr()
                found.append((code, (said.out + said.err).partition(url)[2].strip()))
    return found


def test_alive_and_ready_are_two_questions(capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway that drains is alive, so nothing restarts it, and not ready."""
    assert asyncio.run(both(capsys)) == [
        (0, "/health: ok"),
        (0, "/health/ready: ready"),
        (0, "/health: ok"),
        (1, "/health/ready: draining (503)"),
    ]


def test_it_asks_the_port_that_the_environment_sets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the gateway beside it was told; a slash at the end of an address changes nothing."""

    async def ask() -> None:
        async with gateway() as (_, url):
            monkeypatch.setenv("RADGATEWAY_SERVER__PORT", url.rpartition(":")[2])
            assert await health() == 0
            assert await health("--url", f"{url}/") == 0

    asyncio.run(ask())
    assert capsys.readouterr().out.count("/health: ok\n") == 2


def test_nobody_there_is_no(capsys: pytest.CaptureFixture[str]) -> None:
    """Said in a line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert main(["health", "--url", url]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"radgateway: {url}/health: ")
    assert "Traceback" not in said


def test_an_answer_that_does_not_come_is_no(capsys: pytest.CaptureFixture[str]) -> None:
    """One that accepts and is silent, and one that says a byte now and then, are given up."""

    async def silent(call: Call) -> None:
        await call.until_closed()

    async def dribbling(call: Call) -> None:
        with contextlib.suppress(ConnectionError):
            await call.say(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
            while not call.reader.at_eof():
                await call.say(b" ")
                await asyncio.sleep(0.02)

    async def ask() -> None:
        for script in (silent, dribbling):
            async with provider(script) as served:
                began = time.monotonic()
                assert await health("--url", served.url, "--timeout", "0.3") == 1
                assert time.monotonic() - began < 2

    asyncio.run(ask())
    assert capsys.readouterr().err.count("radgateway: ") == 2


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{}", b"[]", b'{"status": 3}', b" " * 1_000_000, b""]
)
def test_somebody_else_is_no(body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """A 200 of another service on that port doesn't pass for a gateway, however long it is."""

    async def ask() -> int:
        async def answer(call: Call) -> None:
            with contextlib.suppress(ConnectionError):
                await call.say(response(body))

        async with provider(answer) as served:
            return await health("--url", served.url)

    assert asyncio.run(ask()) == 1
    assert "answers 200, and not as a radgateway does" in capsys.readouterr().err


def test_what_is_degraded_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """And a gateway that still takes work is ready."""

    async def ask() -> int:
        async def answer(call: Call) -> None:
            modes = b'[{"dependency": "usage", "state": "down", "behaviour": "rows wait"}]'
            await call.say(response(b'{"status": "ready", "degraded": ' + modes + b"}"))

        async with provider(answer) as served:
            return await health("--url", served.url, "--ready")

    assert asyncio.run(ask()) == 0
    assert capsys.readouterr().out.endswith("/health/ready: ready, usage down\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "localhost:8090"],
        ["--url", "http://u:p@x"],
        ["--timeout", "0"],
        ["--timeout", "61"],
        ["--timeout", "x"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with 2, so that a check that was mistyped is told from a gateway that is down."""
    with pytest.raises(SystemExit) as ended:
        main(["health", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999", "http://a b"])
def test_an_address_that_can_not_be_one(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer in a line, not a traceback."""
    assert main(["health", "--url", url]) == 1
    assert capsys.readouterr().err.startswith("radgateway: ")


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples and exit codes."""
    with pytest.raises(SystemExit):
        main(["health", "--help"])
    said = capsys.readouterr().out
    assert "radgateway health --ready" in said
    assert "exit codes:" in said
