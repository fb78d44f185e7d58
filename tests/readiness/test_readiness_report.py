"""The state of a box, by what tests came to and what people attest; and the command that shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.cli import main
from radgateway.config.problems import ConfigError
from radgateway.readiness.attested import load_attested
from radgateway.readiness.checklist import Attest, Box, Checklist, load_checklist
from radgateway.readiness.report import as_text, as_values, judge
from radgateway.readiness.results import Result, load_results
from radgateway.release.evidence import Attestation

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
AGE = timedelta(days=92)
TESTED = Box(id="tested", section="One", box="Tested", tests=("t.py::test_a", "t.py::test_b"))
SIGNED = Box(id="signed", section="One", box="Signed", attest=Attest(what="seen", by="lead"))
BOTH = Box(
    id="both", section="Two", box="Both", tests=("t.py::test_a",), commands=("radgateway slo show",)
)
LIST = Checklist(boxes=(TESTED, SIGNED, BOTH))
WELL: dict[str, Result] = {"t.py::test_a": "passed", "t.py::test_b": "passed"}
JUNIT = """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" tests="4">
<testcase classname="tests.slo.test_x" name="test_plain" time="0.1"/>
<testcase classname="tests.slo.test_x" name="test_many[a-1]" time="0.1"/>
<testcase classname="tests.slo.test_x" name="test_many[b-2]"><failure message="no"/></testcase>
<testcase classname="tests.slo.test_x" name="test_left"><skipped message="later"/></testcase>
</testsuite></testsuites>
"""


def word(at: str = "2026-11-20", result: str = "passed") -> Attestation:
    return Attestation(result=result, by="grace", at=at)  # type: ignore[arg-type]


def states(
    results: dict[str, Result], attested: dict[str, Attestation], age: timedelta = AGE
) -> dict[str, tuple[str, str]]:
    return {
        each.box.id: (each.state, each.why) for each in judge(LIST, results, attested, NOW, age)
    }


def test_what_nobody_has_shown_is_open() -> None:
    """Without results and without words nothing is ticked, and each says what is missing."""
    assert states({}, {}) == {
        "tested": ("open", "2 of 2 tests not run"),
        "signed": ("open", "not attested"),
        "both": ("open", "1 of 1 tests not run; not attested"),
    }


def test_all_that_is_asked_for_ticks_a_box() -> None:
    """Tests that passed, words that were given; whoever gave them is shown."""
    assert states(WELL, {"signed": word(), "both": word()}) == {
        "tested": ("ticked", ""),
        "signed": ("ticked", "grace, 2026-11-20"),
        "both": ("ticked", "grace, 2026-11-20"),
    }


def test_one_failure_is_one_too_many() -> None:
    """Whatever else is well; a word can't outweigh a test, nor the other way round."""
    found = states({**WELL, "t.py::test_a": "failed"}, {"signed": word(result="failed")})
    assert found["tested"] == ("failed", "failed: t.py::test_a")
    assert found["both"][0] == "failed"
    assert found["signed"] == ("failed", "failed, says grace, 2026-11-20")


@pytest.mark.parametrize(
    ("at", "state"),
    [
        ("2026-11-25T10:00:00Z", "ticked"),
        ("2026-08-25T10:00:00Z", "ticked"),
        ("2026-08-25T09:59:59Z", "open"),
        ("2026-11-25T10:00:01Z", "open"),
    ],
)
def test_a_word_counts_for_a_time(at: str, state: str) -> None:
    """92 days to the second, and not before it was given."""
    assert states(WELL, {"signed": word(at)})["signed"][0] == state


@given(
    st.dictionaries(
        st.sampled_from(["t.py::test_a", "t.py::test_b"]),
        st.sampled_from(["passed", "failed", "skipped"]),
    ),
    st.booleans(),
)
def test_ticked_means_all_passed(results: dict[str, Result], signed: bool) -> None:
    """No set of results ticks a box with a test that did not pass."""
    attested = {"both": word()} if signed else {}
    for each in judge(LIST, results, attested, NOW, AGE):
        if each.state == "ticked":
            assert all(results.get(test) == "passed" for test in each.box.tests)
            assert signed or not each.box.needs_a_word


def test_the_table_and_the_values_agree() -> None:
    """The same states in both, counted at the end; what would move a cursor is taken out."""
    judged = judge(LIST, WELL, {"signed": word()}, NOW, AGE)
    text = as_text(judged)
    assert text.endswith("2 ticked, 1 open, 0 failed\n")
    assert "Both  1 test, radgateway slo show  open" in text
    values = as_values(judged)
    assert [box["state"] for box in values["boxes"]] == ["ticked", "ticked", "open"]
    assert values["ready"] is False
    odd = Attestation(result="passed", by="a\x1b[2Jb", at="2026-11-20")
    assert "\x1b" not in as_text(judge(LIST, WELL, {"signed": odd}, NOW, AGE))


def test_results_are_by_id_and_the_worst_counts(tmp_path: Path) -> None:
    """Over parameters and over files: a test that failed once has failed."""
    one, other = tmp_path / "one.xml", tmp_path / "other.xml"
    one.write_text(JUNIT)
    other.write_text(JUNIT.replace('<failure message="no"/>', "").replace("test_plain", "test_y"))
    found = {
        "tests/slo/test_x.py::test_plain": "passed",
        "tests/slo/test_x.py::test_many": "failed",
        "tests/slo/test_x.py::test_left": "skipped",
    }
    assert load_results([one]) == found
    both = found | {"tests/slo/test_x.py::test_y": "passed"}
    assert load_results([one, other]) == load_results([other, one]) == both


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<testsuites>", "is not the XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        (None, "can't be read"),
    ],
)
def test_results_that_are_none_are_an_error(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    """And not an empty set, in which nothing has failed."""
    file = tmp_path / "results.xml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_results([file])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("boxes: {dnss: {result: passed, by: a, at: 2026-11-24}}", "did you mean 'dns'"),
        ("boxes: {metrics: {result: passed, by: a, at: 2026-11-24}}", "ticked by its tests"),
        ("boxes: {dns: {result: not_applicable, by: a, at: 2026-11-24}}", "passed or failed"),
        ("boxes: {dns: {result: passed, by: a, at: 3d}}", "must be RFC 3339"),
        ("boxes: {dns: {result: passed, at: 2026-11-24}}", "by"),
    ],
)
def test_words_that_do_not_fit_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """With the line: a misspelt box would else stay open for no visible reason."""
    file = tmp_path / "evidence.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_attested(file, load_checklist())


def test_the_command_shows_and_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 shown, 1 not ready, and 0 once everything is shown: by results and words for all of it."""
    assert main(["readiness"]) == 0
    assert "DNS records created and propagated" in capsys.readouterr().out
    assert main(["readiness", "--check"]) == 1

    boxes = load_checklist().boxes
    cases = "".join(
        f'<testcase classname="{file.removesuffix(".py").replace("/", ".")}" name="{name}"/>'
        for file, name in sorted({tuple(t.split("::")) for box in boxes for t in box.tests})
    )
    results = tmp_path / "results.xml"
    results.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    today = datetime.now(UTC).date()
    lines = "".join(
        f"  {box.id}: {{result: passed, by: grace, at: {today}}}\n"
        for box in boxes
        if box.needs_a_word
    )
    evidence = tmp_path / "evidence.yaml"
    evidence.write_text(f"boxes:\n{lines}")
    capsys.readouterr()
    all_of_it = ["readiness", "--tests", str(results), "--evidence", str(evidence)]
    assert main([*all_of_it, "--check", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ready"] is True
    assert len(shown["boxes"]) == 44
    assert main(["readiness", "--tests", str(tmp_path / "none.xml")]) == 2
