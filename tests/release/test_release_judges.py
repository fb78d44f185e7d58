"""Gates, go or no-go, exit criteria and rollback: each question's findings, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from release.release_evidence import APPROVALS, AT, NOW, SAID, attestation, attested

from radgateway import __version__
from radgateway.assembly.standing import running_version
from radgateway.config import GatewayConfig
from radgateway.config.schema import TelemetryConfig
from radgateway.release import exit_criteria, gate, go_no_go, rollback
from radgateway.release.evidence import Approval, Drill, Evidence, P1Review, Scan
from radgateway.release.finding import Finding, Judgement, Reading, Unmeasured
from radgateway.release.incidents import Incident, P1Tally
from radgateway.release.thresholds import Gates, Rollback, Thresholds
from radgateway.release.types import TYPES, Type
from radgateway.slo.triggers import TRIGGERS, Tracks

SERVED: Mapping[str, Reading] = {"serving": Decimal(2)}
STAGING: Mapping[str, Reading] = {
    "soak": Decimal(30),
    "error-rate": Decimal("0.001"),
    "overhead-p95": Decimal("0.02"),
    "first-token-p95": Decimal("0.4"),
}
GAP = Unmeasured("gap")


def shown(judgement: Judgement) -> dict[str, str]:
    return {finding.criterion: finding.verdict for finding in judgement.findings}


def named(judgement: Judgement, criterion: str) -> Finding:
    return next(each for each in judgement.findings if each.criterion.startswith(criterion))


# gates


@pytest.mark.parametrize("way", list(gate.GATES))
def test_a_gate_opens_where_all_of_it_is_there(way: tuple[str, str]) -> None:
    """The strategy's three."""
    judgement = gate.judge(*way, attested(), SERVED)
    assert (judgement.decision, judgement.exit_code) == ("GO", 0)


@pytest.mark.parametrize(
    ("way", "criteria"),
    [
        (("local", "alpha"), ["Tests pass"]),
        (
            ("alpha", "staging"),
            ["Image builds", "Security scan", "Code review", "Rollback within its time"],
        ),
        (
            ("staging", "production"),
            [
                "Smoke tests",
                "Integration tests",
                "Approval: release manager",
                "Approval: product",
                "Approval: engineering",
                "Deployment window",
                "Rollback within its time",
                "Instances in staging that serve 1.4.0",
            ],
        ),
    ],
)
def test_a_gate_asks_for_what_the_strategy_says(way: tuple[str, str], criteria: list[str]) -> None:
    """Its automated and its manual gates, and the time for a rollback."""
    assert list(shown(gate.judge(*way, attested(), SERVED))) == criteria


ENTRIES = {
    ("local", "alpha"): ["tests"],
    ("alpha", "staging"): ["image_build", "scan", "code_review", "rollback"],
    ("staging", "production"): ["smoke_tests", "integration_tests", "rollback"],
}
EACH = [(way, entry) for way, entries in ENTRIES.items() for entry in entries]


@pytest.mark.parametrize(("way", "entry"), EACH)
def test_a_gate_stays_shut_without_an_entry(way: tuple[str, str], entry: str) -> None:
    """Nobody has said that it failed; but nobody has said that it passed either."""
    judgement = gate.judge(*way, attested(**{entry: None}), SERVED)
    assert judgement.exit_code == 2
    assert any(f"the evidence has no {entry}" in each.why for each in judgement.findings)


@pytest.mark.parametrize(("way", "entry"), EACH)
def test_a_gate_stays_shut_by_an_entry_that_failed(way: tuple[str, str], entry: str) -> None:
    """Whatever else is good."""
    failed: Any = attestation("failed")
    if entry == "scan":
        failed = Scan(critical=1, high=0, **SAID)
    if entry == "rollback":
        failed = Drill(result="failed", took_s=10, **SAID)
    assert gate.judge(*way, attested(**{entry: failed}), SERVED).exit_code == 1


@pytest.mark.parametrize(
    ("way", "took_s", "code"),
    [
        (("alpha", "staging"), 900, 0),
        (("alpha", "staging"), 901, 1),
        (("staging", "production"), 300, 0),
        (("staging", "production"), 301, 1),
    ],
)
def test_a_rollback_has_its_time(way: tuple[str, str], took_s: int, code: int) -> None:
    """15 minutes to staging, 5 to production."""
    said = attested(rollback=Drill(result="passed", took_s=took_s, **SAID))
    assert gate.judge(*way, said, SERVED).exit_code == code


def test_the_time_of_a_rollback_is_configurable() -> None:
    """For each gate on its own."""
    drill = Drill(result="passed", took_s=90, **SAID)
    for name, code in (("staging_rollback_s", 0), ("production_rollback_s", 1)):
        said = attested(Thresholds(gates=Gates(**{name: 60})), rollback=drill)
        assert gate.judge("staging", "production", said, SERVED).exit_code == code


def test_staging_has_to_serve_the_very_version() -> None:
    """Smoke tests of another one say nothing about this one."""
    way = ("staging", "production")
    assert gate.judge(*way, attested(), {"serving": GAP}).exit_code == 2
    assert gate.judge(*way, attested(), {"serving": Decimal(0)}).exit_code == 1


def test_a_build_is_named_as_a_gateway_names_it() -> None:
    """The version in `rad_gateway_build_info`, with the commit and without."""
    for revision in ("3bbdefc", ""):
        config = GatewayConfig(telemetry=TelemetryConfig(revision=revision or None))
        said = Evidence(version=__version__, type="patch", revision=revision)
        assert said.build == running_version(config)
    with pytest.raises(ValueError, match="revision"):
        Evidence(version="1.4.0", type="minor", revision='"}')


def test_there_is_no_way_round_an_environment() -> None:
    """From alpha to production there is none; it says which there are."""
    with pytest.raises(ValueError, match="there are: local alpha, alpha staging, staging prod"):
        gate.gate("alpha", "production")


@pytest.mark.parametrize("kind", list(TYPES))
def test_each_type_of_release_has_its_approvals(kind: Type) -> None:
    """The release manager's for production, and the type's own; each of them is needed."""
    way = ("staging", "production")
    needed = {"release_manager", *TYPES[kind].approvals}
    assert gate.judge(*way, attested(type=kind), SERVED).exit_code == 0
    for role in needed:
        others = tuple(each for each in APPROVALS if each.role != role)
        assert gate.judge(*way, attested(type=kind, approvals=others), SERVED).exit_code == 2


def test_one_person_is_not_two() -> None:
    """A hotfix is approved by two people, whatever roles one of them has."""
    both = (
        Approval(role="release_manager", by="Ada", at=AT),
        Approval(role="sre_lead", by="ada ", at=AT),
    )
    judgement = gate.judge("staging", "production", attested(type="hotfix", approvals=both), SERVED)
    assert judgement.exit_code == 1
    assert "approved as release manager already" in named(judgement, "Approval: sre lead").why


def test_the_latest_approval_counts() -> None:
    """One that was given again after the first had grown too old."""
    old = tuple(replace(each, at="2026-10-01") for each in APPROVALS)
    way = ("staging", "production")
    assert gate.judge(*way, attested(approvals=old), SERVED).exit_code == 2
    assert gate.judge(*way, attested(approvals=(*old, *APPROVALS)), SERVED).exit_code == 0


def test_a_hotfix_needs_no_window_but_a_reason() -> None:
    """At night in a freeze; and without a reason it is no hotfix."""
    night = datetime(2026, 12, 31, 23, tzinfo=UTC)
    way = ("staging", "production")
    patient = Thresholds(evidence_max_age_h=8784)

    def code(**changes: Any) -> int:
        said = replace(attested(patient, **changes), now=night)
        return gate.judge(*way, said, SERVED).exit_code

    assert code(type="hotfix") == 0
    assert code() == 1
    assert code(type="hotfix", reason=" ") == 2


@pytest.mark.parametrize(
    ("at", "why"),
    [("2026-11-04T11:59:59Z", "over 168 hours ago"), ("2026-11-11T12:06:00Z", "in the future")],
)
def test_evidence_has_to_be_fresh(at: str, why: str) -> None:
    """Tests of last month were of something else; and tomorrow's have not been run."""
    judgement = gate.judge("local", "alpha", attested(tests=attestation(at=at)), {})
    assert judgement.exit_code == 2
    assert why in named(judgement, "Tests pass").why


# go or no-go


def test_all_criteria_met_is_a_go() -> None:
    """Nine boxes, of which two figures are looked at in two ways."""
    judgement = go_no_go.judge(attested(), STAGING)
    assert judgement.decision == "GO"
    assert len(judgement.findings) == 10


@pytest.mark.parametrize(
    ("figures", "changes", "decision", "code"),
    [
        ({"error-rate": "0.0049"}, {}, "GO", 0),
        ({"error-rate": "0.005"}, {}, "CONDITIONAL GO", 0),
        ({"error-rate": "0.01"}, {}, "CONDITIONAL GO", 0),
        ({"error-rate": "0.01"}, {"risk_assessment": None}, "CAN'T BE JUDGED", 2),
        ({"error-rate": "0.01"}, {"risk_assessment": attestation("failed")}, "NO-GO", 1),
        ({"error-rate": "0.0101"}, {}, "NO-GO", 1),
        ({"overhead-p95": "0.799"}, {}, "GO", 0),
        ({"overhead-p95": "0.8"}, {}, "GO with monitoring", 0),
        ({"first-token-p95": "1"}, {}, "GO with monitoring", 0),
        ({"first-token-p95": "1.001"}, {}, "NO-GO", 1),
        ({"soak": "24"}, {}, "GO", 0),
        ({"soak": "23.9"}, {}, "NO-GO", 1),
        ({}, {"scan": Scan(critical=0, high=1, **SAID)}, "NO-GO", 1),
        ({}, {"migration": attestation("failed")}, "NO-GO", 1),
        ({}, {"migration": None}, "CAN'T BE JUDGED", 2),
        ({}, {"migration": attestation("not_applicable")}, "GO", 0),
    ],
)
def test_the_decision_matrix(
    figures: dict[str, str], changes: dict[str, Any], decision: str, code: int
) -> None:
    """The strategy's five rows, and the holes in them filled: over 1 %, and what is minor."""
    read = {name: Decimal(value) for name, value in figures.items()}
    judgement = go_no_go.judge(attested(**changes), {**STAGING, **read})
    assert (judgement.decision, judgement.exit_code) == (decision, code)


@pytest.mark.parametrize("name", list(STAGING))
def test_a_figure_that_is_missing_is_no_go(name: str) -> None:
    """A Prometheus that is down does not open the way to production."""
    assert go_no_go.judge(attested(), {**STAGING, name: GAP}).exit_code == 2


BOXES = ("ci_checks", "scan", "migration", "rollback", "on_call_notified", "feature_flags")


@pytest.mark.parametrize("entry", BOXES)
def test_a_box_that_nobody_ticked_is_no_go(entry: str) -> None:
    """Of those that people and CI attest."""
    assert go_no_go.judge(attested(**{entry: None}), STAGING).exit_code == 2


# exit criteria


def well() -> dict[str, list[Reading]]:
    return {
        "availability": [Decimal("0.999")] * 7,
        "overhead-p95": [Decimal("0.01")] * 48,
        "first-token-p95": [Decimal("0.3")] * 48,
    }


def test_alpha_is_over_where_all_is_met() -> None:
    """Seven days, 48 hours, and what people attest."""
    judgement = exit_criteria.judge(attested(), well())
    assert (judgement.exit_code, len(judgement.findings)) == (0, 8)


@pytest.mark.parametrize("name", list(well()))
def test_one_bad_step_keeps_it_in_alpha(name: str) -> None:
    """A day, or an hour; and one without data leaves it unjudged."""
    bad = well()
    bad[name][3] = Decimal("0.9949")
    assert exit_criteria.judge(attested(), bad).exit_code == 1
    gap = well()
    gap[name][3] = GAP
    assert exit_criteria.judge(attested(), gap).exit_code == 2


@pytest.mark.parametrize(
    ("review", "code"),
    [
        (P1Review(alerts=100, false_positives=4, **SAID), 0),
        (P1Review(alerts=100, false_positives=5, **SAID), 1),
        (P1Review(alerts=0, false_positives=0, **SAID), 2),
        (P1Review(alerts=9, false_positives=0, by="ada", at="2024-01-01"), 2),
        (None, 2),
    ],
)
def test_alerts_have_to_be_worth_waking_for(review: P1Review | None, code: int) -> None:
    """Under 5 % of them for nothing. That none has fired yet is no proof."""
    assert exit_criteria.judge(attested(p1_review=review), well()).exit_code == code


@pytest.mark.parametrize(
    ("tally", "code"),
    [
        (P1Tally(100, 4, 0), 0),
        (P1Tally(100, 5, 0), 1),
        (P1Tally(100, 5, 90), 1),
        (P1Tally(100, 4, 1), 2),
        (P1Tally(0, 0, 0), 2),
        (GAP, 2),
    ],
)
def test_the_incident_app_knows_better_than_the_evidence(tally: Any, code: int) -> None:
    """Where it was asked. As long as one incident is not marked the ratio can't be good yet."""
    assert exit_criteria.judge(attested(), well(), tally).exit_code == code


@pytest.mark.parametrize("entry", ["scan", "penetration_test", "on_call_rotation", "runbooks"])
def test_what_people_attest_is_needed_too(entry: str) -> None:
    """No penetration test, no beta."""
    assert exit_criteria.judge(attested(**{entry: None}), well()).exit_code == 2


def test_a_penetration_test_stands_for_longer_than_a_release() -> None:
    """For a year."""
    for at, code in (("2025-11-12", 0), ("2025-11-09", 2)):
        said = attested(penetration_test=attestation(at=at))
        assert exit_criteria.judge(said, well()).exit_code == code


# rollback


def quiet() -> dict[str, list[Reading]]:
    well = {"availability": Decimal("0.99")}
    return {
        trigger.name: [well.get(trigger.name, Decimal(0))] * (trigger.failure_limit + 1)
        for trigger in TRIGGERS
    }


def test_nothing_wrong_is_no_rollback() -> None:
    """And that nobody was asked for incidents is said."""
    judgement = rollback.judge(quiet(), None, Rollback())
    assert (judgement.decision, judgement.exit_code) == ("STAY", 0)
    assert judgement.findings[-1].verdict == "not judged"


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("error-rate", "0.0501"),
        ("overhead-p95", "2.001"),
        ("first-token-p95", "2.001"),
        ("availability", "0.9499"),
        ("sev-1", "1"),
    ],
)
def test_each_trigger_rolls_back(name: str, figure: str) -> None:
    """Beyond its limit for all of its time; at the limit, or for a moment less, it does not."""
    row = quiet()
    row[name] = [Decimal(figure)] * len(row[name])
    assert rollback.judge(row, [], Rollback()).decision == "ROLL BACK"
    (trigger,) = (each for each in TRIGGERS if each.name == name)
    row[name] = [trigger.limit] * len(row[name])
    assert rollback.judge(row, [], Rollback()).decision == "STAY"
    if trigger.hold:
        row[name] = [trigger.limit, *[Decimal(figure)] * trigger.failure_limit]
        assert rollback.judge(row, [], Rollback()).decision == "STAY"


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("error-rate", Rollback(error_ratio=Decimal("0.01"))),
        ("overhead-p95", Rollback(p95_s=Decimal("0.01"))),
        ("first-token-p95", Rollback(p95_s=Decimal("0.01"))),
        ("availability", Rollback(availability=Decimal("0.99"))),
    ],
)
def test_a_trigger_s_limit_is_configurable(name: str, limits: Rollback) -> None:
    """What the strategy's bears, a stricter one does not."""
    row = quiet()
    row[name] = [Decimal("0.98" if name == "availability" else "0.04")] * len(row[name])
    assert rollback.judge(row, [], Rollback()).decision == "STAY"
    assert rollback.judge(row, [], limits).decision == "ROLL BACK"


@given(st.data())
def test_a_rollback_needs_every_moment_and_a_stay_needs_one(data: Any) -> None:
    """With gaps it is neither, unless one moment within the limit is known to be there."""
    (trigger,) = (each for each in TRIGGERS if each.name == "error-rate")
    moments = st.sampled_from([Decimal("0.2"), Decimal(0), GAP])
    size = trigger.failure_limit + 1
    row = data.draw(st.lists(moments, min_size=size, max_size=size))
    verdict = named(
        rollback.judge({**quiet(), "error-rate": row}, [], Rollback()), "error-rate"
    ).verdict
    if set(row) == {Decimal("0.2")}:
        assert verdict == "fail"
    elif row[-1] != GAP and Decimal(0) in row:
        assert verdict == "pass"
    else:
        assert verdict == "unmeasurable"


def test_a_trigger_holds_as_long_as_the_strategy_says() -> None:
    """5 % for two minutes, 2 s for five, and availability at once."""
    rows = rollback.queries(Tracks("a", "b"))
    held = {name: row.step_s * (row.steps - 1) for name, row in rows.items()}
    assert held == {
        "error-rate": 120,
        "overhead-p95": 300,
        "first-token-p95": 300,
        "availability": 0,
        "sev-1": 0,
    }


@pytest.mark.parametrize(
    ("incidents", "decision"),
    [
        ([], "STAY"),
        ([Incident("SEV-2", "slow")], "STAY"),
        ([Incident("SEV-2", "slow"), Incident("SEV-1", "all down")], "ROLL BACK"),
        (GAP, "CAN'T BE JUDGED"),
    ],
)
def test_a_sev_1_rolls_back(incidents: Any, decision: str) -> None:
    """Whatever the figures say."""
    assert rollback.judge(quiet(), incidents, Rollback()).decision == decision


def test_the_tests_time_is_in_the_window() -> None:
    """Or half of the above would show nothing."""
    assert named(gate.judge("staging", "production", attested(), SERVED), "Dep").verdict == "pass"
    assert NOW.tzinfo is UTC
