"""One PostgreSQL server for all tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from radgateway.chaos.postgres import PostgresServer, postgres_server
from radgateway.usage.migrations import VERSION_TABLE
from radgateway.usage.tables import METADATA


@pytest.fixture(scope="session")
def running() -> Iterator[PostgresServer]:
    """The server. Where there is none to start, tests that need it fail."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def server(running: PostgresServer) -> PostgresServer:
    """The server, without tables."""
    with psycopg.connect(running.dsn) as connection:
        tables = ", ".join([*METADATA.tables, VERSION_TABLE])
        connection.execute(f"DROP TABLE IF EXISTS {tables}")
    return running
