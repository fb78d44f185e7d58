"""FaultInjector: break a provider on purpose, to see that the layers around it hold.

A. Basiri et al., *Chaos Engineering* (IEEE Software, 2016). What it does looks to the layers
outside exactly as if the provider had done it, so it stands innermost, right before the provider,
and only where it is configured or may be armed. A spoiled answer carries `x-radgateway-fault`.

`Faults` says what to break and `FaultPlan` decides the fate of each request; what happens to a
response that has begun is in `spoiled_response.py`. Answers 400 `invalid_request` where a request
asks for a fault that does not exist.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from radgateway.asgi import ASGIApp, Headers, Receive, Scope, Send, request_header, respond
from radgateway.errors import Refusal, answer, dialect_of
from radgateway.exchange import attempt_of, exchange_of
from radgateway.provider.spoiled_response import FAULT_HEADER, pause, spoiled

FaultKind = Literal["error", "reset", "break", "truncate", "stall", "trickle"]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
"""In the order in which they are drawn."""

OnFault = Callable[[str], None]
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What to break, how often, and for whom.

    A request suffers one fault at most, besides the latency: each ratio is the share of the
    requests that those above it have spared.
    """

    latency_ms: float = 0.0
    """Milliseconds to wait before a request reaches the provider, 0 to one day."""
    latency_max_ms: float | None = None
    """With it, each wait is drawn evenly between `latency_ms` and this; None is a fixed wait."""
    latency_ratio: float = 1.0
    """Share of requests that wait, 0 to 1."""
    error_ratio: float = 0.0
    """Share of requests answered with `error_status` in the provider's place, 0 to 1."""
    error_status: int = 503
    """Status of an injected error, 400 to 599."""
    reset_ratio: float = 0.0
    """Share of requests whose connection is lost before the first byte, 0 to 1."""
    break_ratio: float = 0.0
    """Share of requests whose connection is lost after the response has begun, 0 to 1."""
    truncate_ratio: float = 0.0
    """Share of requests whose response ends properly, and too early, 0 to 1."""
    stall_ratio: float = 0.0
    """Share of requests whose response falls silent for `stall_s` after it has begun, 0 to 1."""
    stall_s: float = 60.0
    """Seconds of that silence, over 0 to one day: longer than the usual `idle_s`."""
    trickle_ratio: float = 0.0
    """Share of requests whose response comes at `trickle_bytes_per_s`, 0 to 1."""
    trickle_bytes_per_s: float = 100.0
    """Bytes a second, at least 1: about a tenth of what a slow model sends."""
    after_events: int = 1
    """Events of a stream that pass before it breaks, ends or stalls, 0 or more. Any other body
    suffers in the middle of its first chunk."""
    header: str | None = None
    """A request header that asks for a fault, such as `x-chaos: stall=5`; it is not passed on to
    the provider. None ignores all headers, since callers should not be able to break things."""
    models: tuple[str, ...] = ()
    """Only requests for these, by the caller's or the provider's name; none means for all."""

    def __post_init__(self) -> None:
        for kind in ("latency", *FAULT_KINDS):
            _within(self, f"{kind}_ratio", 0, 1)
        _within(self, "latency_ms", 0, _DAY_S * 1000)
        _within(self, "latency_max_ms", self.latency_ms, _DAY_S * 1000)
        _within(self, "error_status", 400, 599)
        _within(self, "stall_s", 0.001, _DAY_S)
        _within(self, "trickle_bytes_per_s", 1, 1e9)
        _within(self, "after_events", 0, 1_000_000)
        if self.header is not None and not _HEADER_NAME.fullmatch(self.header):
            raise ValueError(f"header must be the name of a header, not {self.header!r}")


def _within(faults: Faults, name: str, low: float, high: float) -> None:
    value = getattr(faults, name)
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What happens to one request."""

    latency_s: float = 0.0
    """Seconds to wait first."""
    kind: FaultKind | None = None
    faults: Faults
    """The figures that belong to the kind: status, silence, rate."""

    @property
    def name(self) -> str:
        """The kind, or `latency` where the wait is all there is."""
        return self.kind or "latency"


class FaultPlan:
    """Decides the fate of each request; a seeded `rng` makes it repeatable."""

    def __init__(self, faults: Faults, rng: random.Random | None = None) -> None:
        self.faults = faults
        self._rng = rng or random.Random()
        ratios = ((kind, float(getattr(faults, f"{kind}_ratio"))) for kind in FAULT_KINDS)
        self._ratios = tuple((kind, ratio) for kind, ratio in ratios if ratio)

    def fate(self, models: Collection[str] = (), asked: str | None = None) -> Fate | None:
        """What happens to a request for a model known by these names; None where nothing does.

        `asked` is what its header says. Raises `ValueError` where that is no fault.
        """
        faults = self.faults
        if faults.models and not any(model in faults.models for model in models):
            return None
        if asked is not None:
            return asked_for(asked, faults)
        rng = self._rng
        kind = next((kind for kind, ratio in self._ratios if rng.random() < ratio), None)
        latency_s = 0.0
        if faults.latency_ms or faults.latency_max_ms:
            low, high = faults.latency_ms, faults.latency_max_ms
            if faults.latency_ratio >= 1 or rng.random() < faults.latency_ratio:
                latency_s = (low if high is None else rng.uniform(low, high)) / 1000
        if kind is None and not latency_s:
            return None
        return Fate(latency_s=latency_s, kind=kind, faults=faults)


_FIGURE_OF: Final = {
    "error": ("error_status", int),
    "stall": ("stall_s", float),
    "trickle": ("trickle_bytes_per_s", float),
}


def asked_for(text: str, faults: Faults) -> Fate:
    """The fate a header asks for: `error`, `error=529`, `latency=250, break`, `stall=5` …

    The figure is a status, milliseconds of latency, seconds of silence, or bytes a second; without
    one, that of `faults` counts. Raises `ValueError`.
    """
    fate = Fate(faults=faults)
    for part in text.split(","):
        name, _, figure = (piece.strip() for piece in part.partition("="))
        if name == "latency":
            wait_ms = float(figure) if figure else faults.latency_ms
            if not 0 <= wait_ms <= _DAY_S * 1000:
                raise ValueError(f"latency must be milliseconds of one day at most, not {figure}")
            fate = replace(fate, latency_s=wait_ms / 1000)
            continue
        if name not in FAULT_KINDS:
            raise ValueError(f"{name!r} is no fault; known are latency, {', '.join(FAULT_KINDS)}")
        fate = replace(fate, kind=name)
        if figure:
            if name not in _FIGURE_OF:
                raise ValueError(f"{name} takes no figure")
            setting, number = _FIGURE_OF[name]
            value = number(figure)
            if math.isnan(value):
                raise ValueError(f"{setting} must be a number, not {figure}")
            fate = replace(fate, faults=replace(faults, **{setting: value}))
    return fate


class FaultInjector:
    """Delays, fails, cuts, stalls and slows requests as its plan says; without one, none.

    `on_fault` gets the name of each fault, `latency` among them, as it strikes.
    """

    def __init__(
        self,
        app: ASGIApp,
        faults: Faults | None = None,
        rng: random.Random | None = None,
        *,
        on_fault: OnFault | None = None,
    ) -> None:
        self.app = app
        self._rng = rng
        self._configured = FaultPlan(faults, rng) if faults is not None else None
        self._plan = self._configured
        self._on_fault = on_fault

    @property
    def faults(self) -> Faults | None:
        """What is injected at the moment."""
        return self._plan.faults if self._plan is not None else None

    def arm(self, faults: Faults) -> None:
        """Inject these from now on, instead of what is configured."""
        self._plan = FaultPlan(faults, self._rng)

    def disarm(self) -> None:
        """Go back to what is configured, which usually is nothing."""
        self._plan = self._configured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or spoil it."""
        plan = self._plan
        if plan is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked: str | None = None
        if plan.faults.header is not None:
            scope, asked = _without_header(scope, plan.faults.header)
        try:
            fate = plan.fate(_models(scope), asked)
        except ValueError as error:
            await answer(scope, send, Refusal("invalid_request", f"The fault asked for: {error}."))
            return
        if fate is None:
            await self.app(scope, receive, send)
            return
        if self._on_fault is not None:
            self._on_fault(fate.name)
        await self._inject(fate, scope, receive, send)

    async def _inject(self, fate: Fate, scope: Scope, receive: Receive, send: Send) -> None:
        attempt = attempt_of(scope)
        if attempt is not None:
            attempt.sent = True  # as if the provider had done it: that is what it is for
        if fate.latency_s:
            await pause(scope, fate.latency_s)
        kind = fate.kind
        if kind is None:
            await self.app(scope, receive, send)
        elif kind == "error":
            await _fail(scope, send, fate.faults.error_status)
        elif kind == "reset":
            lost = "An injected fault lost the connection."
            mark: Headers = [(FAULT_HEADER, b"reset")]
            await answer(scope, send, Refusal("upstream_connection_lost", lost, headers=mark))
        else:
            await spoiled(self.app, scope, receive, send, kind=kind, faults=fate.faults)


async def _fail(scope: Scope, send: Send, status: int) -> None:
    exchange = exchange_of(scope)
    refusal = Refusal("upstream_error", "An injected fault.")
    body = dialect_of(scope).error_body(refusal, exchange.request_id if exchange else "")
    headers = [(b"content-type", b"application/json"), (FAULT_HEADER, b"error")]
    await respond(send, status, headers, body)


def _models(scope: Scope) -> tuple[str, ...]:
    """The names of the model a request is for: the caller's and the provider's, where known."""
    exchange, attempt = exchange_of(scope), attempt_of(scope)
    caller = exchange.model if exchange is not None else None
    names = (caller, attempt.model if attempt is not None else None)
    return tuple(name for name in names if name)


def _without_header(scope: Scope, name: str) -> tuple[Scope, str | None]:
    """A request without one of its headers, and what that said."""
    wanted = name.lower().encode("ascii")
    value = request_header(scope, wanted)
    if value is None:
        return scope, None
    headers = [pair for pair in scope["headers"] if pair[0] != wanted]
    return {**scope, "headers": headers}, value.decode("latin-1")
