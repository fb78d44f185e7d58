"""`radgateway slo kubernetes`, and what it has written into the manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from slo_tools import PACK, ROOT, run

from radgateway.cli import main
from radgateway.slo.kubernetes import ANALYSIS_PATH, GENERATED, RULES_PATH, artefacts
from radgateway.slo.promql import seconds
from radgateway.slo.settings import Settings
from radgateway.slo.triggers import COMPARISONS, TRIGGERS, canary_tracks

MANIFESTS = ROOT / "examples" / "kubernetes"
MADE = artefacts(Settings())
TEMPLATES: list[Any] = list(yaml.safe_load_all(MADE[ANALYSIS_PATH]))
METRICS: dict[str, Any] = {
    metric["name"]: metric for template in TEMPLATES for metric in template["spec"]["metrics"]
}


def test_the_committed_files_are_those_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` says nothing here; what differs would show as a diff."""
    check = ["slo", "kubernetes", "--out", str(MANIFESTS), "--check"]
    assert main(check) == 0, capsys.readouterr().out


def test_a_check_shows_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit edited by hand, and a file of an earlier version, each named; others' are theirs."""
    make = ["slo", "kubernetes", "--out", str(tmp_path)]
    assert main(make) == 0
    edited = tmp_path / ANALYSIS_PATH
    edited.write_text(edited.read_text().replace("> 0.05", "> 0.5"))
    (tmp_path / "old.yaml").write_text(f"# {GENERATED}\n")
    (tmp_path / "ours.yaml").write_text("kind: ConfigMap\n")
    capsys.readouterr()
    assert main([*make, "--check"]) == 1
    shown = capsys.readouterr().out
    assert '-      failureCondition: "len(result) > 0 && result[0] > 0.5"\n' in shown
    assert "old.yaml is no longer made: remove it\n" in shown
    assert "ours.yaml" not in shown


def test_objectives_of_ones_own(tmp_path: Path) -> None:
    """The job is that of rules and queries alike."""
    mine = tmp_path / "my.yaml"
    mine.write_text("job: gateway-eu\n")
    out = tmp_path / "out"
    assert main(["slo", "kubernetes", "--out", str(out), "--objectives", str(mine)]) == 0
    assert 'absent(up{job="gateway-eu"})' in (out / RULES_PATH).read_text()
    assert '{job="gateway-eu",track="canary"}' in (out / ANALYSIS_PATH).read_text()


def test_the_rules_are_those_of_the_pack(tmp_path: Path) -> None:
    """Group by group; promtool takes what the operator would write into its file."""
    spec = yaml.safe_load(MADE[RULES_PATH])["spec"]
    pack = [
        group
        for name in ("rules", "alerts")
        for group in yaml.safe_load((PACK / f"prometheus/rules/radgateway.{name}.yml").read_text())[
            "groups"
        ]
    ]
    assert spec["groups"] == pack
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(spec))
    checked = run("promtool", "check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_analysis_asks_what_the_triggers_are() -> None:
    """Each once, with its query, its limit on both sides, and as many failures as it bears."""
    triggers = {trigger.name: trigger for trigger in (*TRIGGERS, *COMPARISONS)}
    assert METRICS.keys() == triggers.keys()
    for name, trigger in triggers.items():
        metric = METRICS[name]
        query = metric["provider"]["prometheus"]["query"]
        assert query == trigger.expr(canary_tracks("rad-gateway"))
        assert metric["failureCondition"].endswith(f"result[0] {trigger.failed}")
        assert metric["successCondition"].endswith(f"result[0] {trigger.passed}")
        assert metric["failureLimit"] == trigger.failure_limit


@pytest.mark.parametrize("name", METRICS)
def test_an_analysis_ends_and_can_fail(name: str) -> None:
    """Within the quarter of an hour; a limit that is never reached would judge nothing."""
    metric = METRICS[name]
    first, every = seconds(metric["initialDelay"]), seconds(metric["interval"])
    assert first + (metric["count"] - 1) * every <= 15 * 60
    assert metric["failureLimit"] < metric["count"]
    assert metric["inconclusiveLimit"] < metric["count"]


@pytest.mark.parametrize("name", METRICS)
def test_nothing_measured_is_not_well(name: str) -> None:
    """Both conditions ask for a result first; of NaN, neither comparison is true."""
    for condition in (METRICS[name]["successCondition"], METRICS[name]["failureCondition"]):
        assert condition.startswith("len(result) > 0 && result[0] ")


def test_the_triggers_are_documented() -> None:
    """Each by its name and its limit."""
    page = (ROOT / "docs/how-to/deploy-kubernetes.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for trigger in (*TRIGGERS, *COMPARISONS):
        (row,) = (row for row in rows if f"`{trigger.name}`" in row)
        words = {"0.05": "> 5 %", "2": "> 2 s", "0.95": "< 95 %", "0.02": "2 percent points"}
        words |= {"0": "firing", "0.1": "100 ms", "0.5": "500 ms"}
        assert words[trigger.failed.split()[1]] in row
        assert not trigger.hold or f"for {trigger.hold.removesuffix('m')} min" in row
