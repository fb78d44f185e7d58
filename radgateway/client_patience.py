"""How long a client says it will wait, so that nothing is done for one that has gone.

The official SDKs of OpenAI and Anthropic send their read timeout with every request, Envoy and
Istio the time left on theirs. A hint that can't be read is no hint.
"""

from __future__ import annotations

from collections.abc import Iterable

_UNIT_S = {
    b"x-stainless-timeout": 1.0,
    b"x-stainless-read-timeout": 1.0,
    b"x-envoy-expected-rq-timeout-ms": 0.001,
}
_LONGEST_S = 86_400.0


def client_patience_s(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Seconds the client waits for an answer to begin, the least it names; None where it is silent.

    `headers` have lower-case names, as ASGI servers send them.
    """
    least: float | None = None
    for name, text in headers:
        unit_s = _UNIT_S.get(name)
        if unit_s is None or len(text) > 18:
            continue
        try:
            seconds = float(text) * unit_s
        except ValueError:
            continue
        if 0 < seconds <= _LONGEST_S and (least is None or seconds < least):
            least = seconds
    return least
