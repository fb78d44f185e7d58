"""Noticing that a client leaves while its request waits, without losing a byte of its body.

Only `receive` tells, and it has one consumer. While a request waits that is this; afterwards what
was read is handed on in order, and then whatever the server still sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from radgateway.asgi import Message, Receive

_AHEAD_MAX = 64 * 1024
"""Bytes of a body after which no more is read ahead. The client of a larger upload is not seen to
leave until it is read on; thousands of them in memory would be worse."""


class HeldReceive:
    """Reads ahead from the moment it is made. `on_left` is called if the client goes away."""

    __slots__ = ("_ahead", "_messages", "_on_left", "_reader", "_receive")

    def __init__(self, receive: Receive, on_left: Callable[[], object]) -> None:
        self._receive = receive
        self._on_left = on_left
        self._messages: deque[Message] = deque()
        self._ahead = True
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def receive(self) -> Message:
        """The request's messages, for the app."""
        # A read that has begun is waited for, not cancelled: a server may lose what it brings.
        self._ahead = False
        while not self._messages:
            if self._reader.done():
                self._reader.result()  # what went wrong in reading goes wrong for the app
                message: Message = await self._receive()
                return message
            await asyncio.wait([self._reader])
        return self._messages.popleft()

    def close(self) -> None:
        """The request is over."""
        if not self._reader.cancel() and not self._reader.cancelled():
            self._reader.exception()  # not raised where the app never asked

    async def _read(self) -> None:
        size = 0
        while self._ahead and size <= _AHEAD_MAX:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] == "http.disconnect":
                self._on_left()
                return
            size += len(message.get("body", b""))
