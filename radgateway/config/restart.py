"""What of a configuration can't change in a running process, and why.

Declared here once: a reload that would change any of it is refused as a whole, and the reference
has the same table. Everything else changes while requests are served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NEEDS_RESTART: Final[dict[str, str]] = {
    "environment": "decides the defaults of everything else, and what is refused",
    "server.host": "the address is bound when the process starts",
    "server.port": "the address is bound when the process starts",
    "limits.lease_s": "what requests in progress hold in the shared storage ends by it",
    "storage.usage": "rows wait in memory and in the journal to be written there",
    "storage.journal": "rows wait there to be written",
    "storage.retention": "a sweep of the ledger goes by it from its beginning to its end",
    "storage.limits": "what callers have spent is counted there",
    "storage.breaker_hints": "its connection is made when the process starts",
    "telemetry.tracing.enabled": "OpenTelemetry's exporter is made when the process starts",
    "telemetry.tracing.exporter": "OpenTelemetry's exporter is made when the process starts",
    "telemetry.tracing.otlp_endpoint": "OpenTelemetry's exporter is made when the process starts",
    "chaos.allow": "breaking production on purpose is decided where it is deployed",
}
"""Paths, each with all that is below it."""


def needing_restart(paths: Iterable[str]) -> list[str]:
    """Those of some changed paths that a running process can't follow."""
    return [
        path
        for path in paths
        if any(path == known or path.startswith(f"{known}.") for known in NEEDS_RESTART)
    ]
