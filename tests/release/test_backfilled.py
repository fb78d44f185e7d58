"""The questions of a release, asked of a real Prometheus that holds eight days of services."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from release.backfill import Service, Share, Stretch, backfill
from release.release_evidence import filled_in
from slo.prometheus_server import prometheus_of

from radgateway.cli import main
from radgateway.release.connection import client
from radgateway.release.evidence import Evidence
from radgateway.release.finding import Unmeasured
from radgateway.release.measures import serving
from radgateway.release.prometheus import NOTHING, Prometheus

pytestmark = [pytest.mark.ops, pytest.mark.servers, pytest.mark.slow]

DAY_S = 86_400
HOUR_S = 3_600


def within(begins_s: float, ends_s: float, value: float, otherwise: float = 0.0) -> Share:
    """A share from so many seconds before the end to so many."""
    return lambda age: value if ends_s <= age < begins_s else otherwise


LONG = Stretch(begins_s=8 * DAY_S + HOUR_S, every_s=300)
WEEK = (
    Service(job="well", failing=lambda _: 0.002),
    # A day of 0.6 % in the middle: 99.91 % over the week, and not seven days in a row.
    Service(job="bad-day", failing=within(4 * DAY_S, 3 * DAY_S, 0.006)),
    Service(job="slow-hour", slow=within(20 * HOUR_S, 19 * HOUR_S, 0.2)),
    Service(job="slow-once", slow=within(60 * HOUR_S, 59 * HOUR_S, 0.2)),
    Service(job="quiet-night", per_s=within(20 * HOUR_S, 17 * HOUR_S, 0.0, 2.0)),
    Service(job="conditional", failing=lambda _: 0.007),
    Service(job="failing", failing=lambda _: 0.02),
    Service(job="fresh", version_since_s=12 * HOUR_S),
    Service(job="other-version", version="1.3.0+3bbdefc"),
    Service(job="other-build", version="1.4.0+0a1b2c3"),
)
SHORT = Stretch(begins_s=900, every_s=15)
"""Of services whose names end in `now`, for triggers of minutes."""
LATELY = (
    Service(job="well-now"),
    Service(job="failing-now", failing=within(301, 0, 0.2)),
    # 4.5 minutes over 5 %, and well at the end.
    Service(job="failed-now", failing=within(600, 330, 0.2)),
    # The ratio of two minutes has been over 5 % for less than two.
    Service(job="failing-since-now", failing=within(91, 0, 0.06)),
    Service(job="slow-now", slow=lambda _: 0.2),
    Service(job="down-now", failing=within(601, 0, 1.0)),
    Service(job="silent-now", per_s=within(900, 600, 2.0)),
)


class Asked(NamedTuple):
    """A Prometheus with all of that in it."""

    folder: Path
    url: str
    end: float

    def __call__(self, command: str, job: str, *arguments: str) -> int:
        thresholds = self.folder / f"{job}.yaml"
        thresholds.write_text(f"job: {job}\n")
        at = datetime.fromtimestamp(self.end, UTC)
        given = ["--prometheus", self.url, "--thresholds", str(thresholds)]
        return main(["release", command, *given, "--at", f"{at:%Y-%m-%dT%H:%M:%SZ}", *arguments])

    @property
    def evidence(self) -> str:
        """All attested, yesterday."""
        file = self.folder / "evidence.yaml"
        yesterday = datetime.fromtimestamp(self.end, UTC) - timedelta(days=1)
        text = filled_in()
        for day in ("2026-11-24", "2026-11-25"):
            text = text.replace(day, f"{yesterday:%Y-%m-%d}")
        file.write_text(text.replace("T09:", "T00:").replace("T10:", "T00:"))
        return str(file)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("prometheus")
    # Blocks of the past: what is now belongs to those that Prometheus writes itself.
    end = time.time() // 300 * 300 - 4 * HOUR_S
    backfill(folder, end, LONG, WEEK)
    backfill(folder, end, SHORT, LATELY)
    with prometheus_of(folder, "[]", {}) as watcher:
        yield Asked(folder, watcher.url, end)


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        ("well", 0, "Availability                           >= 99.5 %, each of 7 days"),
        ("bad-day", 1, "99.4 % at worst"),
        ("slow-hour", 1, "1 of 48 hours"),
        ("slow-once", 0, "GO"),
        ("quiet-night", 2, "of 48 hours are not known: no data, or too few requests"),
        ("nobody", 2, "7 of 7 days are not known: no data"),
    ],
)
def test_exit_criteria(
    asked: Asked, job: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of seven days and of 48 hours: a bad one in between is seen, and so is a gap."""
    assert asked("exit-criteria", job, "--evidence", asked.evidence) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        ("well", 0, "\nGO\n"),
        ("conditional", 0, "\nCONDITIONAL GO\n"),
        ("failing", 1, "\nNO-GO\n"),
        ("fresh", 1, ">= 24 h"),
        ("other-version", 2, "\nCAN'T BE JUDGED\n"),
        ("other-build", 2, "\nCAN'T BE JUDGED\n"),
        ("nobody", 2, "\nCAN'T BE JUDGED\n"),
    ],
)
def test_go_no_go(
    asked: Asked, job: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors of a day, and how long staging has served this very version."""
    assert asked("go-no-go", job, "--evidence", asked.evidence) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        ("well-now", 0, "\nSTAY\n"),
        ("failing-now", 1, "Too many requests fail, for two minutes."),
        ("failed-now", 0, "\nSTAY\n"),
        ("failing-since-now", 0, "\nSTAY\n"),
        ("slow-now", 1, "spends too long in the gateway itself, for five minutes."),
        ("down-now", 1, "Too few of the requests"),
        ("silent-now", 2, "\nCAN'T BE JUDGED\n"),
        ("nobody", 2, "\nCAN'T BE JUDGED\n"),
    ],
)
def test_rollback_check(
    asked: Asked, job: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The triggers, each for its time: what is over is over, and a silent service is unknown."""
    assert asked("rollback-check", job) == code
    assert words in capsys.readouterr().out


def test_the_gate_to_production_sees_what_staging_serves(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version and the commit of the evidence, and no others."""
    verdicts = {"well": "pass", "other-version": "unmeasurable", "other-build": "unmeasurable"}
    for job, verdict in verdicts.items():
        asked("gate", job, "staging", "production", "--evidence", asked.evidence, "--json")
        findings = json.loads(capsys.readouterr().out)["findings"]
        found = {finding["criterion"]: finding["verdict"] for finding in findings}
        assert found["Instances in staging that serve 1.4.0+3bbdefc"] == verdict


@pytest.mark.parametrize(
    ("job", "count"), [("well", "1"), ("other-build", "1"), ("other-version", "")]
)
def test_without_a_commit_any_build_of_the_version_counts(
    asked: Asked, job: str, count: str
) -> None:
    """Whatever its images say after the number; 1.3.0 is still another."""
    expression = serving(job, Evidence(version="1.4.0", type="minor"))
    with client("--prometheus", asked.url, None, {}) as made:
        reading = Prometheus(made).reading(expression, asked.end)
    assert reading == (Decimal(count) if count else Unmeasured(NOTHING))
