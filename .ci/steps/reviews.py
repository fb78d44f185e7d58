"""What people have approved, from GitHub's answers.

    python -m steps.reviews code PULLS.json REVIEWS.json    who approved what was merged
    python -m steps.reviews pull PULLS.json                  the number of that pull request
    python -m steps.reviews deployment APPROVALS.json        who approved production

Prints a name a line, and nothing where there is nobody.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Answers = Sequence[Mapping[str, Any]]


def merged_pull(pulls: Answers) -> Mapping[str, Any] | None:
    """The pull request by which a commit came, if it did."""
    return next((each for each in pulls if each["merged_at"]), None)


def reviewers(pull: Mapping[str, Any], reviews: Answers) -> list[str]:
    """Those who stand behind what was merged: their latest word counts, and the author's doesn't.

    A comment takes nothing back; an approval of an earlier state is none of this one.
    """
    latest: dict[str, Mapping[str, Any]] = {}
    for each in reviews:
        if each["state"] != "COMMENTED":
            latest[each["user"]["login"]] = each
    return sorted(
        who
        for who, word in latest.items()
        if who != pull["user"]["login"]
        and word["state"] == "APPROVED"
        and word["commit_id"] == pull["head"]["sha"]
    )


def approvers(approvals: Answers) -> list[str]:
    """Those who let this run into production."""
    return sorted(
        {
            each["user"]["login"]
            for each in approvals
            if each["state"] == "approved"
            and any(place["name"] == "production" for place in each["environments"])
        }
    )


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; an answer that can't be read is a traceback, and no approval."""
    verb, *files = arguments
    answers = [json.loads(Path(file).read_text()) for file in files]
    names: list[str]
    if verb == "deployment":
        names = approvers(answers[0])
    else:
        pull = merged_pull(answers[0])
        if pull is None:
            names = []
        else:
            names = [str(pull["number"])] if verb == "pull" else reviewers(pull, answers[1])
    for each in names:
        print(each)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
