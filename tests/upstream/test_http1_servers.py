"""HTTP1Client against the servers that it will meet: uvicorn, aiohttp, nginx and Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from upstream_rig import LOOPS, QUICK, a_client, get, post, read_all, run
from upstream_servers import aiohttp_server, envoy_server, nginx_server, uvicorn_server

from radgateway.upstream import ConnectFailed, ConnectionLost, UpstreamResponse

pytestmark = pytest.mark.servers

SERVERS = ["uvicorn", "uvicorn-h11", "aiohttp", "nginx", "envoy"]
STREAM = b"".join(b"data: %d\n\n" % number for number in range(100))


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Each server that is a process, by its name."""
    folder = tmp_path_factory.mktemp("servers")
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(uvicorn_server(folder))
        yield {
            "uvicorn": origin,
            "aiohttp": stack.enter_context(aiohttp_server(folder)),
            "uvicorn-h11": stack.enter_context(uvicorn_server(folder, "h11")),
            "nginx": stack.enter_context(nginx_server(folder, origin)),
            "envoy": stack.enter_context(envoy_server(folder, origin)),
        }


async def pieces() -> AsyncIterator[bytes]:
    """A body of 300 kB in uneven pieces."""
    for size in (1, 99_999, 0, 200_000):
        yield b"p" * size


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", SERVERS)
def test_exchanges(server: str, loop: str, urls: dict[str, str]) -> None:
    """Bodies of all sizes, streams and empty responses, 20 at once over 5 connections."""

    async def main() -> None:
        url = urls[server]
        async with a_client(max_connections=5) as client:

            async def worker(number: int) -> None:
                for size in (0, 1, 70_000, 1_000_000 if number < 3 else 5):
                    body = bytes([number]) * size
                    answer = await client.send(post(url + "/echo", body), QUICK)
                    assert (answer.status, await read_all(answer)) == (200, body)
                answer = await client.send(post(url + "/echo", pieces()), QUICK)
                assert await read_all(answer) == b"p" * 300_000
                answer = await client.send(get(url + "/stream"), QUICK)
                assert await read_all(answer) == STREAM
                answer = await client.send(get(url + "/nothing"), QUICK)
                assert (answer.status, await read_all(answer)) == (204, b"")

            await asyncio.gather(*(worker(number) for number in range(20)))
            (stats,) = client.stats().values()
            assert stats.active + stats.idle <= 5

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", ["uvicorn", "aiohttp", "nginx"])
def test_server_closes_idle_connections(server: str, loop: str, urls: dict[str, str]) -> None:
    """A server that closes after a second of rest, or after seven requests, causes no error."""

    async def main() -> None:
        url = urls[server]
        async with a_client() as client:
            for number in range(20):
                answer = await client.send(post(url + "/echo", b"%d" % number), QUICK)
                assert await read_all(answer) == b"%d" % number
                if number % 8 == 7:
                    await asyncio.sleep(1.2)  # the server's own clock, which can't be faked
                    assert next(iter(client.stats().values())).idle == 0

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", ["uvicorn", "uvicorn-h11", "aiohttp"])
def test_refused_unread(server: str, loop: str, urls: dict[str, str]) -> None:
    """A refusal that does not wait for the body arrives, whatever becomes of the rest."""

    async def main() -> None:
        url = urls[server]
        async with a_client() as client:
            answer = await client.send(post(url + "/refuse", b"x" * 10_000_000), QUICK)
            assert (answer.status, await read_all(answer)) == (413, b"too large")
            answer = await client.send(post(url + "/echo", b"next"), QUICK)
            assert await read_all(answer) == b"next"

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_nginx_refuses_by_length(loop: str, urls: dict[str, str]) -> None:
    """nginx's own 413 for a declared length comes through, with its HTML."""

    async def main() -> None:
        async with a_client() as client:
            answer = await client.send(post(urls["nginx"] + "/small", b"x" * 5_000_000), QUICK)
            assert answer.status == 413
            assert b"<html>" in await read_all(answer)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("before", ["nothing", "nginx", "envoy"])
def test_server_dies_inside_a_stream(loop: str, before: str, tmp_path: Path) -> None:
    """A server killed in mid-stream is ConnectionLost, directly and through a proxy before it."""

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            url = origin = stack.enter_context(uvicorn_server(tmp_path))
            if before == "nginx":
                url = stack.enter_context(nginx_server(tmp_path, origin))
            elif before == "envoy":
                url = stack.enter_context(envoy_server(tmp_path, origin))
            async with a_client() as client:
                answer = await client.send(get(url + "/break"), QUICK)
                parts: list[bytes] = []
                with pytest.raises(ConnectionLost):
                    await read_to_break(answer, parts)
                assert not answer.ended
                assert STREAM.startswith(b"".join(parts))
                assert parts
                if before == "nothing":
                    await until_refused(origin)
                    with pytest.raises(ConnectFailed):
                        await client.send(get(url + "/nothing"), QUICK)
                else:
                    after = await client.send(get(url + "/nothing"), QUICK)
                    assert after.status in {502, 503}
                    await after.aclose()

    run(main, loop)


async def until_refused(url: str) -> None:
    """Wait for a dying process to let go of its port."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        except OSError:
            return
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        await asyncio.sleep(0.01)
    raise AssertionError(url)


async def read_to_break(response: UpstreamResponse, parts: list[bytes]) -> None:
    """Read until something is raised."""
    while True:
        parts.append(await response.read())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", SERVERS)
def test_cancelled_calls_leave_nothing(server: str, loop: str, urls: dict[str, str]) -> None:
    """Calls given up at every stage free their slots, and the next ones work."""

    async def main() -> None:
        url = urls[server]
        async with a_client(max_connections=4) as client:

            async def caller(number: int) -> None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001 * (number % 13)):
                        body = b"x" * 200_000
                        await read_all(await client.send(post(url + "/echo", body), QUICK))

            await asyncio.gather(*(caller(number) for number in range(60)))
            assert next(iter(client.stats().values())).active == 0
            answer = await client.send(post(url + "/echo", b"next"), QUICK)
            assert await read_all(answer) == b"next"

    run(main, loop)
