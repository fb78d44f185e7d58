"""Reading usage holds up nobody, however much is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from drive import drive, http_scope
from loop_stall import shortest_stall_s
from usage_rows import stored, usage_row

from radgateway.operations.query_parameters import EXPORT_MAX
from radgateway.operations.traces_view import traces_view
from radgateway.operations.usage_view import usage_view
from radgateway.usage.ledger import SQLiteLedger
from radgateway.usage.query import SUMS_MAX
from radgateway.usage.writer import UsageWriter

NOW = 1_795_600_800.0
VIEWS = {"usage": usage_view, "traces": traces_view}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteLedger]:
    """As many rows as an export has at most, of as many models as there are sums."""
    with closing(SQLiteLedger(tmp_path_factory.mktemp("stalls") / "usage.db")) as made:
        rows = (
            usage_row(NOW - EXPORT_MAX + at, selected_model=f"m{at % SUMS_MAX}")
            for at in range(EXPORT_MAX)
        )
        stored(made, rows)
        yield made


def counted_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of all threads from now on, each made all the same."""
    made: list[float] = []
    sleep = time.sleep

    def paused(seconds: float) -> None:
        made.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", paused)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "query", "least_bytes", "least_pauses"),
    [
        ("usage", "format=csv", 20_000_000, 3_000),
        ("usage", "limit=500", 400_000, 15),
        ("usage", "group_by=model", 2_000_000, 300),
        ("usage", "group_by=hour,model", 2_000_000, 300),
        ("usage", "group_by=model&format=csv", 400_000, 300),
        ("traces", "limit=500", 300_000, 15),
        ("traces", "format=csv&limit=50000", 15_000_000, 2_500),
    ],
)
def test_an_answer_stalls_the_loop_for_less_than_10_ms(
    ledger: SQLiteLedger,
    view: str,
    query: str,
    least_bytes: int,
    least_pauses: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not once while it is read, written and sent, though that may take seconds.

    It pauses in each part of that, after every hundred rows or groups: a loop that is busy gets
    more than half of the interpreter, which the stalls of one that is not don't tell.
    """
    monkeypatch.setattr("drive.LIMIT_S", 120.0)
    pauses = counted_pauses(monkeypatch)
    usage = UsageWriter(ledger)
    app = VIEWS[view](usage, lambda: NOW)

    async def answered() -> None:
        pauses.clear()
        answer = await drive(app, http_scope("/", method="GET", query=query))
        assert answer.status == 200
        assert len(answer.body) > least_bytes
        assert len(pauses) >= least_pauses

    stall_s, stalls = shortest_stall_s(answered, good_s=0.010, tries=8)
    assert stall_s < 0.010, stalls
