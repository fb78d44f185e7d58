"""Statements are shown where a developer wants to see them, and cost nothing elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from usage_rows import newest

from radgateway.chaos.postgres import postgres_server
from radgateway.exchange import Exchange
from radgateway.usage.ledger import SQLiteLedger
from radgateway.usage.postgres_ledger import PostgresLedger
from radgateway.usage.row import row_of
from radgateway.usage.sql_log import LOGGER

ROWS = [row_of(Exchange("r1", "POST"))]


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A server's address."""
    with postgres_server() as server:
        yield server.dsn


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All statements, one a line."""
    records = [record for record in caplog.records if record.name == LOGGER]
    assert {record.getMessage() for record in records} <= {"radgateway.sql.statement"}
    return "\n".join(vars(record)["statement"] for record in records)


@pytest.mark.parametrize("wanted", [True, False])
def test_sqlites_statements(wanted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From the first one of a connection on."""
    caplog.set_level(logging.DEBUG if wanted else logging.INFO, LOGGER)
    with closing(SQLiteLedger(tmp_path / "usage.db")) as ledger:
        ledger.write(ROWS)
        assert newest(ledger, 1) == ROWS
    for statement in ("INSERT INTO radgateway_requests", "SELECT", "COMMIT"):
        assert (statement in said(caplog)) is wanted


@pytest.mark.servers
@pytest.mark.parametrize("wanted", [True, False])
def test_postgresqls_statements(wanted: bool, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without their values."""
    caplog.set_level(logging.DEBUG if wanted else logging.INFO, LOGGER)
    with closing(PostgresLedger(dsn)) as ledger:
        ledger.write(ROWS)
        assert ROWS[0] in newest(ledger, 10)
    for statement in ("INSERT INTO radgateway_requests", "SELECT", "COMMIT"):
        assert (statement in said(caplog)) is wanted
    assert ROWS[0].usage_id not in said(caplog)
