"""Where usage rows go: from the requests through a journal to a ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from radgateway.config.schema import GatewayConfig
from radgateway.telemetry.instruments import Instruments
from radgateway.usage import journal
from radgateway.usage.journal import Journal
from radgateway.usage.ledger import MemoryLedger, SQLiteLedger
from radgateway.usage.writer import UsageWriter

if TYPE_CHECKING:
    from radgateway.usage.postgres_ledger import PostgresLedger

_log = logging.getLogger("radgateway.usage")


def usage_writer(config: GatewayConfig, instruments: Instruments) -> UsageWriter:
    """The writer of the configured ledger, with its journal."""
    return UsageWriter(
        ledger_of(config),
        journal=_journal(config),
        retention=config.storage.retention,
        on_lost=instruments.usage_records_lost.inc,
    )


def connections_shown(usage: UsageWriter, instruments: Instruments) -> Callable[[float], object]:
    """Keeps the gauges of the ledger's connections."""

    def show(_: float) -> None:
        connections = usage.connections()
        instruments.db_connections("in_use").set(connections.in_use)
        instruments.db_connections("idle").set(connections.idle)
        instruments.db_connections_max.set(connections.most)

    return show


def ledger_of(config: GatewayConfig) -> MemoryLedger | SQLiteLedger | PostgresLedger:
    """The configured ledger."""
    usage = config.storage.usage
    if usage.scheme == "memory":
        return MemoryLedger()
    if usage.scheme == "sqlite":
        return SQLiteLedger(usage.path)
    from radgateway.usage.postgres_ledger import PostgresLedger  # noqa: PLC0415 - an extra

    return PostgresLedger(usage.reveal())


def _journal(config: GatewayConfig) -> Journal | None:
    usage, folder = config.storage.usage, config.storage.journal
    if folder is None or usage.scheme == "memory" or not journal.AVAILABLE:
        return None
    if folder == "auto":
        folder = f"{usage.path}.journal" if usage.scheme == "sqlite" else "radgateway.journal"
    return Journal(Path(folder), on_change=_journal_changed)


def _journal_changed(error: OSError | None) -> None:
    if error is None:
        _log.warning("radgateway.usage.journal_recovered")
    else:
        _log.warning("radgateway.usage.journal_unavailable: %s", error)
