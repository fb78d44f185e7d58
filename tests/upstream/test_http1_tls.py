"""HTTP1Client over TLS: who is trusted, what the server sees, and how connections end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from upstream_rig import (
    LOOPS,
    OK,
    QUICK,
    Line,
    Peer,
    a_client,
    answering,
    eventually,
    get,
    post,
    read_all,
    run,
)

from radgateway.upstream import ConnectFailed, ConnectionLost, HTTP1Client


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate for the names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority only."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("loop", LOOPS)
def test_trusted(loop: str, authority: trustme.CA, tmp_path: Path) -> None:
    """With the CA trusted by file or context, calls work, reuse, and carry the name as SNI."""
    seen: list[str | None] = []
    context = serving(authority, "localhost")
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    big = b"x" * 1_000_000

    async def main() -> None:
        response = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + big
        for options in ({"ca_file": str(ca_file)}, {"ssl_context": trusting(authority)}):
            async with (
                Peer(answering(response), tls=context) as peer,
                a_client(**options) as client,
            ):
                for _ in range(3):
                    answer = await client.send(post(peer.url, big), QUICK)
                    assert await read_all(answer) == big
                assert peer.accepted == 1

    run(main, loop)
    assert seen == ["localhost", "localhost"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", ["wrong name", "unknown authority", "not TLS"])
def test_untrusted(loop: str, case: str, authority: trustme.CA) -> None:
    """A certificate for another name, of another authority, or no TLS at all: nothing is sent."""

    async def main() -> None:
        if case == "not TLS":
            peer_context = None
        else:
            name = "other.example" if case == "wrong name" else "localhost"
            peer_context = serving(authority, name)
        context = None if case == "unknown authority" else trusting(authority)

        async def script(line: Line) -> None:
            if case == "not TLS":
                await line.reader.read(10)
                await line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            else:
                await line.request()

        async with Peer(script, tls=peer_context) as peer, a_client(ssl_context=context) as client:
            url = f"https://localhost:{peer.port}/"
            with pytest.raises(ConnectFailed) as caught:
                await client.send(get(url), QUICK)
            assert not caught.value.sent
            assert peer.heads == []

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_cancellation_over_tls(loop: str, authority: trustme.CA) -> None:
    """A cancelled call closes its TLS connection at once, without waiting for the peer."""

    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await line.gone()

    async def main() -> None:
        context = serving(authority, "localhost")
        async with (
            Peer(script, tls=context) as peer,
            a_client(ssl_context=trusting(authority)) as client,
        ):
            answer = await client.send(post(peer.url), QUICK)
            assert await answer.read() == b"ab"
            task = asyncio.create_task(answer.read())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(peer.seen_closed.wait(), 1)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_death_over_tls(loop: str, authority: trustme.CA) -> None:
    """A TLS connection that its peer closed at rest is replaced unnoticed."""

    async def once(line: Line) -> None:
        await line.request()
        await line.send(OK)

    async def main() -> None:
        context = serving(authority, "localhost")
        async with (
            Peer(once, tls=context) as peer,
            a_client(ssl_context=trusting(authority)) as client,
        ):
            for number in range(2):
                assert await read_all(await client.send(post(peer.url), QUICK)) == b"ok"
                await eventually(lambda: next(iter(client.stats().values())).idle == 0)
                assert peer.accepted == number + 1

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("goodbye", [True, False])
def test_cut_body_is_not_taken_for_its_end(loop: str, goodbye: bool, authority: trustme.CA) -> None:
    """A body that ends with the connection ends with TLS's goodbye; a bare cut is a truncation."""

    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        if not goodbye:
            line.writer.transport.abort()

    async def main() -> None:
        context = serving(authority, "localhost")
        async with (
            Peer(script, tls=context) as peer,
            a_client(ssl_context=trusting(authority)) as client,
        ):
            answer = await client.send(post(peer.url), QUICK)
            assert await answer.read() == b"half"
            if goodbye:
                assert await answer.read() == b""
            else:
                with pytest.raises(ConnectionLost):
                    await answer.read()

    run(main, loop)


def test_one_source_of_trust() -> None:
    """A CA file beside a context would be ignored, so it is refused."""
    with pytest.raises(ValueError, match="ca_file"):
        HTTP1Client(ssl_context=ssl.create_default_context(), ca_file="x.pem")
