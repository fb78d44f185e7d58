"""Fetching a key set from real servers and real files."""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import minting
import pytest
from serving import Call, Provider, chunked, provider, response

from radgateway.asgi import Headers
from radgateway.inbound.jwks_fetch import _skew_s, jwks_at_url, jwks_in_file
from radgateway.inbound.key_renewal import Fetched, KeysUnavailable
from radgateway.inbound.signing_keys import DOCUMENT_MAX_BYTES
from radgateway.upstream.connect import connect

KINDS = ["http1", "httpx"]


def fetched(
    script: Callable[[Call], Awaitable[None]], kind: str = "http1"
) -> tuple[Fetched | str, Provider]:
    """What comes of one fetch from a scripted server: the set, or why not."""

    async def story() -> tuple[Fetched | str, Provider]:
        client = connect(kind)  # type: ignore[arg-type]
        try:
            async with provider(script) as server:
                fetch = jwks_at_url(f"{server.url}/realm/keys", client)
                try:
                    return await fetch(), server
                except KeysUnavailable as error:
                    return str(error).replace(server.url, "URL"), server
        finally:
            await client.aclose()

    return asyncio.run(asyncio.wait_for(story(), 30))


def saying(data: bytes) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        await call.say(data)

    return script


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_is_fetched_as_it_is(kind: str) -> None:
    """With one plain GET, by either client, whole or in chunks."""
    parts = minting.KEY_SET[:100], minting.KEY_SET[100:], b""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    for data in (response(minting.KEY_SET), head + chunked(*parts)):
        found, server = fetched(saying(data), kind)
        assert isinstance(found, Fetched)
        assert found.document == minting.KEY_SET
        (call,) = server.calls
        request = call.head.lower()
        assert request.startswith(b"get /realm/keys http/1.1\r\n")
        assert b"accept-encoding: identity\r\n" in request
        assert b"authorization" not in request
        assert b"cookie" not in request


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (response(b"{}", "404 Not Found"), "URL/realm/keys answered 404"),
        (response(b"{}", "500 Oops"), "URL/realm/keys answered 500"),
        (response(b"", "302 Found", "location: http://127.0.0.1:1/"), "answered 302"),
        (response(b"", "304 Not Modified"), "answered 304"),
        (response(b"x", "200 OK", "content-encoding: gzip"), "encoding that was not asked for"),
        (response(b" " * (DOCUMENT_MAX_BYTES + 1)), "more than 262144 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "can't be fetched"),
        (b"not http at all\r\n\r\n", "can't be fetched"),
    ],
)
def test_anything_else_is_no_set(data: bytes, why: str) -> None:
    """A redirect above all: who may name our keys is the address in the configuration."""

    async def script(call: Call) -> None:
        await call.say(data)
        call.writer.close()

    found, server = fetched(script)
    assert isinstance(found, str)
    assert why in found
    assert len(server.calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_endless_answer_is_cut(kind: str) -> None:
    """Memory is bounded whatever the server sends, and its connection is closed at once."""
    cut = asyncio.Event()

    async def script(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                await call.say(chunked(b" " * 65_536))
        except ConnectionError:
            cut.set()

    async def story() -> None:
        client = connect(kind)  # type: ignore[arg-type]
        async with provider(script) as server:
            with pytest.raises(KeysUnavailable, match="more than"):
                await jwks_at_url(server.url, client)()
            await asyncio.wait_for(cut.wait(), 5)
        await client.aclose()

    asyncio.run(story())


def test_nobody_there_is_said() -> None:
    """Refused connections are an answer too, at once."""

    async def story() -> None:
        client = connect("http1")
        with pytest.raises(KeysUnavailable, match="can't be fetched"):
            await jwks_at_url("http://127.0.0.1:1/keys", client)()
        await client.aclose()

    asyncio.run(story())


def test_the_clock_of_the_sender_is_read() -> None:
    """From Date, and from Age where a cache stands between."""
    ahead = email.utils.formatdate(time.time() + 3600, usegmt=True)
    found, _ = fetched(saying(response(minting.KEY_SET, "200 OK", f"date: {ahead}")))
    assert isinstance(found, Fetched)
    assert found.skew_s == pytest.approx(3600, abs=3)


@pytest.mark.parametrize(
    ("headers", "skew_s"),
    [
        ([(b"date", b"Fri, 15 Jan 2027 08:00:00 GMT")], 0.0),
        ([(b"date", b"Fri, 15 Jan 2027 07:58:00 GMT")], -120.0),
        ([(b"date", b"Fri, 15 Jan 2027 07:50:00 GMT"), (b"age", b"600")], 0.0),
        ([], None),
        ([(b"date", b"")], None),
        ([(b"date", b"yesterday")], None),
        ([(b"date", b"\xff")], None),
        ([(b"date", b"Fri, 99 Jan 2027 08:00:00 GMT")], None),
        ([(b"date", b"Fri, 15 Jan 2027 08:00:00 GMT"), (b"age", b"old")], None),
    ],
)
def test_skew_is_known_or_it_is_not(headers: Headers, skew_s: float | None) -> None:
    """A header that can't be read tells nothing, and spoils nothing."""
    assert _skew_s(headers, minting.NOW) == skew_s


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    """So that a new one, also one that is moved into its place, is found."""
    path = tmp_path / "keys.json"
    fetch = jwks_in_file(str(path))

    async def story() -> None:
        with pytest.raises(KeysUnavailable, match="can't be read: No such file"):
            await fetch()
        path.write_bytes(minting.KEY_SET)
        assert await fetch() == Fetched(minting.KEY_SET)
        other = tmp_path / "new"
        other.write_bytes(b'{"keys": []}')
        other.replace(path)
        assert (await fetch()).document == b'{"keys": []}'
        path.write_bytes(b" " * (DOCUMENT_MAX_BYTES + 1))
        with pytest.raises(KeysUnavailable, match="larger than"):
            await fetch()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(KeysUnavailable, match="not a regular file"):
            await asyncio.wait_for(fetch(), 5)
        path.unlink()
        path.mkdir()
        with pytest.raises(KeysUnavailable):
            await fetch()

    asyncio.run(story())
