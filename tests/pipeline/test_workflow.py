"""The workflow as data: its jobs are the strategy's, and nothing in it has more than it needs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from ops_tools import ROOT

FILE = ROOT / ".github" / "workflows" / "ci-cd-pipeline.yml"
TEXT = FILE.read_text()
Mapping = dict[str, Any]
WORKFLOW: Final[Mapping] = yaml.load(TEXT, yaml.BaseLoader)
JOBS: Final[Mapping] = WORKFLOW["jobs"]
NEEDED: Final = {
    "verify": {"contents": "read"},
    "build": {
        "contents": "read",
        "packages": "write",
        "id-token": "write",
        "attestations": "write",
    },
    "deploy-staging": {
        "contents": "read",
        "packages": "read",
        "attestations": "read",
        "pull-requests": "read",
        "id-token": "write",
    },
    "deploy-production": {
        "contents": "read",
        "packages": "read",
        "attestations": "read",
        "actions": "read",
        "id-token": "write",
    },
    "attach": {"contents": "write"},
    "publish": {"id-token": "write"},
}
"""What each job may do."""
TRUSTED: Final = {
    "actions/checkout",
    "actions/setup-python",
    "actions/upload-artifact",
    "actions/download-artifact",
    "actions/attest",
    "pypa/gh-action-pypi-publish",
}


def steps() -> Iterator[tuple[str, Mapping]]:
    for name, job in JOBS.items():
        for step in job["steps"]:
            yield name, step


def before(job: str) -> set[str]:
    """All jobs that have to be done before one."""
    needs = JOBS[job].get("needs", [])
    own = {needs} if isinstance(needs, str) else set(needs)
    return own.union(*(before(each) for each in own))


def test_it_starts_when_the_strategy_says() -> None:
    """Pull requests to main, pushes to main and release branches, published releases; no more."""
    assert WORKFLOW["on"] == {
        "pull_request": {"branches": ["main"]},
        "push": {"branches": ["main", "release/*"]},
        "release": {"types": ["published"]},
    }


def test_the_jobs_follow_each_other_as_the_strategy_says() -> None:
    """Verify, build, staging, production; what is published comes after production."""
    assert before("verify") == set()
    assert before("build") == {"verify"}
    assert before("deploy-staging") == {"verify", "build"}
    assert before("deploy-production") == {"verify", "build", "deploy-staging"}
    for last in ("attach", "publish"):
        assert before(last) == {"verify", "build", "deploy-staging", "deploy-production"}
    environments = {name: job.get("environment") for name, job in JOBS.items()}
    assert environments == {
        "verify": None,
        "build": None,
        "deploy-staging": "staging",
        "deploy-production": "production",
        "attach": None,
        "publish": "pypi",
    }


def test_a_pull_request_gets_no_further_than_verify() -> None:
    """And no job that it reaches sees a secret, or a token that can write."""
    assert JOBS["build"]["if"] == "github.event_name != 'pull_request'"
    assert JOBS["deploy-production"]["if"] == "github.event_name == 'release'"
    assert "secrets." not in json.dumps(JOBS["verify"])
    assert all("build" in before(name) for name in JOBS.keys() - {"verify", "build"})
    assert "pull_request_target" not in TEXT
    assert "workflow_run" not in TEXT


def test_no_job_can_run_after_one_that_failed() -> None:
    """`always()` and its like would go round a gate; only the evidence is kept of a failure."""
    for name, job in JOBS.items():
        assert not re.search(r"always\(|failure\(|cancelled\(", job.get("if", "")), name
    kept = [step["name"] for _, step in steps() if "if" in step]
    assert kept == ["Keep the evidence"]
    assert "continue-on-error" not in TEXT


@pytest.mark.parametrize("job", JOBS)
def test_a_job_may_only_what_it_needs(job: str) -> None:
    """Nothing by default, and each job its own few; every one has an end."""
    assert WORKFLOW["permissions"] == {}
    assert JOBS[job]["permissions"] == NEEDED[job]
    assert 0 < int(JOBS[job]["timeout-minutes"]) <= 120


def test_deployments_come_one_at_a_time() -> None:
    """And none is cut off by the next; only checks of a pull request that has moved on are."""
    for environment in ("staging", "production"):
        assert JOBS[f"deploy-{environment}"]["concurrency"] == {
            "group": f"deploy-{environment}",
            "cancel-in-progress": "false",
        }
    cancels = WORKFLOW["concurrency"]["cancel-in-progress"]
    assert cancels == "${{ github.event_name == 'pull_request' }}"


def test_every_action_is_pinned_by_its_commit() -> None:
    """By 40 hex digits, with the version beside it, the same commit everywhere; few, and known."""
    lines = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert len(lines) == sum("uses" in step for _, step in steps())
    pins: dict[str, tuple[str, str]] = {}
    for action, comment in lines:
        found = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})", action)
        assert found, action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
        assert pins.setdefault(found[1], (found[2], comment)) == (found[2], comment)
    assert pins.keys() == TRUSTED


def test_every_command_is_one_script_that_runs_here_too() -> None:
    """One line, a script of `.ci/` that is there, executable and explains itself."""
    scripts = set()
    for _, step in steps():
        if (line := step.get("run")) is None:
            continue
        assert "\n" not in line.strip()
        assert not re.search(r"[;&|`<>]|\$\(", line), line
        words = [word for word in line.split() if word.startswith(".ci/")]
        assert line.startswith(".ci/")
        scripts.update(words)
    for script in scripts - {".ci/run"}:
        assert os.access(ROOT / script, os.X_OK), script
        text = (ROOT / script).read_text()
        assert "set -euo pipefail" in text, script
        assert "--help" in text, script
    assert ".ci/canary" in scripts
    assert ".ci/gate" in scripts


def test_every_script_is_explained() -> None:
    """What the workflow calls to do something is in the table of its page."""
    page = (ROOT / "docs" / "how-to" / "pipeline.md").read_text()
    around = re.compile(r"\.ci/(with-keys|as-root) ")
    lines = [around.sub("", step["run"], count=1) for _, step in steps() if "run" in step]
    called = {Path(line.split()[0]).name for line in lines} - {"setup", "evidence", "kubeconfig"}
    assert {name for name in called if f"`{name}`" not in page} == set()


def test_nothing_from_outside_is_pasted_into_a_command() -> None:
    """Expressions go through the environment, so a branch's name can't be a command."""
    for name, step in steps():
        assert "${{" not in step.get("run", ""), f"{name}: {step['name']}"


def test_a_secret_goes_to_the_step_that_needs_it_alone() -> None:
    """Not to a job or a workflow, never to an action, and only through `.ci/with-keys`."""
    for job in JOBS.values():
        assert "secrets." not in json.dumps(job.get("env", {}))
    assert "env" not in WORKFLOW
    seen = 0
    for _, step in steps():
        assert "secrets." not in json.dumps(step.get("with", {}))
        if "secrets." in json.dumps(step.get("env", {})):
            seen += 1
            assert step["run"].startswith(".ci/with-keys "), step["name"]
    assert seen == 6


def test_checked_out_code_keeps_no_token() -> None:
    """Nothing that runs later finds one in the checkout."""
    checkouts = [step for _, step in steps() if "checkout@" in step.get("uses", "")]
    assert len(checkouts) == 5
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def order(job: str) -> list[str]:
    return [step.get("run", step.get("uses", "")) for step in JOBS[job]["steps"]]


def at(job: str, text: str) -> int:
    (found,) = (place for place, line in enumerate(order(job)) if text in line)
    return found


def test_a_gate_stands_before_what_it_guards() -> None:
    """No image before alpha's gate, no deployment before its own; push only what was scanned."""
    assert at("build", ".ci/gate local alpha") < at("build", ".ci/image")
    assert at("build", ".ci/image") < at("build", ".ci/scan-image") < at("build", ".ci/push-image")
    for job, gate, deploy in (
        ("deploy-staging", ".ci/gate alpha staging", ".ci/deploy staging"),
        ("deploy-production", ".ci/gate staging production", ".ci/deploy production"),
    ):
        assert at(job, gate) < at(job, ".ci/verify-provenance") < at(job, deploy)
    assert at("deploy-production", ".ci/deploy") + 1 == at("deploy-production", ".ci/canary")


def test_the_evidence_is_handed_from_job_to_job() -> None:
    """Each job begins with what the one before has kept, and keeps its own."""
    kept: dict[str, str] = {}
    fetched: dict[str, str] = {}
    for job, step in steps():
        if step.get("with", {}).get("name", "").startswith("evidence-"):
            into = kept if "upload" in step["uses"] else fetched
            into[job] = step["with"]["name"].removeprefix("evidence-")
    assert kept == {
        "verify": "verify",
        "build": "build",
        "deploy-staging": "staging",
        "deploy-production": "production",
    }
    assert fetched == {
        "build": "verify",
        "deploy-staging": "build",
        "deploy-production": "staging",
        "attach": "production",
    }


def test_what_is_attested_was_done_just_before() -> None:
    """`passed` is said by the step after the one that passed, and by no other."""
    assert at("verify", "add tests passed") > at("verify", ".ci/run")
    assert at("build", "add image_build passed") > at("build", ".ci/push-image")
    smoke = at("deploy-staging", "add smoke_tests passed")
    assert smoke == at("deploy-staging", ".ci/deploy staging") + 1
    tests = at("deploy-staging", "add integration_tests passed")
    assert tests == at("deploy-staging", ".ci/integration-test") + 1


def test_what_is_deployed_is_a_digest() -> None:
    """The one that was pushed: no job after the build names a tag."""
    assert JOBS["build"]["outputs"]["image"] == (
        "${{ steps.push.outputs.name }}@${{ steps.push.outputs.digest }}"
    )
    for job in ("deploy-staging", "deploy-production"):
        assert JOBS[job]["env"]["IMAGE"] == "${{ needs.build.outputs.image }}"


def test_main_is_protected_by_the_job_that_checks_it() -> None:
    """The ruleset to import asks for a review and for the check under the name it has."""
    ruleset = json.loads((ROOT / ".github" / "rulesets" / "main.json").read_text())
    rules = {each["type"]: each.get("parameters", {}) for each in ruleset["rules"]}
    assert ruleset["bypass_actors"] == []
    assert rules.keys() >= {"deletion", "non_fast_forward"}
    assert rules["pull_request"]["required_approving_review_count"] >= 1
    assert rules["pull_request"]["require_last_push_approval"] is True
    checks = rules["required_status_checks"]["required_status_checks"]
    assert [each["context"] for each in checks] == [JOBS["verify"]["name"]]
    assert ruleset["conditions"]["ref_name"]["include"] == [
        "~DEFAULT_BRANCH",
        "refs/heads/release/*",
    ]
