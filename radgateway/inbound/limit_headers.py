"""What a caller is told of its limits: the IETF's fields, and those its own clients read.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11;
`x-ratelimit-*` are OpenAI's and `anthropic-ratelimit-*` Anthropic's. Of each kind of limit the
tightest is told, since that is the one a client has to mind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from radgateway.asgi import Headers
from radgateway.errors import Refusal
from radgateway.inbound.limit_ledger import Standing, tightest
from radgateway.inbound.limit_set import (
    CONCURRENCY,
    INPUT_TOKENS,
    KINDS,
    MONEY,
    NANO,
    OUTPUT_TOKENS,
    REQUESTS,
    TOKENS,
)

_OPENAI = {
    kind: tuple(b"x-ratelimit-%b-%b" % (part, name) for part in (b"limit", b"remaining", b"reset"))
    for kind, name in ((REQUESTS, b"requests"), (TOKENS, b"tokens"))
}
_ANTHROPIC = {
    kind: tuple(
        b"anthropic-ratelimit-%b-%b" % (name, part) for part in (b"limit", b"remaining", b"reset")
    )
    for kind, name in (
        (REQUESTS, b"requests"),
        (TOKENS, b"tokens"),
        (INPUT_TOKENS, b"input-tokens"),
        (OUTPUT_TOKENS, b"output-tokens"),
    )
}
_LIMIT, _REMAINING, _RESET = _OPENAI[REQUESTS]


def told_of_one(standing: Standing, dialect: str) -> Headers:
    """The headers of the common case: one limit of requests, which allows this one."""
    if dialect in ("anthropic-messages", "gemini"):
        return told([standing], dialect)
    limit, left, reset_s = standing.limit, standing.left - 1, standing.reset_s
    return [
        (_LIMIT, limit.amount_text),
        (_REMAINING, b"%d" % left),
        (_RESET, duration(reset_s)),
        (b"ratelimit-policy", limit.policy),
        (b"ratelimit", b'"requests";r=%d;t=%d' % (left, math.ceil(reset_s))),
    ]


def told(
    standings: Sequence[Standing],
    dialect: str,
    *,
    refused: Standing | None = None,
    policy: bytes | None = None,
    unix_s: float | None = None,
) -> Headers:
    """Where the caller stands once this request is counted, or refused.

    `dialect` is the name of the caller's, or empty where nothing tells it. Limits that only report
    are not told. `policy` is `Plan.policy`: where it is given, all standings are told. `unix_s` is
    now, for the times Anthropic's clients read.
    """
    shown = _shown(standings, refused) if policy is None else standings
    if not shown:
        return []
    own = _ANTHROPIC if dialect == "anthropic-messages" else _OPENAI
    if dialect == "gemini":
        own = {}
    headers: Headers = []
    items: list[bytes] = []
    for standing in shown:
        kind = standing.limit.kind
        left = _left(standing, charged=refused is None)
        # On a refusal `t` is the moment that Retry-After names.
        after_s = standing.reset_s if standing.allowed else standing.wait_s
        wait = b"" if kind == CONCURRENCY else b";t=%d" % math.ceil(after_s)
        items.append(b"%b%d%b" % (standing.limit.item, left, wait))
        names = own.get(kind)
        if names is not None:
            reset = (
                _moment(standing.reset_s, unix_s)
                if own is _ANTHROPIC
                else duration(standing.reset_s)
            )
            headers += zip(names, (standing.limit.amount_text, b"%d" % left, reset), strict=True)
    if policy is None:
        policy = b", ".join([s.limit.policy for s in shown])
    headers.append((b"ratelimit-policy", policy))
    headers.append((b"ratelimit", b", ".join(items)))
    return headers


def refusal_of(standings: Sequence[Standing], refused: Standing, dialect: str) -> Refusal:
    """The answer to a request that a limit refuses."""
    # A hair more than the limit's own arithmetic, so that who obeys is let in.
    wait_s = refused.wait_s + 0.001
    if refused.limit.period is not None:
        return Refusal(
            "budget_exceeded",
            f"The budget of {refused.limit.text} does not allow this request; "
            f"it starts over in {math.ceil(wait_s)} s.",
            retry_after_s=wait_s,
            headers=told(standings, dialect, refused=refused),
        )
    return Refusal(
        "rate_limited",
        f"The limit of {refused.limit.text} is reached; retry in {math.ceil(wait_s)} s.",
        retry_after_s=wait_s,
        headers=told(standings, dialect, refused=refused),
    )


def duration(seconds: float) -> bytes:
    """Seconds as Go writes durations (`12ms`, `1m30s`), as OpenAI's reset headers do."""
    if seconds < 1:
        return b"%dms" % max(0, math.ceil(seconds * 1000))
    whole = math.ceil(seconds)
    if whole < 60:
        return b"%ds" % whole
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return b"%dm%ds" % (minutes, rest)
    return b"%dh%dm%ds" % (*divmod(minutes, 60), rest)


def _shown(standings: Sequence[Standing], refused: Standing | None) -> list[Standing]:
    """The tightest standing of each kind, in the order of the kinds; the refusing one goes first
    within its own."""
    enforced = [s for s in standings if not s.limit.shadow]
    if len(enforced) < 2:
        return enforced
    shown = []
    for kind in range(len(KINDS)):
        of_kind = [s for s in enforced if s.limit.kind == kind]
        if refused is not None and refused.limit.kind == kind:
            shown.append(refused)
        elif of_kind:
            shown.append(tightest(of_kind))
    return shown


def _left(standing: Standing, *, charged: bool) -> int:
    left = standing.left - standing.cost if charged else standing.left
    if standing.limit.kind == MONEY:
        left = left * 100 // NANO
    return max(0, left)


def _moment(seconds: float, unix_s: float | None) -> bytes:
    """A time from now as RFC 3339 writes it, rounded up to whole seconds."""
    at = math.ceil((time.time() if unix_s is None else unix_s) + seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)).encode()
