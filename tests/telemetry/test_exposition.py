"""Scrapes are right, also over several workers, and hold up nobody."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from drive import drive, http_scope
from loop_stall import shortest_stall_s
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from radgateway.telemetry.exposition import MetricsEndpoint, render
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.multiprocess import VARIABLE, drop_dead_gauges, share_metrics


def test_the_text_format_is_the_default() -> None:
    """A plain GET gets the format every Prometheus reads, without `_created` series."""
    answer = asyncio.run(
        drive(MetricsEndpoint(Instruments(version="1")), http_scope("/metrics", method="GET"))
    )
    assert answer.status == 200
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name for f in text_string_to_metric_families(answer.body.decode())}
    assert "rad_gateway_requests" in families
    assert b"_created" not in answer.body


def test_openmetrics_is_negotiated() -> None:
    """Who asks for OpenMetrics gets it, whole, to its end mark."""
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    scope = http_scope("/metrics", method="GET", headers=[("Accept", accept)])
    answer = asyncio.run(drive(MetricsEndpoint(Instruments()), scope))
    assert (answer.header("content-type") or "").startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
    assert b"_created" not in answer.body
    parse: Any = openmetrics_parser.text_string_to_metric_families
    assert len(list(parse(answer.body.decode()))) > 10


def test_exemplars_are_for_who_asks_for_openmetrics() -> None:
    """The text format has no word for them; the trace's id stands beside its bucket."""
    instruments = with_series(1)
    text, openmetrics = render(instruments.registry), render(instruments.registry, True)
    assert b"trace_id" not in text
    parse: Any = openmetrics_parser.text_string_to_metric_families
    (exemplar,) = [
        (sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for family in parse(openmetrics.decode())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplar == ("1.0", {"trace_id": "0af7651916cd43dd" * 2}, 1.0)


def test_the_memory_limit_is_read_with_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may be given more while it runs."""
    instruments = Instruments()
    monkeypatch.setattr("radgateway.telemetry.instruments.memory_limit_bytes", lambda: 12345)
    scope = http_scope("/metrics", method="GET")
    answer = asyncio.run(drive(MetricsEndpoint(instruments), scope))
    assert b"rad_gateway_memory_limit_bytes 12345.0" in answer.body


@pytest.mark.parametrize("accept", ["", "*/*", "application/openmetrics-text;version=x.y", ";,="])
def test_any_accept_header_gets_metrics(accept: str) -> None:
    """Nonsense in the header is no error."""
    scope = http_scope("/metrics", method="GET", headers=[("accept", accept)])
    assert asyncio.run(drive(MetricsEndpoint(Instruments()), scope)).status == 200


def test_head_and_other_methods() -> None:
    """HEAD gets the headers alone, a POST a 405 that names what works."""
    endpoint = MetricsEndpoint(Instruments())
    head = asyncio.run(drive(endpoint, http_scope("/metrics", method="HEAD")))
    assert (head.status, head.body) == (200, b"")
    assert int(head.header("content-length") or 0) > 1000
    post = asyncio.run(drive(endpoint, http_scope("/metrics", method="POST")))
    assert post.status == 405
    assert post.header("allow") == "GET, HEAD"


def test_scrapes_that_come_together_share_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty scrapes at once are one rendering, and the next one is fresh."""
    renderings = 0

    def counted(*given: object) -> bytes:
        nonlocal renderings
        renderings += 1
        time.sleep(0.05)
        return b"x %d\n" % renderings

    monkeypatch.setattr("radgateway.telemetry.exposition.render", counted)
    endpoint = MetricsEndpoint(Instruments())

    async def run() -> None:
        scopes = [http_scope("/metrics", method="GET") for _ in range(50)]
        answers = await asyncio.gather(*(drive(endpoint, scope) for scope in scopes))
        assert {a.body for a in answers} == {b"x 1\n"}
        again = await drive(endpoint, http_scope("/metrics", method="GET"))
        assert again.body == b"x 2\n"

    asyncio.run(run())


def with_series(providers: int) -> Instruments:
    """Instruments of so many providers, about 40 series each."""
    names = frozenset(f"p{index}" for index in range(providers))
    instruments = Instruments(labels=LabelSets(providers=names))
    for name in names:
        instruments.provider_latency(name).observe(1.0, {"trace_id": "0af7651916cd43dd" * 2})
    return instruments


OPENMETRICS = [("accept", "application/openmetrics-text;version=1.0.0")]


def scraped_stall(headers: list[tuple[str, str]]) -> tuple[float, list[float]]:
    """The shortest stall over scrapes of 5,000 series, in seconds, and each of them."""
    endpoint = MetricsEndpoint(with_series(125))
    scope = http_scope("/metrics", method="GET", headers=headers)

    async def scraped() -> None:
        assert (await drive(endpoint, scope)).body.count(b"\n") > 5_000

    return shortest_stall_s(scraped, good_s=0.004, tries=40)


@pytest.mark.parametrize("headers", [[], OPENMETRICS], ids=["text", "openmetrics"])
def test_a_scrape_of_5000_series_stalls_the_loop_for_less_than_5_ms(
    headers: list[tuple[str, str]],
) -> None:
    """Not once while it is rendered, though that takes ten times as long, exemplars and all."""
    stall_s, stalls = scraped_stall(headers)
    assert stall_s < 0.004, stalls


@pytest.mark.parametrize("open_metrics", [False, True], ids=["text", "openmetrics"])
def test_a_rendering_pauses_within_a_metric(
    open_metrics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hundred samples, so that a busy loop gets more than its half of the interpreter."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    lines = render(with_series(125).registry, open_metrics).count(b"\n")
    # A metric's last hundred has none.
    assert lines / 200 < len(slept) <= lines / 100


SCRAPED_WORKER = """
import multiprocessing
from test_exposition import scraped_stall, with_series
if __name__ == "__main__":
    others = [multiprocessing.get_context("spawn").Process(target=with_series, args=(125,))
              for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    print(*scraped_stall([]))
"""


@pytest.mark.servers
def test_nor_does_one_that_adds_up_several_workers(tmp_path: Path) -> None:
    """Who answers for all workers reads the files of each, which takes longer still."""
    script = tmp_path / "worker.py"
    script.write_text(SCRAPED_WORKER)
    shared = tmp_path / "shared"
    shared.mkdir()
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, VARIABLE: str(shared), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(list(shared.glob("histogram_*.db"))) == 3
    assert float(ran.stdout.split()[0]) < 0.004, ran.stdout


WORKER = """
import sys
from radgateway.telemetry.instruments import Instruments, LabelSets
made = Instruments(labels=LabelSets(providers=frozenset({"a"})), version="1")
n = int(sys.argv[1])
made.requests("/v1/chat/completions", "POST", "200").inc(n)
for _ in range(n):
    made.request_duration("/v1/chat/completions").observe(0.7, {"trace_id": "ab" * 16})
made.active_connections.set(n)
made.event_loop_lag.set(n)
made.breaker_changed("a", "open" if n == 3 else "closed")
made.provider_healthy("a").set(0 if n == 3 else 1)
print("ready", flush=True)
sys.stdin.readline()
"""

READER = """
import sys
from radgateway.telemetry.exposition import render
from radgateway.telemetry.instruments import Instruments
from prometheus_client import CollectorRegistry
sys.stdout.write(render(CollectorRegistry(), len(sys.argv) > 1).decode())
"""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples of a scrape."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def resident(pid: int) -> int:
    """A process's resident memory, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.servers
def test_two_workers_are_one_in_a_scrape(tmp_path: Path) -> None:
    """Counters and histograms add up, gauges of the living too; the dead keep their counts."""
    environment = {**os.environ, VARIABLE: str(tmp_path)}

    def read() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        ran = subprocess.run(
            [sys.executable, "-c", READER],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return samples(ran.stdout)

    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in (2, 3)
    ]
    route = ("route", "/v1/chat/completions")
    requests = ("rad_gateway_requests_total", (("method", "POST"), route, ("status", "200")))
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        found = read()
        assert found[requests] == 5
        limit = found["rad_gateway_memory_limit_bytes", ()]
        assert 0 < limit <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert found["rad_gateway_request_duration_seconds_count", (route,)] == 5
        bucket = "rad_gateway_request_duration_seconds_bucket"
        assert found[bucket, (("le", "0.75"), route)] == 5
        assert found[bucket, (("le", "0.5"), route)] == 0
        assert found["rad_gateway_active_connections", ()] == 5
        assert found["rad_gateway_event_loop_lag_seconds", ()] == 3
        provider = ("provider", "a")
        assert found["rad_gateway_circuit_breaker_open", (provider,)] == 1
        assert found["rad_gateway_provider_healthy", (provider,)] == 0
        memory = ("process_resident_memory_bytes", ())
        both = sum(resident(worker.pid) for worker in workers)
        assert found[memory] == pytest.approx(both, rel=0.05)
        assert found["process_open_fds", ()] >= 6
        assert found["process_cpu_seconds_total", ()] > 0
        started = found["process_start_time_seconds", ()]
        assert abs(time.time() - started) < 60
        workers[1].kill()
        workers[1].wait(10)
        found = read()
        assert found[requests] == 5
        assert found["rad_gateway_active_connections", ()] == 2
        assert found[memory] == pytest.approx(resident(workers[0].pid), rel=0.05)
        assert found["rad_gateway_circuit_breaker_open", (provider,)] == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=10)


def test_gauges_of_the_dead_are_dropped_and_no_others(tmp_path: Path) -> None:
    """Only live gauges of processes that are gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(10)
    names = [
        f"gauge_livesum_{gone.pid}.db",
        f"gauge_livemax_{os.getpid()}.db",
        f"counter_{gone.pid}.db",
        "unrelated.txt",
    ]
    for name in names:
        (tmp_path / name).touch()
    drop_dead_gauges(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])


def test_sharing_makes_or_empties_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named directory is created and cleared of an earlier run; without a name one is made."""
    named = tmp_path / "shared"
    named.mkdir()
    (named / "counter_1.db").touch()
    monkeypatch.setenv(VARIABLE, str(named))
    assert share_metrics() == str(named)
    assert list(named.iterdir()) == []
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = share_metrics()
    assert os.environ[VARIABLE] == made
    assert Path(made).is_dir()
    monkeypatch.delenv(VARIABLE)


def test_render_without_workers_is_the_registry() -> None:
    """One process answers for itself."""
    assert b"rad_gateway_build_info" in render(Instruments(version="9").registry)
