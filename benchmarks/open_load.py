"""Load at a fixed rate, whatever comes back: an open loop, as are callers who share nothing.

A closed loop (wrk) waits for answers and so asks less of a system that is in trouble; here requests
begin when the clock says so, and what is late is seen to be late (Gil Tene's "coordinated
omission"). A share of them are streams, and a share of all leave before their answer is complete.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

_LIMIT_S = 30.0
_IN_FLIGHT_MAX = 5_000
"""Requests that may be waiting for an answer; those beyond it are counted as lost, not sent."""

Ending = Literal["ok", "refused", "broken", "left", "late"]


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for."""

    port: int
    key: str
    rate_per_s: float
    seconds: float
    stream_ratio: float = 0.0
    """Share of requests that stream, 0 to 1."""
    leave_ratio: float = 0.0
    """Share of requests whose caller leaves before the answer is complete, 0 to 1."""
    model: str = "bench-model"
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, and what became of it."""

    at_s: float
    """Seconds from the start of the load to when it was due."""
    ending: Ending
    """ok; refused (a status of 400 or more); broken (cut, or not HTTP); left (as it was to);
    late (no answer within 30 s, or not sent for want of room)."""
    status: int
    latency_s: float
    """From when it was due to the answer's last byte, or to its end."""
    first_byte_s: float
    provider: str


async def shots(load: Load) -> AsyncIterator[Shot]:
    """Send the load, giving each request as it ends."""
    done: asyncio.Queue[Shot] = asyncio.Queue()
    connections = _Connections(load.port)
    rng = random.Random(load.seed)
    loop = asyncio.get_running_loop()
    began = loop.time()
    count = round(load.rate_per_s * load.seconds)
    tasks: set[asyncio.Task[None]] = set()
    received = 0

    async def shoot(at_s: float, stream: bool, leave_after: int | None) -> None:
        done.put_nowait(await _shoot(connections, load, began + at_s, at_s, stream, leave_after))

    async def launch() -> None:
        for number in range(count):
            at_s = number / load.rate_per_s
            wait_s = began + at_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            stream = rng.random() < load.stream_ratio
            leaves = rng.random() < load.leave_ratio
            # Some leave before the head of the answer, some within its body.
            leave_after = rng.choice((0, 0, 1, 2, 5, 20)) if leaves else None
            if len(tasks) >= _IN_FLIGHT_MAX:
                done.put_nowait(Shot(at_s, "late", 0, 0.0, 0.0, ""))
                continue
            task = loop.create_task(shoot(at_s, stream, leave_after))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    launching = loop.create_task(launch())
    try:
        while received < count:
            yield await done.get()
            received += 1
    finally:
        for task in (launching, *tasks):
            task.cancel()
        await asyncio.gather(launching, *tasks, return_exceptions=True)
        connections.close()


class _Connections:
    """Connections at rest, the one used last first."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not writer.is_closing() and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def give_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._idle.append((reader, writer))

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _shoot(
    connections: _Connections,
    load: Load,
    due: float,
    at_s: float,
    stream: bool,
    leave_after: int | None,
) -> Shot:
    clock = asyncio.get_running_loop().time
    seen = _Seen()
    ending: Ending = "broken"
    try:
        async with asyncio.timeout(_LIMIT_S):
            ending = await _ask(connections, load, seen, stream=stream, leave_after=leave_after)
    except TimeoutError:
        ending = "late"
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        ending = "broken"
    first_byte_s = seen.first_byte - due if seen.first_byte else 0.0
    return Shot(at_s, ending, seen.status, clock() - due, first_byte_s, seen.provider)


class _Seen:
    """What is known of an answer so far."""

    status = 0
    provider = ""
    first_byte = 0.0


async def _ask(
    connections: _Connections,
    load: Load,
    seen: _Seen,
    *,
    stream: bool,
    leave_after: int | None,
) -> Ending:
    reader, writer = await connections.take()
    keep = False
    try:
        writer.write(_request(load, stream))
        if leave_after == 0:
            await asyncio.sleep(0.002)
            return "left"
        head = await reader.readuntil(b"\r\n\r\n")
        seen.first_byte = asyncio.get_running_loop().time()
        length, keeps_alive = _read_head(head, seen)
        if length is not None:
            await reader.readexactly(length)
        elif not await _read_chunks(reader, leave_after):
            return "left"
        keep = keeps_alive and leave_after is None
        return "ok" if seen.status < 400 else "refused"
    finally:
        if keep:
            connections.give_back(reader, writer)
        else:
            writer.close()


def _read_head(head: bytes, seen: _Seen) -> tuple[int | None, bool]:
    lines = head.split(b"\r\n")
    seen.status = int(lines[0].split(b" ", 2)[1])
    length, keeps_alive = None, True
    for line in lines[1:]:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"x-radgateway-provider":
            seen.provider = value.decode("latin-1")
        elif name == b"connection" and value.lower() == b"close":
            keeps_alive = False
    return length, keeps_alive


async def _read_chunks(reader: asyncio.StreamReader, leave_after: int | None) -> bool:
    """Read a chunked body; False where its reader was to leave before its end."""
    chunks = 0
    while True:
        size = int(await reader.readline(), 16)
        await reader.readexactly(size + 2)
        if size == 0:
            return True
        chunks += 1
        if chunks == leave_after:
            return False


def _request(load: Load, stream: bool) -> bytes:
    asked: dict[str, object] = {
        "model": load.model,
        "messages": [{"role": "user", "content": "How many corners does a square have?"}],
    }
    if stream:
        asked["stream"] = True
    body = json.dumps(asked).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\n"
        f"authorization: Bearer {load.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
