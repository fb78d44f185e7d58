"""What a request is made of is gone when it ends, without the garbage collector.

A circle of references stays until the collector comes to its oldest objects, which in a process
that spares itself full collections is once in millions of requests: memory grows until then.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable

import pytest
from serving import LIMIT_S, serving
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from radgateway import create_gateway
from radgateway.disconnect import DisconnectWatch
from radgateway.exchange import Attempt, Exchange
from radgateway.one_write import OneWriteProtocol, ResponseWriter

REQUESTS = 40
SLOW_MS = 60
"""Longer than a quick answer takes, so that the client is watched."""

RECORDS = (Exchange, Attempt, DisconnectWatch, ResponseWriter, RequestResponseCycle)


def chat(*, stream: bool) -> bytes:
    """A request on the wire."""
    asked = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(asked).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def answered(port: int) -> None:
    """A caller that gets its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat(stream=False))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"choices" in await reader.readuntil(b"}")
    writer.close()


async def streamed(port: int) -> None:
    """A caller that reads a stream to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat(stream=True))
    await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    writer.close()


async def left_early(port: int) -> None:
    """A caller that leaves before there is anything to read."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat(stream=True))
    await asyncio.sleep(SLOW_MS / 2000)
    writer.close()


@pytest.mark.parametrize("latency_ms", [0, SLOW_MS])
@pytest.mark.parametrize("caller", [answered, streamed, left_early])
def test_a_request_leaves_nothing_to_the_collector(
    caller: Callable[[int], Awaitable[None]], latency_ms: int
) -> None:
    """None of their records is found there, nor of the server's."""

    async def story() -> list[str]:
        gateway = create_gateway(
            {
                "keys": [],
                "providers": {"mock": {"kind": "mock", "latency_ms": latency_ms}},
                "models": {"m": {"candidates": [{"provider": "mock"}]}},
                "storage": {"usage": "memory://"},
            }
        )
        async with (
            serving(gateway, http=OneWriteProtocol) as url,
            asyncio.timeout(LIMIT_S),
        ):
            port = int(url.rpartition(":")[2])

            async def ask(times: int) -> None:
                await asyncio.gather(*(caller(port) for _ in range(times)))
                while gateway.drain.in_flight:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)

            await ask(5)
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await ask(REQUESTS)
                gc.collect()
                found = [type(each) for each in gc.garbage]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
                await gateway.aclose()
            return [kind.__name__ for kind in found if issubclass(kind, RECORDS)]

    assert asyncio.run(story()) == []
