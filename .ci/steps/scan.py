"""What grype's report on an image says, and whether it can be believed.

    python -m steps.scan REPORT SBOM ACCEPTED SUMMARY

Writes how many of which severity are left, as JSON, into SUMMARY. A report can be believed if it is
grype's, of an image, made with a database of the last days; and if the bill of materials lists
what we know to be in there.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from steps.accepted import Vulnerability, load_accepted, not_accepted

BAD: Final = "critical"
MAX_AGE: Final = timedelta(days=5)
"""Of the database: grype's own limit."""
ALWAYS_IN: Final = frozenset({"httpx", "msgspec", "uvicorn"})
"""A bill of materials without these is not one of our image."""


def components(sbom: Mapping[str, Any]) -> set[str]:
    """The names in a CycloneDX bill of materials. Raises `ValueError` if it can't be ours."""
    if sbom["bomFormat"] != "CycloneDX":
        raise ValueError("the bill of materials is not CycloneDX")
    if sbom["metadata"]["component"]["name"] != "radgateway":
        raise ValueError("the bill of materials is of something else")
    names = {each["name"].lower() for each in sbom.get("components", [])}
    if missing := ALWAYS_IN - names:
        raise ValueError(f"the bill of materials does not have {', '.join(sorted(missing))}")
    return names


def vulnerabilities(report: Mapping[str, Any], now: datetime) -> list[Vulnerability]:
    """All that were found. Raises `ValueError` for a report that can't be believed."""
    descriptor = report["descriptor"]
    if descriptor["name"] != "grype":
        raise ValueError(f"a report of {descriptor['name']!r}, not of grype")
    if report["source"]["type"] != "image":
        raise ValueError(f"a report on {report['source']['type']!r}, not on an image")
    age = now - datetime.fromisoformat(descriptor["db"]["status"]["built"])
    if not timedelta(days=-1) < age < MAX_AGE:
        raise ValueError(f"the database is {age.days} days old")
    if report.get("ignoredMatches"):
        raise ValueError("grype was told to ignore something; only .ci/accepted.toml may say that")
    return [_vulnerability(each) for each in report["matches"]]


def _vulnerability(match: Mapping[str, Any]) -> Vulnerability:
    found, artifact = match["vulnerability"], match["artifact"]
    related = (each["id"] for each in match.get("relatedVulnerabilities", []))
    return Vulnerability(
        artifact["name"],
        artifact["version"],
        tuple(dict.fromkeys((found["id"], *related))),
        found["severity"].lower(),
        tuple(found.get("fix", {}).get("versions", ())),
    )


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 nothing critical, 1 something is, 2 not known."""
    report, sbom, accepted, summary = map(Path, arguments)
    now = datetime.now(UTC)
    try:
        entries = load_accepted(accepted, now.date())
        count = len(components(json.loads(sbom.read_text())))
        found = vulnerabilities(json.loads(report.read_text()), now)
    except (ValueError, OSError) as error:
        print(f"scan-image: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, AttributeError) as error:
        print(f"scan-image: a report without what it must have: {error}", file=sys.stderr)
        return 2
    left = not_accepted(found, entries)
    severities = Counter(each.severity for each in left)
    summary.write_text(json.dumps({"critical": severities["critical"], "high": severities["high"]}))
    for each in sorted(left, key=lambda each: (each.severity != BAD, each)):
        print(each)
    shown = ", ".join(f"{number} {name}" for name, number in sorted(severities.items())) or "none"
    print(f"{count} components: {shown}; {len(found) - len(left)} accepted")
    return 1 if severities[BAD] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
