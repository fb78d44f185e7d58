"""The dependency scan: what is asked of pip-audit, and whether its reports are good.

    python -m steps.audit plan DIR FILE...      write DIR/round-N.txt and DIR/control.txt
    python -m steps.audit judge DIR ACCEPTED    read DIR/round-N.json and DIR/control.json

A report is good if it has an answer for every pin. The control is a release that is known to be
vulnerable: a service that doesn't know it knows nothing, though it says that all is well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from steps.accepted import Vulnerability, load_accepted, not_accepted
from steps.pins import read_pins, rounds

CONTROL: Final = f"jinja2==2.4.1 --hash=sha256:{'0' * 64}\n"
"""CVE-2016-10745 and more. It is only asked about, never installed, so its hash is nobody's."""


def plan(folder: Path, files: Sequence[Path]) -> None:
    """Write what to ask about. Raises `ValueError` or `OSError` for a file that has no pins."""
    pins = []
    for file in files:
        try:
            pins += read_pins(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    for number, each in enumerate(rounds(pins), start=1):
        (folder / f"round-{number}.txt").write_text("".join(f"{pin.line}\n" for pin in each))
    (folder / "control.txt").write_text(CONTROL)


def judge(folder: Path) -> tuple[int, list[Vulnerability]]:
    """How many pins were asked about, and what is wrong with them. Raises `ValueError`."""
    asked = sorted(folder.glob("round-*.txt"))
    if not asked:
        raise ValueError("nothing was asked about")
    if not _read(folder / "control.txt"):
        raise ValueError("the service knows nothing of jinja2 2.4.1, so it can't be believed")
    found = [each for file in asked for each in _read(file)]
    return sum(len(read_pins(file.read_text())) for file in asked), found


def _read(asked: Path) -> list[Vulnerability]:
    """What the report on a list of pins says."""
    report = asked.with_suffix(".json")
    pins = {(pin.name.lower(), pin.version) for pin in read_pins(asked.read_text())}
    try:
        answers = json.loads(report.read_text())["dependencies"]
        audited = {(each["name"].lower(), each["version"]): each["vulns"] for each in answers}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{report.name}: no report, or one that leaves something out") from None
    if missing := pins - audited.keys():
        name, version = min(missing)
        raise ValueError(f"{report.name}: {len(missing)} not audited, {name} {version} among them")
    return [_vulnerability(*key, each) for key, vulns in audited.items() for each in vulns]


def _vulnerability(package: str, version: str, found: Mapping[str, Any]) -> Vulnerability:
    return Vulnerability(
        package, version, (found["id"], *found["aliases"]), fixed_in=tuple(found["fix_versions"])
    )


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 good, 1 vulnerable, 2 not known."""
    verb, folder, *rest = arguments
    try:
        if verb == "plan":
            plan(Path(folder), [Path(each) for each in rest])
            return 0
        accepted = load_accepted(Path(rest[0]), datetime.now(UTC).date())
        count, found = judge(Path(folder))
    except (ValueError, OSError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    left = not_accepted(found, accepted)
    for each in left:
        print(f"VULNERABLE  {each}")
    print(f"{count} pins audited: {len(left)} vulnerabilities, {len(found) - len(left)} accepted")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
