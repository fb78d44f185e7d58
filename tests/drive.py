"""Driving an ASGI app from a test, with a client that can leave at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from radgateway.asgi import ASGIApp, Headers, header

LIMIT_S = 5.0
"""Every drive ends within this, so that a hang is a failure and not a stuck run."""


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """A header's first value."""
        value = header(self.headers, name.encode())
        return value.decode() if value is not None else None


def http_scope(
    path: str,
    *,
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (),
    query: str = "",
    root_path: str = "",
) -> dict[str, Any]:
    """An HTTP scope as a server would make it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": root_path + path,
        "raw_path": (root_path + path).encode("latin-1", "replace"),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


async def drive(
    app: ASGIApp,
    scope: dict[str, Any],
    body: bytes | list[bytes] = b"",
    *,
    leave: asyncio.Event | None = None,
    on_chunk: Callable[[Answer], Awaitable[None] | None] | None = None,
    raises: bool = False,
) -> Answer:
    """Send a request and collect the answer. `leave` is when the client goes away.

    An exception of the app is re-raised, or with `raises` kept in the answer.
    """
    answer = Answer()
    parts = [body] if isinstance(body, bytes) else list(body)
    done = asyncio.Event()
    gone = leave or asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}
        waits = [asyncio.ensure_future(done.wait()), asyncio.ensure_future(gone.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status, "a second response start"
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        elif message["type"] == "http.response.body":
            assert answer.status, "a body before the start"
            assert not answer.complete, "a body after the end"
            answer.chunks.append(message.get("body", b""))
            answer.complete = not message.get("more_body", False)
            if answer.complete:
                done.set()
            if on_chunk is not None:
                waiting = on_chunk(answer)
                if waiting is not None:
                    await waiting

    try:
        async with asyncio.timeout(LIMIT_S):
            await app(scope, receive, send)
    except Exception as error:
        if not raises:
            raise
        answer.error = error
    return answer


async def no_other_tasks(limit_s: float = 1.0) -> set[asyncio.Task[Any]]:
    """The tasks besides this one that are still there after those on their way out have ended."""
    others: set[asyncio.Task[Any]] = set()
    for _ in range(round(limit_s * 100)):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        await asyncio.sleep(0.01)
    return others
