"""POST, GET and DELETE /v0/management/faults: breaking a provider of a running gateway.

`FaultSwitch` joins the decisions of `Arming` to the injectors, the clock of the event loop, the
audit log and the metrics; `FaultsEndpoint` is its door, behind an admin key. What is armed is
armed in the process that answered: each worker and each replica has a switch of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, Literal

import msgspec

from radgateway.asgi import Clock, Receive, Scope, Send, decline
from radgateway.body import ClientDisconnected, read_body
from radgateway.config.problems import nearest
from radgateway.errors import Refusal, answer
from radgateway.exchange import Exchange, exchange_of
from radgateway.operations.arming import (
    AbortCondition,
    Armed,
    Arming,
    ArmingOrder,
    ArmingRefused,
    Ended,
)
from radgateway.operations.json_endpoint import answer_json
from radgateway.operations.query_parameters import check_known, parameters_of
from radgateway.provider.faults import FaultInjector, Faults

_audit = logging.getLogger("radgateway.audit")
_BODY_MAX = 64 * 1024
_ALLOW = [(b"allow", b"GET, HEAD, POST, DELETE")]


class FaultSwitch:
    """The injectors of one gateway, by provider, and who may turn them on for how long.

    `healthy` says whether a provider takes requests at the moment; `on_armed(provider, armed)` is
    told of every change.
    """

    def __init__(
        self,
        injectors: Mapping[str, FaultInjector],
        *,
        healthy: Callable[[str], bool],
        on_armed: Callable[[str, bool], None] = lambda provider, armed: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._injectors = injectors
        self._tell = on_armed
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.arming = Arming(
            injectors,
            healthy=healthy,
            on_armed=self._armed,
            on_ended=self._ended,
            clock=clock,
        )

    def watching(
        self, then: Callable[[Exchange], None] | None = None
    ) -> Callable[[Exchange], None]:
        """What the end of each request is told to, for the abort condition; passes it on."""
        arming = self.arming

        def ended(exchange: Exchange) -> None:
            if arming.armed and not exchange.disconnected:
                failed = exchange.reported_status >= 500 or exchange.interrupted is not None
                arming.observe(failed=failed)
            if then is not None:
                then(exchange)

        return ended

    def arm(self, order: ArmingOrder, by: str) -> None:
        """Start, and see to it that it ends. Raises `ArmingRefused`."""
        self.arming.arm(order, by)
        self._schedule()

    async def aclose(self) -> None:
        """Disarm everything and put the timer away."""
        self.end("closed")

    def end(self, reason: Literal["reloaded", "closed"]) -> None:
        """The same, for one of these reasons."""
        self.arming.disarm(None, "", reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def view(self) -> dict[str, Any]:
        """What is armed here, and what was."""
        now = self._clock()
        return {
            "process": os.getpid(),
            "armed": [_shown(armed, now) for armed in self.arming.armed.values()],
            "ended": [
                {
                    "provider": ended.provider,
                    "reason": ended.reason,
                    "detail": ended.detail,
                    "by": ended.by or None,
                    "ago_s": round(now - ended.at, 3),
                }
                for ended in reversed(self.arming.ended)
            ],
        }

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self.arming.due_s()
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_later(due_s, self._check)

    def _check(self) -> None:
        self.arming.check()
        self._schedule()

    def _armed(self, armed: Armed) -> None:
        order = armed.order
        self._injectors[order.provider].arm(order.faults)
        self._tell(order.provider, True)
        # At WARNING, which every environment logs: an audit that can be turned off is none.
        _audit.warning(
            "radgateway.faults.armed",
            extra={
                "provider": order.provider,
                "by": armed.by,
                "for_s": order.for_s,
                "faults": _set_of(order.faults),
                "abort": asdict(order.abort),
            },
        )

    def _ended(self, ended: Ended) -> None:
        self._injectors[ended.provider].disarm()
        self._tell(ended.provider, False)
        _audit.warning(
            f"radgateway.faults.{_EVENTS.get(ended.reason, 'aborted')}",
            extra={
                "provider": ended.provider,
                "by": ended.by or None,
                "reason": ended.reason,
                "detail": ended.detail,
            },
        )


_EVENTS = dict.fromkeys(("disarmed", "reloaded", "closed"), "disarmed") | {"expired": "expired"}


def _set_of(faults: Faults) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    untouched = Faults()
    return {
        field.name: getattr(faults, field.name)
        for field in fields(faults)
        if getattr(faults, field.name) != getattr(untouched, field.name)
    }


def _shown(armed: Armed, now: float) -> dict[str, Any]:
    requests, failures = armed.outcomes.totals()
    order = armed.order
    return {
        "provider": order.provider,
        "faults": _set_of(order.faults),
        "by": armed.by,
        "for_s": order.for_s,
        "expires_in_s": round(max(0.0, armed.until - now), 3),
        "abort": asdict(order.abort),
        "requests": requests,
        "failures": failures,
    }


class FaultsEndpoint:
    """GET shows what is armed, POST arms, DELETE disarms one provider (`?provider=`) or all.

    A `switch` of None is a gateway whose configuration does not allow it: POST answers 403.
    """

    def __init__(self, switch: FaultSwitch | None) -> None:
        self._switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        try:
            view = await self._act(scope, receive)
        except ClientDisconnected:
            return
        except Refusal as refusal:
            await answer(scope, send, refusal)
            return
        await answer_json(scope, send, 200, view)

    async def _act(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        method, switch = scope["method"], self._switch
        if method not in ("GET", "HEAD", "POST", "DELETE"):
            message = "This path takes GET, POST and DELETE."
            raise Refusal("method_not_allowed", message, headers=list(_ALLOW))
        query = parameters_of(scope)
        check_known(query, ("provider",) if method == "DELETE" else ())
        if switch is None:
            if method in ("GET", "HEAD"):
                return {"allowed": False, "armed": [], "ended": []}
            raise Refusal(
                "faults_not_allowed",
                "Faults are armed in production only where the configuration says "
                "chaos: {allow: true}.",
            )
        by = _who(scope)
        try:
            if method == "POST":
                body = await read_body(scope, receive, limit_bytes=_BODY_MAX)
                switch.arm(order_of(body), by)
            elif method == "DELETE":
                switch.arming.disarm(query.get("provider"), by)
        except (ValueError, ArmingRefused) as error:
            raise Refusal("invalid_request", str(error)) from None
        return {"allowed": True, **switch.view()}


def _who(scope: Scope) -> str:
    exchange = exchange_of(scope)
    principal = exchange.principal if exchange is not None else None
    return principal.name if principal is not None else "unknown"


def order_of(body: bytes) -> ArmingOrder:
    """The order in a POST's body. Raises `ValueError`, which names the field.

    A key that is not known is an error: `latency` for `latency_ms` would arm nothing, silently.
    """
    try:
        given = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"The body is not JSON: {error}.") from None
    values = _known(ArmingOrder, given, "the order")
    for name in ("provider", "faults", "for_s"):
        if name not in values:
            raise ValueError(f"{name} is missing; an order has provider, faults and for_s.")
    _known(Faults, values["faults"], "faults")
    _known(AbortCondition, values.get("abort", {}), "abort")
    try:
        return msgspec.convert(values, ArmingOrder)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}.") from None


def _known(section: type, given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be a JSON object.")
    known = [field.name for field in fields(section)]
    for name in given:
        if name not in known:
            raise ValueError(f"{where} has no {name!r}{nearest(name, known)}")
    return given
