"""A canary judged for real: two gateways behind Envoy, Prometheus, traffic, and the shipped YAML.

A minute is a second here, in the rules and in the AnalysisTemplates alike; the scrapes of the two
processes carry the label `track`, as in a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import started
from release.envoy_split import split
from slo.hurried import FACTOR, hurried
from slo.prometheus_server import Prometheus, prometheus_of
from slo.waiting import until
from slo_tools import ROOT

from radgateway.chaos.load import LoadGenerator
from radgateway.release.analysis import load_templates
from radgateway.slo.pack import artefacts
from radgateway.slo.settings import Settings
from radgateway.upstream.http1 import HTTP1Client

pytestmark = [pytest.mark.ops, pytest.mark.servers, pytest.mark.slow]

SHIPPED = ROOT / "examples/kubernetes/components/canary/analysistemplates.yaml"
KEY = "the-key-of-a-caller"
CONFIG = """\
environment: local
keys: [{{name: demo, secret: env:RAD_KEY}}]
providers: {{mock: {{kind: mock, breaker: null, max_concurrency: null, {behaviour}}}}}
models: {{demo: {{candidates: [{{provider: mock, model: demo}}]}}}}
storage: {{usage: "memory://"}}
telemetry: {{metrics: true, log_level: error}}
"""
WELL = "latency_ms: 2"
RATE_PER_S = 40.0
SLACK = 2.0
"""Times as long as the trigger's time, for a machine that does other things as well. That it was
decided by the first measurements that could decide it is asserted beside it, without a clock."""


@dataclass(frozen=True)
class Outcome:
    """What the judge said, and when it took its last measurement."""

    code: int
    verdict: str
    after_s: float


@contextlib.contextmanager
def gateways(folder: Path, *behaviours: str) -> Iterator[list[str]]:
    """Hosts and ports of versions that behave so."""
    serve = ["-m", "radgateway", "serve", "--port", "0", "--config"]
    with contextlib.ExitStack() as stack:
        processes = []
        for number, behaviour in enumerate(behaviours):
            file = folder / f"gateway-{number}.yaml"
            file.write_text(CONFIG.format(behaviour=behaviour))
            child = started([*serve, str(file)], folder, {"RAD_KEY": KEY})
            processes.append(stack.enter_context(child))
        yield [each.wait_for(r"http://(127\.0\.0\.1:\d+)")[1] for each in processes]


async def judged(tmp_path: Path, canary: str, percent: int) -> Outcome:
    """The verdict on a canary that behaves so, with its share of the traffic."""
    rules = {
        name: text for name, text in hurried(artefacts(Settings())).items() if "/rules/" in name
    }
    template = tmp_path / "templates.yaml"
    template.write_text(hurried({"": SHIPPED.read_text()})[""])
    with (
        gateways(tmp_path, WELL, canary) as (stable, new),
        split(tmp_path, stable, new, percent) as url,
        prometheus_of(
            tmp_path,
            f"[{{targets: ['{stable}'], labels: {{track: stable}}}}, "
            f"{{targets: ['{new}'], labels: {{track: canary}}}}]",
            rules,
        ) as watcher,
    ):
        client = HTTP1Client()
        try:
            load = LoadGenerator(client, url, "demo", KEY)
            async with load.running(RATE_PER_S, streams=0.5):
                seen = "canary" if percent else "stable"
                await asyncio.to_thread(traffic_at, watcher, seen)
                return await verdict(template, watcher.url)
        finally:
            await client.aclose()


def traffic_at(watcher: Prometheus, track: str) -> None:
    """Wait until Prometheus sees requests of a track, and that the rules are evaluated."""
    asked = (
        f'sum(rate(rad_gateway_requests_total{{track="{track}"}}[5s])) > 0 '
        'and on () count(ALERTS{alertname="Watchdog"})'
    )
    until(lambda: watcher.query(asked), f"traffic at {track}")


async def verdict(template: Path, prometheus: str) -> Outcome:
    """What the command says; it is a process of its own, as in a pipeline."""
    arguments = ["release", "canary", "--template", str(template), "--prometheus", prometheus]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "radgateway",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, progress = await process.communicate()
    assert process.returncode is not None
    moments = re.findall(r"^ *([0-9.]+) s ", progress.decode(), re.MULTILINE)
    sys.stdout.write(progress.decode())  # for whoever looks why it failed
    return Outcome(process.returncode, out.decode(), float(moments[-1]) if moments else 0.0)


def minutes(count: float) -> float:
    """So many of them, in a hurry."""
    return count * 60 / FACTOR


def aborted_at_once(outcome: Outcome, *criteria: str) -> None:
    """One of the criteria decided it, by the first measurement beyond what it bears.

    The alert behind `sev-1` may come later than the canary; the others are bad from the beginning.
    """
    assert outcome.code == 1, outcome.verdict
    assert "\nABORT\n" in outcome.verdict
    limits = {each.metric.name: each.metric.failureLimit for each in load_templates([SHIPPED], {})}
    (decided,) = re.findall(r"^(\S+) .* fail +(.*)$", outcome.verdict, re.MULTILINE)
    assert decided[0] in criteria
    failed = f"{limits[decided[0]] + 1} failed"
    assert decided[1] == failed or (decided[0] == "sev-1" and decided[1].endswith(f", {failed}"))


def test_a_canary_that_fails_is_aborted_in_time(tmp_path: Path) -> None:
    """Its requests fail: aborted after a window of two minutes and two minutes more."""
    outcome = asyncio.run(judged(tmp_path, "latency_ms: 2, error_ratio: 1", 10))
    aborted_at_once(outcome, "error-rate", "availability", "sev-1", "error-rate-added")
    assert outcome.after_s <= SLACK * minutes(2 + 2)


def test_a_canary_that_is_slow_is_aborted_in_time(tmp_path: Path) -> None:
    """Its streams begin after 2.2 s: aborted after a window of five minutes and five more."""
    outcome = asyncio.run(judged(tmp_path, "latency_ms: 2200", 10))
    aborted_at_once(outcome, "first-token-p95", "first-token-added")
    assert outcome.after_s <= SLACK * minutes(5 + 5)


def test_a_canary_that_is_well_is_promoted(tmp_path: Path) -> None:
    """After all of its measurements, and not before."""
    outcome = asyncio.run(judged(tmp_path, WELL, 10))
    assert outcome.code == 0, outcome.verdict
    assert "\nPROMOTE\n" in outcome.verdict
    assert outcome.after_s >= minutes(14.5)


def test_a_canary_that_nobody_asked_is_not_promoted(tmp_path: Path) -> None:
    """It is well, but no request came to it: nothing is known, and that is no pass."""
    outcome = asyncio.run(judged(tmp_path, WELL, 0))
    assert outcome.code == 2, outcome.verdict
    assert "\nNOT PROMOTED: CAN'T BE JUDGED\n" in outcome.verdict
    assert " fail " not in outcome.verdict
