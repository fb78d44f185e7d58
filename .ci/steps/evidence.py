"""The evidence of a release: what CI attests, and what people attest beside it.

    python -m steps.evidence start FILE
    python -m steps.evidence add FILE ENTRY passed|failed
    python -m steps.evidence scan FILE SCAN.json
    python -m steps.evidence drill FILE passed|failed SECONDS
    python -m steps.evidence approve FILE ROLE PERSON
    python -m steps.evidence merge FILE PEOPLE.yaml

The form is `radgateway release evidence`'s. What CI attests nobody can attest in its place: an
entry that both have is an error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from radgateway import __version__
from radgateway.config.problems import ConfigError
from radgateway.release.evidence import load_evidence

_OURS: Final = ("CI run ", "a local run")
"""How `by` begins where CI has said it."""


class _Loader(yaml.SafeLoader):
    """Leaves times as they are written: `radgateway release` reads them from text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def type_of(version: str) -> str:
    """What a version's number says: x.0.0 is major, x.y.0 minor, all else a patch."""
    minor, patch = [*version.split("."), "", ""][1:3]
    if patch != "0":
        return "patch"
    return "minor" if minor != "0" else "major"


def said(environ: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Who says it, and when: the run of CI, with its address."""
    words: dict[str, Any] = {"by": "a local run", "at": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    if run := environ.get("GITHUB_RUN_ID"):
        words["by"] = f"CI run {run}, job {environ['GITHUB_JOB']}"
        words["link"] = (
            f"{environ['GITHUB_SERVER_URL']}/{environ['GITHUB_REPOSITORY']}/actions/runs/{run}"
        )
    return words


def merged(own: Mapping[str, Any], people: Mapping[str, Any]) -> dict[str, Any]:
    """Both together; people may say again what people have said at the gate before.

    Raises `ValueError` where they are of two versions, or people say what CI has said.
    """
    if people["version"] != own["version"]:
        raise ValueError(f"people attest {people['version']}, but this is {own['version']}")
    if people.get("revision", own.get("revision")) != own.get("revision"):
        raise ValueError(f"people attest the revision {people['revision']}, which this is not")
    for entry in sorted(own.keys() & people.keys()):
        if isinstance(own[entry], Mapping) and own[entry]["by"].startswith(_OURS):
            raise ValueError(f"{entry} is CI's to attest")
    approvals = list(own.get("approvals", ()))
    approvals += (each for each in people.get("approvals", ()) if each not in approvals)
    return {**own, **people, **({"approvals": approvals} if approvals else {})}


def _load(file: Path) -> dict[str, Any]:
    load_evidence(file)
    content: dict[str, Any] = yaml.load(file.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return content


def _change(verb: str, file: Path, rest: Sequence[str]) -> dict[str, Any]:
    words = said(os.environ, datetime.now(UTC))
    if verb == "start":
        # The image tells the same commit to Prometheus: no other build of this number is judged.
        built = {"revision": sha} if (sha := os.environ.get("GITHUB_SHA")) else {}
        return {"version": __version__, **built, "type": type_of(__version__)}
    evidence = _load(file)
    if verb == "add":
        entry, result = rest
        evidence[entry] = {"result": result, **words}
    elif verb == "scan":
        evidence["scan"] = {**json.loads(Path(rest[0]).read_text()), **words}
    elif verb == "drill":
        result, took_s = rest
        evidence["rollback"] = {"result": result, "took_s": int(took_s), **words}
    elif verb == "approve":
        role, person = rest
        approval = {"role": role, **words, "by": person}
        evidence["approvals"] = [*evidence.get("approvals", ()), approval]
    elif verb == "merge":
        evidence = merged(evidence, _load(Path(rest[0])))
    else:
        raise ValueError(f"{verb!r} is unknown; see .ci/evidence --help")
    return evidence


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 written, 2 it can't be."""
    verb, file, *rest = arguments
    target = Path(file)
    draft = target.with_suffix(".draft")
    try:
        draft.write_text(yaml.safe_dump(_change(verb, target, rest), sort_keys=False))
        load_evidence(draft)
        draft.replace(target)
    except (ConfigError, ValueError, OSError) as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    finally:
        draft.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
