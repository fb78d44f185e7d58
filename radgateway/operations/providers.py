"""What each provider is up to, put together from its circuit, bulkhead, attempts and probes.

One source for the management API, for readiness and for the metrics, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from radgateway.asgi import ASGIApp
from radgateway.errors import Refusal
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.circuit.standing import Mode
from radgateway.provider.health import Health, ProviderHealth
from radgateway.provider.probe import ProbeResult


class BreakerOrder(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a change to a breaker: one of the two."""

    mode: Mode | None = None
    action: Literal["reset"] | None = None


class ProviderStatus:
    """One provider: `app` is its stack, `health` what attempts came to, `probes` all results."""

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        health: ProviderHealth,
        probes: Mapping[str, ProbeResult],
        *,
        kind: str,
        base_url: str | None,
    ) -> None:
        self.name = name
        self.health = health
        self._kind = kind
        self._base_url = base_url
        self._probes = probes
        self._breaker: CircuitBreaker | None = None
        self._bulkhead: Bulkhead | None = None
        for layer in _layers(app):
            if isinstance(layer, CircuitBreaker):
                self._breaker = layer
            elif isinstance(layer, Bulkhead):
                self._bulkhead = layer

    @property
    def controls(self) -> BreakerPolicy | None:
        """The breaker's policy, or None where there is none to give orders to."""
        return self._breaker.policy if self._breaker is not None else None

    @property
    def state(self) -> str:
        """One of the states of a provider that `degraded.MODES` declares."""
        policy = self.controls
        if policy is not None:
            if policy.mode == "isolated":
                return "isolated"
            if policy.mode == "auto" and policy.state != "closed":
                return policy.state
            if policy.blocked_by() == "resting" and policy.mode == "auto":
                return "resting"
        if self._bulkhead is not None and not self._bulkhead.available():
            return "full"
        if self.health.failing or (policy is not None and policy.held):
            return "failing"
        probe = self._probes.get(self.name)
        return "unreachable" if probe is not None and not probe.ok else "ok"

    def order(self, order: BreakerOrder) -> None:
        """Carry out a change to the breaker. Raises `Refusal` where that can't be done."""
        if (order.mode is None) == (order.action is None):
            raise Refusal("invalid_request", 'The body must have either "mode" or "action".')
        controls = self.controls
        if controls is None:
            raise Refusal(
                "invalid_request", f"The provider {self.name} has no circuit breaker to set."
            )
        if order.mode is not None:
            controls.set_mode(order.mode)
        else:
            controls.reset()

    def show(self) -> dict[str, Any]:
        """The provider as the management API shows it."""
        breaker, bulkhead = self._breaker, self._bulkhead
        health = self.health.read()
        closed_for_s = breaker.retry_after_s() if breaker is not None else None
        asked_for_s = health.retry_after_s
        waits = [wait_s for wait_s in (closed_for_s, asked_for_s) if wait_s is not None]
        return {
            "name": self.name,
            "kind": self._kind,
            "baseUrl": self._base_url,
            "state": self.state,
            "circuitState": breaker.state if breaker is not None else None,
            "circuitMode": breaker.policy.mode if breaker is not None else None,
            "circuit": breaker.policy.snapshot() if breaker is not None else None,
            "retryAfterS": round(max(waits), 3) if waits else None,
            "inFlight": bulkhead.slots.in_use if bulkhead is not None else None,
            "maxConcurrency": _most(bulkhead) if bulkhead is not None else None,
            "concurrencyLimit": bulkhead.slots.limit if bulkhead is not None else None,
            **_shown(health),
            "probe": _shown_probe(self._probes.get(self.name)),
        }


def _layers(app: Any) -> Iterator[Any]:
    while app is not None:
        yield app
        app = getattr(app, "app", None)


def _most(bulkhead: Bulkhead) -> int:
    """The places there are at most, however few an adaptive limit leaves of them now."""
    return bulkhead.adaptive.ceiling if bulkhead.adaptive is not None else bulkhead.slots.limit


def _shown(health: Health) -> dict[str, Any]:
    error = health.last_error
    return {
        "attempts": health.attempts,
        "failures": health.failures,
        "errorRatio": _rounded(health.error_ratio, 4),
        "firstByteMs": {
            "ewma": _milliseconds(health.first_byte_ewma_s),
            "p50": _milliseconds(health.first_byte_p50_s),
            "p95": _milliseconds(health.first_byte_p95_s),
        },
        "lastError": (
            {"reason": error.reason, "status": error.status, "at": _timestamp(error.at)}
            if error is not None
            else None
        ),
    }


def _shown_probe(result: ProbeResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "ok": result.ok,
        "reason": result.reason,
        "durationMs": _milliseconds(result.duration_s),
        "at": _timestamp(result.at),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _timestamp(unix_s: float) -> str:
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
