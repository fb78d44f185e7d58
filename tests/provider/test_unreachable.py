from __future__ import annotations

from radgateway.provider.unreachable import QUIET_S, UnreachableNotice


def test_each_reason_is_said_once_in_a_while() -> None:
    """At once when it is new, then not before a minute, with the number left unsaid."""
    said: list[tuple[str, int]] = []
    now = 0.0
    notice = UnreachableNotice(lambda reason, unsaid: said.append((reason, unsaid)), lambda: now)
    for _ in range(1000):
        notice.failed("refused")
    assert said == [("refused", 0)]
    notice.failed("the certificate has expired")
    assert said[1:] == [("the certificate has expired", 999)]
    now = QUIET_S
    notice.failed("the certificate has expired")
    assert said[2:] == [("the certificate has expired", 0)]
