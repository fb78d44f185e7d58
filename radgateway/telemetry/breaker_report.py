"""What a provider's breaker does, as log lines and metrics. Gauges are read from the policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.circuit.standing import Note, Reason
from radgateway.telemetry.instruments import Instruments

_log = logging.getLogger("radgateway.breaker")

_LEVELS: Final[dict[Note, int]] = {
    "held": logging.WARNING,
    "let_go": logging.WARNING,
    "mode": logging.WARNING,
    "resting": logging.INFO,  # a quota that is full each second is not news each second
}


class BreakerReport:
    """Makes one provider's policy and reports on it.

    `on_trip(name, open_s)` hears of a closed circuit that has opened by its own judgement.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        instruments: Instruments,
        on_trip: Callable[[str, float], None] | None = None,
    ) -> None:
        self._name = name
        self._instruments = instruments
        self._on_trip = on_trip
        self.policy = BreakerPolicy(
            config,
            on_change=self._changed,
            on_note=self._noted,
            on_refused=self._refused,
            name=name,
        )

    def _changed(self, old: str, new: str) -> None:
        policy = self.policy
        self._show()
        fields = {"provider": self._name, "was": old}
        if policy.mode != "auto":
            fields["mode"] = policy.mode
        if new == "open":
            fields["last_failure"] = policy.snapshot().last_failure or "none"
        _log.warning("radgateway.breaker.%s", new, extra=fields)
        tripped = old == "closed" and new == "open" and policy.mode == "auto"
        if tripped and self._on_trip is not None:
            self._on_trip(self._name, policy.retry_after_s())

    def _noted(self, note: Note) -> None:
        policy = self.policy
        self._show()
        fields: dict[str, object] = {"provider": self._name}
        if note == "mode":
            fields["mode"] = policy.mode
        elif note == "resting":
            fields["seconds"] = round(policy.retry_after_s(), 1)
        elif note == "held":
            fields["reason"] = "the last provider of its model that takes calls"
        _log.log(_LEVELS[note], "radgateway.breaker.%s", note, extra=fields)

    def _refused(self, reason: Reason) -> None:
        if self.policy.mode == "metrics_only":
            self._instruments.breaker_would_refuse(self._name).inc()
        else:
            self._instruments.breaker_refused(self._name, reason).inc()

    def _show(self) -> None:
        policy = self.policy
        self._instruments.breaker_changed(
            self._name, policy.state, mode=policy.mode, held=policy.held
        )
