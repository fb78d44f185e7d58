"""A gateway killed with a thousand streams in flight, ten times, has lost no row it answered.

Nor does the caller get any of its budget back.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
from processes import Process, started

from radgateway.chaos.postgres import postgres_server

pytestmark = [pytest.mark.servers, pytest.mark.slow]

STREAMS = 1000
KILLS = 10
CONFIG = """
keys: [{name: k, secret: key-1, budget: {usd: 1000000, per: month}}]
admin_keys: [{name: ops, secret: key-admin}]
providers:
  mock: {kind: mock, latency_ms: 400, tokens_per_s: 50, max_concurrency: null}
models:
  m: {candidates: [{provider: mock, price: {input: 1, output: 2}}]}
storage: {usage: "USAGE", journal: usage.journal}
"""
BODY = json.dumps(
    {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
).encode()


@pytest.fixture(autouse=True)
def room_for_sockets() -> Iterator[None]:
    """As many open files as the system lets us have, here and in what is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Callers:
    """A thousand callers that ask for one stream after the other, and note what they got whole."""

    def __init__(self, port: int, prefix: str) -> None:
        self.answered: list[str] = []
        self.in_flight = 0
        self._port = port
        self._prefix = prefix

    async def run(self) -> None:
        """Until the gateway is gone."""
        await asyncio.gather(*(self._ask(number) for number in range(STREAMS)))

    async def _ask(self, number: int) -> None:
        turn = 0
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while True:
                turn += 1
                await self._stream(reader, writer, f"{self._prefix}-{number}-{turn}")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request_id: str
    ) -> None:
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: key-1\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        writer.write(head.encode() + BODY)
        self.in_flight += 1
        answer = await reader.readuntil(b"\r\n\r\n")
        # Whoever is refused is not in flight any more.
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        await reader.readuntil(b"data: [DONE]\n\n")
        # The chunk that ends it: the caller has the whole answer.
        await reader.readuntil(b"\r\n0\r\n\r\n")
        self.in_flight -= 1
        self.answered.append(request_id)


async def killed(process: Process, callers: Callers) -> None:
    """Kill it when some have been answered and most are under way."""
    running = asyncio.create_task(callers.run())
    async with asyncio.timeout(60):
        while len(callers.answered) < STREAMS // 2 or callers.in_flight < STREAMS * 0.9:
            await asyncio.sleep(0.001)
        process.close()
        await running


Rows = list[tuple[str, str]]
"""Ids and outcomes."""


class Ledger(NamedTuple):
    """Where usage is kept, and how it is looked at from outside."""

    address: str
    query: Callable[[str], Rows]


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each database there may be."""
    if request.param == "sqlite":
        file = tmp_path / "usage.db"

        def in_file(sql: str) -> Rows:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as reader:
                return list(reader.execute(sql))

        yield Ledger("sqlite:///usage.db", in_file)
        return
    with postgres_server() as server:

        def in_server(sql: str) -> Rows:
            with psycopg.connect(server.dsn) as reader:
                return reader.execute(sql).fetchall()

        yield Ledger(server.dsn, in_server)


def spent_of_budget(url: str) -> Decimal:
    """What the gateway takes the key to have spent."""
    keys = httpx.get(f"{url}/v0/management/keys", headers={"x-api-key": "key-admin"})
    (limit,) = keys.raise_for_status().json()["data"][0]["limits"]
    return Decimal(limit["spent"])


def test_what_was_answered_is_in_the_ledger_once(tmp_path: Path, ledger: Ledger) -> None:
    """After all kills and restarts: a row for every stream that a caller got whole, and no two.

    The roll-ups have counted each of them, once, too, and the budget has what all of them cost.
    """
    (tmp_path / "gateway.yaml").write_text(CONFIG.replace("USAGE", ledger.address))
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    answered: set[str] = set()
    for kill in range(KILLS):
        with started(serve, tmp_path) as process:
            port = int(process.wait_for(r" on http://\S+:(\d+)")[1])
            process.wait_for("Application startup complete")
            callers = Callers(port, f"kill{kill}")
            asyncio.run(killed(process, callers))
            answered.update(callers.answered)
            assert callers.in_flight >= STREAMS * 0.8
    with started(serve, tmp_path) as process:
        url = process.wait_for(r" on (http://\S+)")[1]
        process.wait_for("Application startup complete")
        until = time.monotonic() + 20
        while True:
            rows = ledger.query("SELECT request_id, outcome FROM radgateway_requests")
            if answered <= {request_id for request_id, _ in rows} or time.monotonic() > until:
                break
            time.sleep(0.1)
        until = time.monotonic() + 20
        while (spent := spent_of_budget(url)) == 0 and time.monotonic() < until:
            time.sleep(0.1)
        assert process.end() == 0
    costs = ledger.query("SELECT request_id, CAST(cost_usd AS text) FROM radgateway_requests")
    assert spent == sum(Decimal(cost) for _, cost in costs)
    rows = ledger.query("SELECT request_id, outcome FROM radgateway_requests")
    ids = [request_id for request_id, _ in rows]
    assert answered - set(ids) == set()
    assert len(ids) == len(set(ids))
    assert len(answered) >= KILLS * STREAMS // 2
    assert {outcome for request_id, outcome in rows if request_id in answered} == {"success"}
    for table in ("radgateway_hourly", "radgateway_daily"):
        counted = ledger.query(f"SELECT outcome, sum(requests) FROM {table} GROUP BY outcome")
        assert dict(counted) == Counter(outcome for _, outcome in rows)
    assert not list((tmp_path / "usage.journal").iterdir())
