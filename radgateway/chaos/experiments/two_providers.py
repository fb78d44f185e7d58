"""What the experiments with two providers share: the gateway, and whom to break."""

from __future__ import annotations

from typing import Any

from radgateway.chaos.experiment import CannotRun
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.lab import Lab
from radgateway.chaos.load import Figures

FIRST, SECOND = "first", "second"
MARGIN_S = 0.3
"""Seconds that faults stay armed after the phase that is judged: a request that is due at its
last moment arrives a little later, and should find what those before it found."""


def two_providers(lab: Lab, *, breaker: bool = True, **more: Any) -> dict[str, Any]:
    """A gateway that prefers one mock provider and has another to fall back on."""
    provider: dict[str, Any] = {
        "kind": "mock",
        # The strategy: failover triggers when a provider takes longer than 5 s.
        "timeouts": {"first_byte_s": lab.s(5.0)},
        "breaker": None,
    }
    if breaker:
        provider["breaker"] = {
            "window_s": max(1, round(lab.s(10))),
            "min_calls": 10,
            "open_s": lab.s(5.0, 0.2),
        }
    return {
        "providers": {FIRST: provider, SECOND: provider},
        "models": {
            "m": {
                "candidates": [
                    {"provider": FIRST, "model": "m", "weight": 80},
                    {"provider": SECOND, "model": "m", "weight": 20},
                ]
            }
        },
        **more,
    }


def whom_to_break(lab: Lab, before: Figures) -> str:
    """The provider that serves, or the one that was named. Raises `CannotRun`."""
    live = lab.options.live
    if live is not None and live.provider is not None:
        return live.provider
    if not before.providers:
        raise CannotRun("no answer says who gave it (x-radgateway-provider); name a --provider")
    return max(before.providers, key=lambda name: before.providers[name])


async def wait_until_closed(lab: Lab, api: GatewayAPI, provider: str) -> None:
    """Expect a provider's breaker to close once it is well; load is the caller's to keep up."""

    async def closed() -> bool:
        return await api.circuit(provider) in ("closed", None)

    limit_s = lab.s(lab.limit("recovery_s"), 5.0)
    took_s = await lab.until(closed, limit_s, lab.s(0.5, 0.05))
    lab.expect(
        "seconds until its breaker was closed again",
        took_s if took_s is not None else float("inf"),
        "<=",
        limit_s,
        " s",
    )
