"""Where a JWK Set is fetched from: a URL, or a file that somebody else keeps up to date.

A fetch gives one `Fetched` or raises `KeysUnavailable`, in bounded time and size. Redirects are
not followed: who may name our keys is the address in the configuration.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from radgateway.asgi import Headers, header
from radgateway.inbound.key_renewal import Fetch, Fetched, KeysUnavailable
from radgateway.inbound.signing_keys import DOCUMENT_MAX_BYTES
from radgateway.upstream.interface import (
    Timeouts,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)

TIMEOUTS = Timeouts(connect_s=3.0, pool_s=1.0, first_byte_s=5.0, idle_s=5.0, total_s=10.0)
"""Nobody waits for all of it: a request that needs the set gives up after a second."""

_HEADERS: Headers = [
    (b"accept", b"application/jwk-set+json, application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"radgateway"),
]


def jwks_at_url(url: str, client: Upstream, *, clock: Callable[[], float] = time.time) -> Fetch:
    """Fetches from a URL with a client that is the caller's to close."""
    request = UpstreamRequest("GET", url, _HEADERS)

    async def fetch() -> Fetched:
        try:
            response = await client.send(request, TIMEOUTS)
            try:
                skew_s = _skew_s(response.headers, clock())
                return Fetched(await _document(response), skew_s)
            finally:
                await response.aclose()
        except UpstreamError as error:
            raise KeysUnavailable(f"{url} can't be fetched: {error}") from error
        except KeysUnavailable as error:
            raise KeysUnavailable(f"{url} {error}") from None

    return fetch


def jwks_in_file(path: str) -> Fetch:
    """Reads a file, in a thread, since a disk may take its time."""

    async def fetch() -> Fetched:
        return Fetched(await asyncio.to_thread(_read, path))

    return fetch


async def _document(response: UpstreamResponse) -> bytes:
    if response.status != 200:
        raise KeysUnavailable(f"answered {response.status}")
    if (header(response.headers, b"content-encoding") or b"identity").lower() != b"identity":
        raise KeysUnavailable("answered in an encoding that was not asked for")
    document = b""
    while part := await response.read():
        document += part
        if len(document) > DOCUMENT_MAX_BYTES:
            raise KeysUnavailable(f"answered more than {DOCUMENT_MAX_BYTES} bytes")
    return document


def _skew_s(headers: Headers, now: float) -> float | None:
    """How far the sender's clock is ahead of ours, by its Date and Age (RFC 9110 §6.6.1,
    RFC 9111 §5.1)."""
    date, age = header(headers, b"date"), header(headers, b"age")
    try:
        sent = parsedate_to_datetime((date or b"").decode("latin-1")).timestamp()
        return sent + (int(age[:9]) if age is not None else 0) - now
    except (ValueError, OverflowError):
        return None


def _read(path: str) -> bytes:
    try:
        # A pipe would wait for whoever writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeysUnavailable(f"{path!r} is not a regular file")
            document = file.read(DOCUMENT_MAX_BYTES + 1)
    except OSError as error:
        raise KeysUnavailable(f"{path!r} can't be read: {error.strerror}") from error
    if len(document) > DOCUMENT_MAX_BYTES:
        raise KeysUnavailable(f"{path!r} is larger than {DOCUMENT_MAX_BYTES} bytes")
    return document
