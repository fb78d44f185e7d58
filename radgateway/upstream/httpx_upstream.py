"""The portable `Upstream`: any httpx (or httpx2) client or transport behind the provider seam.

For HTTP/2, proxies, custom transports and tests. httpx's own pool loses slots for good when a
call is cancelled while others wait for a connection (encode/httpcore#1093), so calls queue here,
outside of it, and its pool never has to. The clocks run here too, since most transports keep none.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from types import ModuleType
from typing import Any

import httpx

from radgateway.asgi import Headers
from radgateway.upstream.httpx_failures import failure_of, is_library
from radgateway.upstream.interface import (
    ConnectionLost,
    FirstByteTimeout,
    IdleTimeout,
    PoolTimeout,
    Timeouts,
    TotalTimeout,
    UpstreamRequest,
)
from radgateway.upstream.request_head import check_headers, parse_url

NEVER = float("inf")
_CLOSE_S = 1.0
"""How long a caller waits for its connection's clean-up, which goes on without it."""
_TURNS_IN_A_GAP = 20


class HTTPXUpstream:
    """An `Upstream` over an `AsyncClient` or an `AsyncBaseTransport` of httpx or httpx2.

    A client's default headers, cookies, proxies from the environment and redirects stay out of
    the calls: each is sent as it is given. `max_connections` bounds the calls under way over all
    origins and must not exceed the limit of the client's own pool (100 in httpx's default).
    """

    def __init__(
        self,
        client: Any = None,
        *,
        max_connections: int = 100,
        max_waiting: int = 1024,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections is {max_connections}; it must be positive")
        if client is None:
            limits = httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            )
            client = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
        self._client = client
        self._library = _library_of(client)
        self._is_transport = hasattr(client, "handle_async_request")
        self._max_waiting = max_waiting
        self._max_connections = max_connections
        self._slots = asyncio.Semaphore(max_connections)
        self._waiting = 0
        self._calls: set[HTTPXResponse] = set()
        self._sending: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def in_use(self) -> int:
        """Calls under way, from taking a slot to giving it back."""
        return len(self._calls)

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> HTTPXResponse:
        """Send, and wait for the response's headers. Raises `UpstreamError`, or ValueError."""
        if self._closed:
            raise ConnectionLost("The client is closed.", sent=False)
        parse_url(request.url)
        check_headers(request.headers)
        total_at = NEVER
        if timeouts.total_s is not None:
            total_at = asyncio.get_running_loop().time() + timeouts.total_s
        await self._take_slot(timeouts, total_at)
        response = HTTPXResponse(self, timeouts, total_at)
        self._calls.add(response)
        try:
            await self._send(request, response)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """Close the client and all its connections; calls under way fail with `ConnectionLost`."""
        self._closed = True
        for task in tuple(self._sending):
            task.cancel()
        for response in tuple(self._calls):
            await response.aclose()
        await self._client.aclose()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)

    # inside

    async def _take_slot(self, timeouts: Timeouts, total_at: float) -> None:
        if self._slots.locked() and self._waiting >= self._max_waiting:
            raise PoolTimeout(f"{self._max_waiting} calls wait for a connection already.")
        clock = asyncio.timeout_at(_earliest(timeouts.pool_s, total_at))
        self._waiting += 1
        try:
            async with clock:
                await self._slots.acquire()
        except TimeoutError:
            if clock.when() == total_at:
                raise _total(timeouts, sent=False) from None
            raise PoolTimeout(
                f"None of {self._max_connections} connections was free in {timeouts.pool_s:g} s."
            ) from None
        finally:
            self._waiting -= 1

    async def _send(self, request: UpstreamRequest, response: HTTPXResponse) -> None:
        timeouts = response.timeouts
        # A transport that reports its steps restarts this clock when the request is out; for one
        # that does not, the response may take as long as connecting and answering together.
        seconds = timeouts.first_byte_s
        if seconds is not None:
            seconds += timeouts.connect_s or 0.0
        clock = asyncio.timeout_at(_earliest(seconds, response.total_at))

        async def trace(event: str, info: dict[str, Any]) -> None:
            # connection.connect_tcp.started, .complete, http11.send_request_headers.started, ...
            response.fit_to_end = not (
                event.startswith("connection.") and event.endswith("complete")
            )
            if event.startswith("connection."):
                request.sent = False
                response.connecting(event)
            elif event.endswith("send_request_headers.started"):
                request.sent = True
            if response.ending is not None:
                return
            if event.endswith("send_request_headers.started"):
                clock.reschedule(_finite(response.total_at))
            elif event.endswith("send_request_body.complete"):
                clock.reschedule(_earliest(timeouts.first_byte_s, response.total_at))

        body = request.body if isinstance(request.body, bytes) else _Source(request.body)
        built = self._library.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=body or None,
            extensions={"timeout": _library_clocks(timeouts), "trace": trace},
        )
        # Of a transport that reports no steps nobody knows better; one that does says so at once.
        request.sent = True
        # In a task of its own, so that it is cancelled once, and when it does no harm.
        task = asyncio.get_running_loop().create_task(self._exchange(built))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        try:
            async with clock:
                answer = await self._outcome(task, response)
        except asyncio.CancelledError:
            if self._closed and not _being_cancelled():
                raise ConnectionLost("The client was closed.") from None
            raise
        except Exception as error:
            if isinstance(body, _Source) and body.failure is not None:
                raise body.failure from None
            raise self.failure(error, response, clock) from error
        response.accept(answer)

    async def _outcome(self, task: asyncio.Task[Any], response: HTTPXResponse) -> Any:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._aside(response, _end(task, response))
            raise

    async def _aside(self, response: HTTPXResponse, work: Coroutine[Any, Any, None]) -> None:
        """Clean up where no second cancellation can interrupt it (encode/httpx#3782).

        The caller waits for a while; the slot is free only when it is done.
        """
        task = asyncio.get_running_loop().create_task(work)
        response.ending = task
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        await asyncio.wait([task], timeout=_CLOSE_S)

    async def _exchange(self, built: Any) -> Any:
        if self._is_transport:
            return await self._client.handle_async_request(built)
        return await self._client.send(built, stream=True, follow_redirects=False)

    def failure(
        self, error: Exception, response: HTTPXResponse, clock: asyncio.Timeout
    ) -> Exception:
        """What an exception of the library, or of a clock, means to the caller."""
        if self._closed:
            return ConnectionLost("The client was closed.")
        in_body = response.status != 0
        timeouts = response.timeouts
        if isinstance(error, TimeoutError) and clock.expired():
            if clock.when() == response.total_at:
                return _total(timeouts, sent=True)
            if in_body:
                return IdleTimeout(f"No byte of the body came for {timeouts.idle_s:g} s.")
            return FirstByteTimeout(f"No response began within {timeouts.first_byte_s:g} s.")
        return failure_of(error, in_body=in_body)

    def release(self, response: HTTPXResponse) -> None:
        """A call has let go of its connection: its slot is free."""
        if response.ending is not None and not response.ending.done():
            response.ending.add_done_callback(lambda _: self.release(response))
        elif response in self._calls:
            self._calls.discard(response)
            self._slots.release()

    async def let_go(self, response: HTTPXResponse, answer: Any, chunks: Any) -> None:
        """Close a response of the library."""
        await self._aside(response, _close(answer, chunks))


class HTTPXResponse:
    """A response of an httpx client or transport (`UpstreamResponse`), undecoded."""

    def __init__(self, upstream: HTTPXUpstream, timeouts: Timeouts, total_at: float) -> None:
        self.status = 0
        self.headers: Headers = []
        self.connect_s: float | None = None
        self.timeouts = timeouts
        self.total_at = total_at
        self.fit_to_end = False
        """Whether the transport is inside a step that it cleans up after when cancelled."""
        self.ending: asyncio.Task[None] | None = None
        """The clean-up that the slot waits for."""
        self._connecting_at: float | None = None
        self._upstream = upstream
        self._answer: Any = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._complete = False
        self._failure: Exception | None = None
        self._reading = False

    def connecting(self, event: str) -> None:
        """A step on the way to a connection: TCP, and TLS where it is used."""
        now = asyncio.get_running_loop().time()
        if self._connecting_at is None:
            self._connecting_at = now
        if event.endswith(".complete"):
            self.connect_s = now - self._connecting_at

    def accept(self, answer: Any) -> None:
        """The library's response has arrived."""
        self._answer = answer
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        # The stream under the response: `aiter_raw` refuses one that a mock was built with.
        self._chunks = answer.stream.__aiter__()

    async def read(self) -> bytes:
        """The next bytes of the body as they came, b"" once at its end."""
        if self._complete:
            return b""
        if self._failure is not None:
            raise self._failure
        if self._chunks is None:
            raise ConnectionLost("The response was closed by its reader.")
        try:
            chunk = await self._next_chunk(self._chunks)
        except BaseException:
            await self.aclose()
            raise
        if not chunk:
            self._complete = True
            await self.aclose()
        return chunk

    async def _next_chunk(self, chunks: AsyncIterator[bytes]) -> bytes:
        clock = asyncio.timeout_at(_earliest(self.timeouts.idle_s, self.total_at))
        self._reading = True
        try:
            async with clock:
                async for chunk in chunks:
                    if chunk:
                        return bytes(chunk)
        except Exception as error:
            self._failure = self._upstream.failure(error, self, clock)
            raise self._failure from error
        finally:
            self._reading = False
        return b""

    @property
    def ended(self) -> bool:
        """True when the end of the body was read."""
        return self._complete

    async def aclose(self) -> None:
        """Let go: before the body's end this closes the connection."""
        answer, self._answer = self._answer, None
        chunks, self._chunks = self._chunks, None
        try:
            if answer is not None:
                # A generator that another task is reading can't be closed, and will end by itself.
                await self._upstream.let_go(self, answer, None if self._reading else chunks)
        finally:
            self._upstream.release(self)


class _Source:
    """A request body's iterator, remembering its own failure: that one is not the provider's."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                if chunk:
                    yield chunk
        except Exception as error:
            self.failure = error
            raise


def _library_of(client: Any) -> ModuleType:
    """The library whose classes a client is made of; httpx for one that is of neither."""
    for cls in type(client).__mro__:
        if is_library(cls.__module__):
            return sys.modules[cls.__module__.partition(".")[0]]
    return httpx


async def _end(task: asyncio.Task[Any], response: HTTPXResponse) -> None:
    """Cancel a call, and close the response it may have come to all the same."""
    # httpcore never frees a connection whose call is cancelled between being given it and opening
    # it, or between opening it and writing to it (encode/httpcore#1093). Both gaps take a few turns
    # of the loop, and no I/O, since there is no queue in its pool.
    for _ in range(_TURNS_IN_A_GAP):
        if response.fit_to_end or task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await _close(task.result(), None)


async def _close(answer: Any, chunks: Any) -> None:
    try:
        await answer.aclose()
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
    except Exception as error:
        # The connection is gone, if not gently; the call has ended with its own outcome.
        _ = error


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _finite(due: float) -> float | None:
    return due if due < NEVER else None


def _earliest(seconds: float | None, total_at: float) -> float | None:
    if seconds is None:
        return _finite(total_at)
    return min(total_at, asyncio.get_running_loop().time() + seconds)


def _library_clocks(timeouts: Timeouts) -> dict[str, float | None]:
    """What only the library can time; reading is timed here."""
    return {
        "connect": timeouts.connect_s,
        "pool": timeouts.pool_s,
        "read": None,
        "write": timeouts.idle_s,
    }


def _total(timeouts: Timeouts, *, sent: bool) -> TotalTimeout:
    return TotalTimeout(f"The call took longer than {timeouts.total_s:g} s.", sent=sent)
