"""The connections to one origin: how many, who waits for one, and which are fit for use.

A slot is the right to one connection. It is taken before a connection is opened and passes
directly to the next in line when it is given up, so a newcomer can't overtake those who wait, and
a caller that is cancelled while being handed a slot passes it on. Resting connections are used
last in, first out: what the load does not need grows old and is closed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import NamedTuple

from radgateway.asgi import Clock
from radgateway.upstream.http1.alarm import NEVER
from radgateway.upstream.http1.connection import Connection
from radgateway.upstream.interface import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    PoolTimeout,
    Timeouts,
    TotalTimeout,
    UpstreamError,
)
from radgateway.upstream.request_head import Origin


class PoolStats(NamedTuple):
    """What one origin's pool holds at the moment."""

    active: int
    """Slots in use: connections that carry a call, or are being opened for one."""
    idle: int
    """Connections at rest."""
    waiting: int
    """Calls that wait for a slot."""


class Pool:
    """The slots and connections of one origin."""

    def __init__(
        self,
        origin: Origin,
        *,
        max_connections: int,
        max_waiting: int,
        keepalive_expiry_s: float,
        ssl_context: ssl.SSLContext | None,
        clock: Clock,
    ) -> None:
        self._origin = origin
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._keepalive_expiry_s = keepalive_expiry_s
        self._ssl_context = ssl_context
        self._clock = clock
        self._active = 0
        self._idle: deque[Connection] = deque()
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._opening: set[asyncio.Task[tuple[asyncio.Transport, Connection]]] = set()
        self._open: set[Connection] = set()
        self._closed = False

    def stats(self) -> PoolStats:
        """The counts of this moment."""
        return PoolStats(self._active, len(self._idle), len(self._waiters))

    @property
    def unused(self) -> bool:
        """Whether nothing would be lost with it."""
        return not (self._active or self._open or self._waiters)

    # taking

    def checkout(self) -> Connection | None:
        """A resting connection that is fit for use, with its slot; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                self._active += 1
                return connection
            connection.close()
        return None

    async def acquire(self, timeouts: Timeouts, total_at: float) -> tuple[Connection, float | None]:
        """A connection with its slot, and the seconds it took to open where it is new.

        Raises `PoolTimeout`, `ConnectTimeout`, `ConnectFailed`, `TotalTimeout` or
        `ConnectionLost`, none of which has sent anything.
        """
        if self._active >= self._max_connections:
            handed = await self._wait_for_slot(timeouts, total_at)
            if handed is not None:
                if handed.usable():
                    return handed, None
                handed.close()
        else:
            self._active += 1
        try:
            if self._closed:
                raise ConnectionLost("The client was closed.", sent=False)
            connection, connect_s = await self._open_one(timeouts, total_at)
            if connection.closed or connection.transport.is_closing():
                raise ConnectFailed(f"{self._origin} closed the connection as soon as it was open.")
            return connection, connect_s
        except BaseException:
            self._free_slot()
            raise

    # giving back

    def release(self, connection: Connection) -> None:
        """The connection is fit for another call: the next in line has it, or it rests."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        elif self._closed:
            self._active -= 1
            connection.close()
        else:
            self._active -= 1
            self._idle.append(connection)
            connection.rest(self._keepalive_expiry_s)

    def discard(self, connection: Connection) -> None:
        """The connection is of no more use: its slot is free."""
        connection.closed = True
        self._free_slot()

    def forget(self, connection: Connection) -> None:
        """A resting connection has ended."""
        if connection in self._idle:
            self._idle.remove(connection)

    def opened(self, connection: Connection) -> None:
        """A transport exists, so `aclose` has one more to wait for."""
        self._open.add(connection)
        _keep_alive(connection.transport.get_extra_info("socket"))

    def lost(self, connection: Connection) -> None:
        """A transport is gone."""
        self._open.discard(connection)

    async def aclose(self) -> None:
        """Fail all calls under way and close all connections."""
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(ConnectionLost("The client was closed.", sent=False))
        for task in self._opening:
            task.cancel()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.fail(ConnectionLost("The client was closed."))
            connection.closed = True
            connection.transport.abort()
        for _ in range(100):  # an aborted transport is gone within a few turns of the loop
            if not self._open:
                break
            await asyncio.sleep(0)

    # inside

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _free_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._active -= 1

    async def _wait_for_slot(self, timeouts: Timeouts, total_at: float) -> Connection | None:
        if len(self._waiters) >= self._max_waiting:
            raise PoolTimeout(f"{self._max_waiting} calls wait for {self._origin} already.")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters.append(waiter)
        clock = asyncio.timeout_at(_earliest(loop, timeouts.pool_s, total_at))
        try:
            async with clock:
                return await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())
            if isinstance(error, TimeoutError) and clock.expired():
                if clock.when() == total_at:
                    raise _total(timeouts) from None
                raise PoolTimeout(
                    f"None of {self._max_connections} connections to {self._origin} "
                    f"was free within {timeouts.pool_s:g} s."
                ) from None
            raise

    def _hand_on(self, connection: Connection | None) -> None:
        """Give up what was handed over to a task that has been cancelled meanwhile."""
        if connection is not None and connection.usable():
            self.release(connection)
        else:
            self._free_slot()

    async def _open_one(self, timeouts: Timeouts, total_at: float) -> tuple[Connection, float]:
        loop = asyncio.get_running_loop()
        started = self._clock()
        # A task, so that `aclose` can end it without cancelling the caller.
        task = loop.create_task(self._create(loop))
        self._opening.add(task)
        clock = asyncio.timeout_at(_earliest(loop, timeouts.connect_s, total_at))
        try:
            async with clock:
                _, connection = await task
        except BaseException as error:
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result()[1].transport.abort()
            failure = self._cannot_open(error, task, clock, timeouts, total_at)
            if failure is None:
                raise
            raise failure from error
        finally:
            self._opening.discard(task)
        return connection, self._clock() - started

    async def _create(
        self, loop: asyncio.AbstractEventLoop
    ) -> tuple[asyncio.Transport, Connection]:
        host = self._origin.host
        secure = self._ssl_context is not None
        return await loop.create_connection(
            lambda: Connection(self, loop),
            host,
            self._origin.port,
            ssl=self._ssl_context,
            server_hostname=host if secure else None,
            # A peer that does not answer our goodbye must not hold the socket for 30 s.
            ssl_shutdown_timeout=1.0 if secure else None,
        )

    def _cannot_open(
        self,
        error: BaseException,
        task: asyncio.Task[tuple[asyncio.Transport, Connection]],
        clock: asyncio.Timeout,
        timeouts: Timeouts,
        total_at: float,
    ) -> UpstreamError | None:
        if clock.expired() and isinstance(error, TimeoutError):
            if clock.when() == total_at:
                return _total(timeouts)
            return ConnectTimeout(
                f"No connection to {self._origin} within {timeouts.connect_s:g} s."
            )
        if isinstance(error, TimeoutError):
            return ConnectTimeout(f"The connection to {self._origin} timed out.")
        if isinstance(error, (OSError, UnicodeError)):
            return ConnectFailed(f"No connection to {self._origin}: {_reason(error)}.")
        if isinstance(error, asyncio.CancelledError) and self._closed and task.cancelled():
            caller = asyncio.current_task()
            if caller is not None and not caller.cancelling():
                return ConnectionLost("The client was closed.", sent=False)
        return None


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel probe: a model may think for minutes, and a NAT forgets silent peers."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)


def _earliest(
    loop: asyncio.AbstractEventLoop, seconds: float | None, total_at: float
) -> float | None:
    due = total_at if seconds is None else min(total_at, loop.time() + seconds)
    return due if due < NEVER else None


def _total(timeouts: Timeouts) -> UpstreamError:
    return TotalTimeout(f"The call took longer than {timeouts.total_s:g} s.", sent=False)


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason or type(error).__name__})"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
