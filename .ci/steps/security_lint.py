"""What bandit's report says: its findings of high severity, if it read all there is to read.

python -m steps.security_lint < report.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

BAD = frozenset({"HIGH", "CRITICAL"})


def high(report: Mapping[str, Any]) -> list[str]:
    """A line for each finding. Raises `ValueError` where something was not looked at."""
    if errors := report["errors"]:
        raise ValueError(f"{errors[0]['filename']} was not looked at: {errors[0]['reason']}")
    if not report["metrics"]["_totals"]["loc"]:
        raise ValueError("nothing was looked at")
    return [
        f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}"
        for each in report["results"]
        if each["issue_severity"] in BAD
    ]


def main(text: str) -> int:
    """Exit codes: 0 good, 1 findings, 2 not known."""
    try:
        found = high(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        print(f"lint-security: no whole report: {error}", file=sys.stderr)
        return 2
    for each in found:
        print(each)
    print(f"bandit: {len(found)} of high severity")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read()))
