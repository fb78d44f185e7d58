"""SecretsReport: says what becomes of secrets, each thing once while it lasts. Never a secret."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

_log = logging.getLogger("radgateway.secrets")
_audit = logging.getLogger("radgateway.audit")


class SecretsReport:
    """Writes log lines, and knows what it has said."""

    def __init__(self) -> None:
        self._failing = False
        self._expired = False
        self._faults: frozenset[str] = frozenset()
        self._waiting: Sequence[str] = ()
        self._refused = ""
        self._unsealed = ""

    def failed(self, reason: str) -> None:
        """The store could not be read."""
        if not self._failing:
            _log.warning("radgateway.secrets.failed: %s", reason)
        self._failing = True

    def answered(self, unsealed: str) -> None:
        """The store was read; `unsealed` is why that could not be kept on disk."""
        if self._failing:
            _log.warning("radgateway.secrets.recovered")
        if unsealed and unsealed != self._unsealed:
            _log.warning("radgateway.secrets.unsealed: %s", unsealed)
        self._failing = self._expired = False
        self._unsealed = unsealed

    def expired(self, age_s: float) -> None:
        """What is known of the store is too old to serve."""
        if not self._expired:
            _log.error("radgateway.secrets.expired", extra={"age_s": round(age_s)})
        self._expired = True

    def unreadable(self, faults: Mapping[str, str]) -> None:
        """References that give nothing now, and why."""
        for reference in sorted(faults.keys() - self._faults):
            extra = {"reference": reference}
            _log.warning("radgateway.secrets.unreadable: %s", faults[reference], extra=extra)
        for reference in sorted(self._faults - faults.keys()):
            _log.warning("radgateway.secrets.readable", extra={"reference": reference})
        self._faults = frozenset(faults)

    def waiting(self, where: Sequence[str]) -> None:
        """What has changed and can't come into force in a running process."""
        if where and where != self._waiting:
            _log.warning("radgateway.secrets.needs_restart", extra={"changed": list(where)})
        self._waiting = where

    def refused(self, changed: Sequence[str], reason: str) -> None:
        """Changes that could not be put in force."""
        if reason != self._refused:
            _audit.warning(
                "radgateway.secrets.refused", extra={"changed": list(changed), "reason": reason}
            )
        self._refused = reason

    def rotated(self, changed: Sequence[str]) -> None:
        """Changes that are in force."""
        _audit.warning("radgateway.secrets.rotated", extra={"changed": list(changed)})
        self._refused = ""
