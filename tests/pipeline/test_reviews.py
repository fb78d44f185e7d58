"""Who has approved: on GitHub's word, of what was merged, and never the author of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pipeline.scripts import RUN, Programs, run
from steps.evidence import main
from steps.reviews import approvers, merged_pull, reviewers

Answer = dict[str, Any]
PULL: Answer = {
    "number": 12,
    "merged_at": "2026-11-24T10:00:00Z",
    "user": {"login": "author"},
    "head": {"sha": "new"},
}


def review(who: str, state: str = "APPROVED", sha: str = "new") -> Answer:
    return {"user": {"login": who}, "state": state, "commit_id": sha}


def approval(who: str, state: str = "approved", environment: str = "production") -> Answer:
    return {"user": {"login": who}, "state": state, "environments": [{"name": environment}]}


@pytest.mark.parametrize(
    ("reviews", "stand"),
    [
        ([review("grace")], ["grace"]),
        ([review("grace"), review("grace", "COMMENTED")], ["grace"]),
        ([review("grace"), review("grace", "CHANGES_REQUESTED")], []),
        ([review("grace", "CHANGES_REQUESTED"), review("grace")], ["grace"]),
        ([review("grace"), review("grace", "DISMISSED")], []),
        ([review("grace", sha="old")], []),
        ([review("author")], []),
        ([], []),
    ],
)
def test_a_review_counts_if_it_is_the_latest_word_on_what_was_merged(
    reviews: list[Answer], stand: list[str]
) -> None:
    """Not an earlier state's, not the author's own, not one that was taken back."""
    assert reviewers(PULL, reviews) == stand


STATES = st.sampled_from(["APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED"])


@given(st.lists(st.builds(review, st.sampled_from(["author", "a", "b"]), STATES,
                          st.sampled_from(["old", "new"]))))  # fmt: skip
def test_nobody_stands_behind_it_who_has_not_approved_it(reviews: list[Answer]) -> None:
    """Whatever was said in whatever order."""
    for who in reviewers(PULL, reviews):
        assert who != "author"
        assert review(who) in reviews


def test_a_commit_without_a_merged_pull_request_has_none() -> None:
    """An open or a closed one is none; the merged one is."""
    assert merged_pull([]) is None
    assert merged_pull([{**PULL, "merged_at": None}]) is None
    assert merged_pull([{**PULL, "merged_at": None}, PULL]) == PULL


def test_approvals_are_of_production_alone() -> None:
    """Each person once; a refusal and another environment don't count."""
    said = [
        approval("ada"),
        approval("ada"),
        approval("bob", "rejected"),
        approval("eve", environment="staging"),
    ]
    assert approvers(said) == ["ada"]


class GitHub:
    """`gh api`, with an answer for each path, and a run of the pipeline around it."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.answers = programs.folder.parent / "answers"
        self.answers.mkdir()
        self.evidence = programs.folder.parent / "evidence.yaml"
        self.environ = {**programs.environ, **RUN, "EVIDENCE": str(self.evidence)}
        programs.add("gh", f'cat "{self.answers}/${{2//\\//_}}"')
        assert main(["start", str(self.evidence)]) == 0

    def answer(self, path: str, content: list[Answer]) -> None:
        name = f"repos/{RUN['GITHUB_REPOSITORY']}/{path}".replace("/", "_")
        (self.answers / name).write_text(json.dumps(content))

    def reviewed(self, what: str) -> tuple[int, dict[str, Any]]:
        done = run("reviewed", what, env=self.environ)
        return done.returncode, yaml.safe_load(self.evidence.read_text())


@pytest.fixture
def github(programs: Programs) -> GitHub:
    return GitHub(programs)


def test_a_reviewed_commit_is_attested(github: GitHub) -> None:
    """With the run that has seen it."""
    github.answer(f"commits/{RUN['GITHUB_SHA']}/pulls", [PULL])
    github.answer("pulls/12/reviews?per_page=100", [review("grace")])
    code, evidence = github.reviewed("code")
    assert code == 0
    assert evidence["code_review"]["result"] == "passed"
    assert evidence["code_review"]["by"] == "CI run 4711, job verify"


@pytest.mark.parametrize("pulls", [[], [PULL]])
def test_a_commit_that_nobody_reviewed_is_not(github: GitHub, pulls: list[Answer]) -> None:
    """Nothing is written, and by that the gate stays shut."""
    github.answer(f"commits/{RUN['GITHUB_SHA']}/pulls", pulls)
    github.answer("pulls/12/reviews?per_page=100", [review("author")])
    code, evidence = github.reviewed("code")
    assert code == 0
    assert "code_review" not in evidence


def test_those_who_approved_production_are_named(github: GitHub) -> None:
    """As release managers, each with the run in which it was."""
    github.answer("actions/runs/4711/approvals", [approval("ada"), approval("bob", "rejected")])
    code, evidence = github.reviewed("deployment")
    assert code == 0
    (word,) = evidence["approvals"]
    assert (word["role"], word["by"]) == ("release_manager", "ada")
    assert word["link"] == "https://github.example/example/radgateway/actions/runs/4711"


@pytest.mark.parametrize("what", ["code", "deployment"])
def test_an_answer_that_does_not_come_fails(github: GitHub, what: str) -> None:
    """It is not taken for "nobody"."""
    code, evidence = github.reviewed(what)
    assert code != 0
    assert evidence.keys() == {"version", "type"}
