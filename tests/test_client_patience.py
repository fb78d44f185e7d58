from __future__ import annotations

import pytest

from radgateway.client_patience import client_patience_s


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"x-stainless-read-timeout", b"600")], 600.0),
        ([(b"x-stainless-timeout", b"12.5"), (b"x-stainless-read-timeout", b"600")], 12.5),
        ([(b"x-stainless-read-timeout", b"600"), (b"x-stainless-timeout", b"12.5")], 12.5),
        ([(b"content-length", b"7"), (b"host", b"a"), (b"x-stainless-timeout", b"30")], 30.0),
        ([(b"x-envoy-expected-rq-timeout-ms", b"1500")], 1.5),
    ],
)
def test_the_least_a_client_names_counts(
    headers: list[tuple[bytes, bytes]], expected: float | None
) -> None:
    """Each of its clocks may end its waiting."""
    assert client_patience_s(headers) == expected


@pytest.mark.parametrize("text", [b"", b"0", b"-5", b"nan", b"inf", b"1e99", b"soon", b"9" * 40])
def test_a_hint_that_makes_no_sense_is_none(text: bytes) -> None:
    """A client's header is never a reason to fail its request."""
    assert client_patience_s([(b"x-stainless-timeout", text)]) is None
