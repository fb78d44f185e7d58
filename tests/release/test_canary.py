"""A canary's course by Argo's rules, its templates, and when what is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.config import ConfigError
from radgateway.release.analysis import Criterion, duration_s, is_duration, load_templates
from radgateway.release.canary import Canary, Course, Phase, measured
from radgateway.release.prometheus import Prometheus, Unanswered
from radgateway.release.watch import watch

SHIPPED = (
    Path(__file__).resolve().parents[2]
    / "examples/kubernetes/components/canary/analysistemplates.yaml"
)
TEMPLATE = """\
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: trial}
spec:
  args:
    - {name: prometheus, value: "http://prometheus.example.invalid:9090"}
    - name: track
  metrics:
    - name: errors
      interval: 30s
      count: 5
      failureLimit: 1
      inconclusiveLimit: 1
      consecutiveErrorLimit: 2
      successCondition: len(result) > 0 && result[0] <= 0.05
      failureCondition: len(result) > 0 && result[0] > 0.05
      provider:
        prometheus:
          address: "{{args.prometheus}}"
          query: errors{track="{{ args.track }}"}
"""


def templates(tmp_path: Path, text: str = TEMPLATE, **arguments: str) -> list[Criterion]:
    file = tmp_path / "template.yaml"
    file.write_text(text)
    return load_templates([file], {"track": "canary", **arguments})


@pytest.fixture
def criterion(tmp_path: Path) -> Criterion:
    return templates(tmp_path)[0]


# templates


def test_the_shipped_templates_can_be_judged() -> None:
    """The file that the cluster gets, with every trigger and comparison in it."""
    criteria = load_templates([SHIPPED], {})
    names = [criterion.metric.name for criterion in criteria]
    assert "error-rate" in names
    assert "first-token-added" in names
    assert all(criterion.metric.measurements for criterion in criteria)
    assert all(criterion.address.startswith("http://") for criterion in criteria)


def test_arguments_are_filled_in(criterion: Criterion) -> None:
    """Defaults, and what was given; with spaces between the braces or without."""
    assert criterion.query == 'errors{track="canary"}'
    assert criterion.address == "http://prometheus.example.invalid:9090"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("apiVersion: argoproj.io/v1alpha1", "apiVersion: v1", r"apiVersion: must be one of"),
        ("kind: AnalysisTemplate", "kind: Rollout", "kind: must be one of"),
        ("failureLimit", "failuresLimit", "did you mean 'failureLimit'"),
        ("interval: 30s", "interval: soon", "interval: must be a duration"),
        ("interval: 30s", "interval: 0s", "interval: must be over 0"),
        ("      interval: 30s\n", "", "interval is missing"),
        ("count: 5", "count: 0", "count: must be 1 or more"),
        ("failureLimit: 1", "failureLimit: -1", "failureLimit: must be 0 or more"),
        ("        prometheus:", "        web:", "provider.web: unknown key"),
        ("kind: AnalysisTemplate", "kind: [", "template.yaml:4: is not YAML"),
        ("spec:", "specs:", "did you mean 'spec'"),
    ],
)
def test_a_template_that_is_not_understood_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """With its place: nothing is judged by a part of it."""
    with pytest.raises(ConfigError, match=message):
        templates(tmp_path, TEMPLATE.replace(old, new))


def test_conditions_and_arguments_have_to_be_there(tmp_path: Path) -> None:
    """Argo calls a metric without a condition a success; here it is none."""
    lines = [line for line in TEMPLATE.splitlines() if "Condition" not in line]
    with pytest.raises(ConfigError, match="successCondition or failureCondition"):
        templates(tmp_path, "\n".join(lines))
    with pytest.raises(ValueError, match="the condition 'result < 1'"):
        templates(tmp_path, TEMPLATE.replace("len(result) > 0 && result[0] > 0.05", "result < 1"))
    with pytest.raises(ValueError, match="the argument 'trck'; there are: prometheus, track"):
        templates(tmp_path, trck="canary")
    with pytest.raises(ValueError, match="give --arg job=VALUE"):
        templates(tmp_path, TEMPLATE.replace("args.track", "args.job"))
    with pytest.raises(ValueError, match="only"):
        templates(tmp_path, TEMPLATE.replace("args.track", "inputs.track"))


def test_several_documents_are_one_canary(tmp_path: Path) -> None:
    """And a mistake in the second has the line of the file."""
    two = f"# first\n{TEMPLATE}---\n{TEMPLATE}"
    assert len(templates(tmp_path, two)) == 2
    broken = two[: two.rindex("failureLimit")] + two[two.rindex("failureLimit") :].replace(
        "failureLimit", "failLimit"
    )
    with pytest.raises(ConfigError, match=r"template\.yaml:34: "):
        templates(tmp_path, broken)
    with pytest.raises(ValueError, match="no AnalysisTemplate"):
        templates(tmp_path, "---\n---\n")
    with pytest.raises(ConfigError, match="can't be read"):
        load_templates([tmp_path / "none.yaml"], {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("", 0)]
)
def test_durations_are_as_go_writes_them(text: str, seconds: float) -> None:
    """Several units after another."""
    assert duration_s(text) == seconds
    assert is_duration(text) == bool(text)


# the rules


@pytest.mark.parametrize(
    ("values", "phase"),
    [
        ([0.05], "successful"),
        ([0.06], "failed"),
        ([], "inconclusive"),
        ([math.nan], "inconclusive"),
    ],
)
def test_a_measurement_is_what_its_conditions_say(
    criterion: Criterion, values: list[float], phase: Phase
) -> None:
    """Nothing, and nothing divided by nothing, is neither a success nor a failure."""
    assert measured(criterion, values)[0] == phase


@pytest.mark.parametrize(
    ("success", "failure", "values", "phase"),
    [
        ("result[0] < 1", "", [0], "successful"),
        ("result[0] < 1", "", [1], "failed"),
        ("", "result[0] > 1", [1], "successful"),
        ("", "result[0] > 1", [2], "failed"),
        ("result[0] < 1", "", [], "error"),
        ("result[0] < 1", "result[0] > 2", [1.5], "inconclusive"),
        ("result[0] < 2", "result[0] > 1", [1.5], "failed"),
    ],
)
def test_one_condition_implies_the_other(
    tmp_path: Path, success: str, failure: str, values: list[float], phase: Phase
) -> None:
    """As Argo has it; a value that the condition asks for in vain is an error."""
    text = TEMPLATE.replace("len(result) > 0 && result[0] <= 0.05", f'"{success}"')
    text = text.replace("len(result) > 0 && result[0] > 0.05", f'"{failure}"')
    assert measured(templates(tmp_path, text)[0], values)[0] == phase


@pytest.mark.parametrize(
    ("phases", "ended"),
    [
        ("SSSSS", "successful"),
        ("SFSSS", "successful"),
        ("SSSS", None),
        ("SFF", "failed"),
        ("FSF", "failed"),
        ("IS", None),
        ("II", "inconclusive"),
        ("EE", None),
        ("EEE", "error"),
        ("EESEE", None),
        ("EESEESSSS", "successful"),
        ("SSSSE", None),
    ],
)
def test_limits_are_argos(criterion: Criterion, phases: str, ended: Phase | None) -> None:
    """More than the limit ends it; errors count in a row, and are no measurements."""
    assert course(criterion, phases).phase == ended


NAMES: dict[str, Phase] = {
    "S": "successful",
    "F": "failed",
    "I": "inconclusive",
    "E": "error",
}


def course(criterion: Criterion, phases: str) -> Course:
    made = Course(criterion)
    for each in phases:
        made.record(NAMES[each])
    return made


@given(st.text(alphabet="SFIE", max_size=12))
def test_only_a_canary_that_was_seen_to_work_is_promoted(
    tmp_path_factory: pytest.TempPathFactory, phases: str
) -> None:
    """Whatever comes in whatever order: too many failures abort, and only successes promote."""
    (one,) = templates(tmp_path_factory.getbasetemp())
    canary = Canary([one])
    seen = ""
    for each in phases:
        if canary.certain:
            break
        canary.courses[0].record(NAMES[each])
        seen += each
    code = canary.judgement().exit_code
    assert (code == 1) == (seen.count("F") > 1)
    if code == 0:
        assert seen.count("S") + seen.count("F") + seen.count("I") == 5
        assert seen.count("S") >= 3


def test_one_bad_criterion_decides(tmp_path: Path) -> None:
    """At once: the others need not be waited for, and count for nothing."""
    canary = Canary(templates(tmp_path, f"{TEMPLATE}---\n{TEMPLATE}"))
    first, second = canary.courses
    second.record("successful", [0.0])
    before = canary.certain
    first.record("failed", [0.5])
    first.record("failed", [0.6])
    assert (before, canary.certain) == (False, True)
    judgement = canary.judgement()
    assert (judgement.decision, judgement.exit_code) == ("ABORT", 1)
    assert [finding.verdict for finding in judgement.findings] == ["fail", "not judged"]


def test_a_canary_cut_short_is_not_promoted(criterion: Criterion) -> None:
    """Four of five measurements are no five, and none at all is nothing."""
    assert Canary([criterion]).judgement().exit_code == 2
    canary = Canary([criterion])
    for _ in range(4):
        canary.courses[0].record("successful", [0.0])
    judgement = canary.judgement()
    assert judgement.exit_code == 2
    assert judgement.findings[0].why == "4 successful of 5"


def test_what_has_no_count_is_judged_when_time_is_over(tmp_path: Path) -> None:
    """Good until then is good, and nothing until then is not."""
    (endless,) = templates(tmp_path, TEMPLATE.replace("      count: 5\n", ""))
    assert Canary([endless]).judgement().exit_code == 2
    canary = Canary([endless])
    canary.courses[0].record("successful", [0.0])
    assert not canary.certain
    assert canary.judgement().exit_code == 0


# when


class Time:
    """A clock that moves by being waited for."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(Prometheus):
    """Answers by the time that has passed."""

    def __init__(self, time: Time, answer: Callable[[float], Sequence[float]]) -> None:
        super().__init__(httpx.Client())
        self.asked: list[float] = []
        self._time = time
        self._answer = answer

    def values(self, expression: str) -> list[float]:
        self.asked.append(self._time.now - 100)
        return list(self._answer(self.asked[-1]))


def watched(
    criteria: list[Criterion], answer: Callable[[float], Sequence[float]], for_s: float = 3600
) -> tuple[Canary, list[float], list[str]]:
    time, lines = Time(), []  # type: tuple[Time, list[str]]
    asked = Scripted(time, answer)
    canary = Canary(criteria)
    ask = {criterion.address: asked for criterion in criteria}
    watch(canary, ask, lines.append, for_s, clock=time, sleep=time.sleep)
    return canary, asked.asked, lines


def test_it_measures_at_the_interval_and_ends_when_certain(tmp_path: Path) -> None:
    """After the initial delay; a bad canary does not get its full time."""
    criteria = templates(tmp_path, TEMPLATE.replace("count: 5", "count: 5\n      initialDelay: 2m"))
    canary, asked, lines = watched(criteria, lambda at: [0.0])
    assert asked == [120, 150, 180, 210, 240]
    assert canary.judgement().decision == "PROMOTE"
    canary, asked, lines = watched(criteria, lambda at: [0.0 if at < 150 else 0.5])
    assert asked == [120, 150, 180]
    assert canary.judgement().decision == "ABORT"
    assert lines[-1] == "  180.0 s  errors = 0.5: 1 successful, 2 failed"


def test_it_gives_up_in_time(criterion: Criterion) -> None:
    """What was not measured by then is not known."""
    canary, asked, _ = watched([criterion], lambda at: [0.0], for_s=100)
    assert asked == [0, 30, 60, 90]
    assert canary.judgement().exit_code == 2


def test_an_error_is_tried_again_soon(criterion: Criterion) -> None:
    """After ten seconds, as Argo does; three in a row end it."""

    def answer(at: float) -> Sequence[float]:
        if at == 0 or at > 30:
            raise Unanswered("no answer: connection refused")
        return [0.0]

    canary, asked, lines = watched([criterion], answer)
    assert asked == [0, 10, 40, 50, 60]
    assert canary.judgement().decision == "NOT PROMOTED: CAN'T BE JUDGED"
    assert "no answer: connection refused" in lines[-1]


def test_two_criteria_keep_their_own_time(tmp_path: Path) -> None:
    """Each at its interval."""
    other = TEMPLATE.replace("interval: 30s", "interval: 45s").replace("count: 5", "count: 2")
    _, asked, _ = watched(templates(tmp_path, f"{TEMPLATE}---\n{other}"), lambda at: [0.0])
    assert asked == [0, 0, 30, 45, 60, 90, 120]
