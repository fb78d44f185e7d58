"""uvicorn's HTTP protocol, with a response's head and its first bytes in one write.

uvicorn writes a head as soon as it has it, and the body after it: two system calls and two packets
for an answer that fits into one. ASGI has a server keep the head until the first body message is
there (HTTP message format, "Response Start"), which is what is done here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class OneWriteProtocol(HttpToolsProtocol):
    """Give it to uvicorn as `http=`."""

    def on_headers_complete(self) -> None:
        """A request is to be answered: through a transport that keeps its head back."""
        before = self.cycle
        super().on_headers_complete()
        cycle = self.cycle
        # The answer to a HEAD has no body to wait for; an upgrade makes no cycle.
        if cycle is not before and cycle.scope["method"] != "HEAD":
            cycle.transport = _HeadKeeper(cycle)  # type: ignore[assignment]


class _HeadKeeper:
    """The transport as one request's cycle sees it."""

    __slots__ = ("_cycle", "_head", "_passed", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport: asyncio.Transport = cycle.transport
        self._head = b""
        self._passed = False

    def write(self, data: bytes) -> None:
        if self._passed:
            self._transport.write(data)
        elif self._head:
            self._passed = True
            self._transport.write(self._head + data)
        elif self._cycle.response_started:
            self._head = data
        else:
            self._transport.write(data)  # 100 Continue

    def close(self) -> None:
        if self._head and not self._passed:
            self.write(b"")  # the app failed between the two
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
