from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.body import ClientDisconnected, read_body
from radgateway.errors import Refusal


def read(messages: list[dict[str, Any]], length: str | None = None, limit: int = 100) -> bytes:
    """Read a body that arrives as these messages."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        return await never

    headers = [] if length is None else [(b"content-length", length.encode())]
    scope = {"headers": headers}
    return asyncio.run(read_body(scope, receive, limit_bytes=limit, timeout_s=0.05))


def parts(*bodies: bytes) -> list[dict[str, Any]]:
    """The messages of a body in these parts; the last has no more."""
    last = len(bodies) - 1
    return [
        {"type": "http.request", "body": body, "more_body": number < last}
        for number, body in enumerate(bodies)
    ]


@given(bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_the_parts_become_the_whole(bodies: list[bytes]) -> None:
    """However a server cuts a body, empty parts included (hypercorn ends with one)."""
    assert read(parts(*bodies)) == b"".join(bodies)


def test_defaults_of_the_message_are_understood() -> None:
    """ASGI lets both `body` and `more_body` be left out."""
    assert read([{"type": "http.request"}]) == b""


@pytest.mark.parametrize(
    ("messages", "length"),
    [
        (parts(b"x" * 101), None),
        (parts(b"x" * 60, b"x" * 60), None),
        (parts(b"x"), "101"),
        ([], "9" * 18),
    ],
)
def test_a_body_over_the_limit_is_413(messages: list[dict[str, Any]], length: str | None) -> None:
    """With a declared length before a byte is read; without one as soon as it is passed."""
    with pytest.raises(Refusal) as refused:
        read(messages, length)
    assert refused.value.status == 413
    assert (b"connection", b"close") in refused.value.headers


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "9" * 5000, ""])
def test_a_length_that_is_no_number_is_400(length: str) -> None:
    """Nothing is guessed about framing."""
    with pytest.raises(Refusal) as refused:
        read(parts(b"x"), length)
    assert refused.value.code == "invalid_request"


def test_a_client_that_leaves_half_way_has_left() -> None:
    """There is nobody to answer, and half a body is no body."""
    with pytest.raises(ClientDisconnected):
        read([*parts(b"half", b"")[:1], {"type": "http.disconnect"}])


def test_a_client_that_stops_sending_is_408() -> None:
    """A wait for a slow client has a limit."""
    with pytest.raises(Refusal) as refused:
        read(parts(b"half", b"")[:1])
    assert refused.value.code == "request_timeout"
