from __future__ import annotations

from email.utils import formatdate

import pytest

from radgateway.retry_after import retry_after_s

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"retry-after", b"7")], 7.0),
        ([(b"Retry-After", b" 7 ")], 7.0),
        ([(b"retry-after", b"1.5")], 1.5),
        ([(b"retry-after", b"0")], 0.0),
        ([(b"retry-after", b"7"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"7"), (b"retry-after-ms", b"soon")], 7.0),
        ([(b"retry-after", formatdate(NOW + 30, usegmt=True).encode())], 30.0),
        ([(b"retry-after", formatdate(NOW - 30, usegmt=True).encode())], 0.0),
        ([(b"retry-after", b"999999999")], 86_400.0),
    ],
)
def test_what_an_answer_asks_for(
    headers: list[tuple[bytes, bytes]], expected: float | None
) -> None:
    """Seconds, a date or milliseconds, in any case of the name, at most a day."""
    assert retry_after_s(headers, NOW) == expected


@pytest.mark.parametrize("text", [b"", b"-1", b"nan", b"inf", b"1e9", b"soon", b"\xff", b"1" * 30])
def test_nonsense_is_nothing(text: bytes) -> None:
    """A provider can't make us wait by sending what is not a time."""
    assert retry_after_s([(b"retry-after", text)], NOW) is None
