"""What the incident app answers, as text that people read in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from radgateway.incident.words import span

Shown = Mapping[str, Any]


def incidents(found: Sequence[Shown]) -> str:
    """A line for each incident."""
    if not found:
        return "No incidents.\n"
    rows = [["ID", "SEVERITY", "STATE", "STARTED", "FIRING", "TITLE"]]
    for each in found:
        firing = sum(alert["status"] == "firing" for alert in each["alerts"])
        started = each["startedAt"][:16].replace("T", " ")
        rows.append(
            [each["id"], each["severity"], each["state"], started, str(firing), each["title"]]
        )
    return _aligned(rows)


def incident(found: Shown) -> str:
    """All of one."""
    return "\n".join(_incident(found)) + "\n"


def _incident(found: Shown) -> Iterator[str]:
    yield f"{found['id']} {found['severity']} {found['state']}: {_plain(found['title'])}"
    verdict = (found["verdict"] or "not judged yet").replace("_", " ")
    yield f"Began {found['startedAt']}, verdict: {verdict}"
    for alert in found["alerts"]:
        yield f"  {alert['status']:8}  {_plain(alert['name'])}: {_plain(alert['description'])}"
        if alert["runbook"]:
            yield f"            {_plain(alert['runbook'])}"
    yield ""
    for entry in found["timeline"]:
        said = f": {_plain(entry['text'])}" if entry["text"] else ""
        yield f"{entry['at']}  {_plain(entry['by'])}  {entry['what']}{said}"
    for draft in found["drafts"]:
        if draft["state"] in ("draft", "failed"):
            yield ""
            yield f"Draft {draft['number']} for the status page waits ({draft['state']}):"
            yield from _quoted(draft)


def draft(found: Shown) -> str:
    """A draft as the public would read it."""
    return "\n".join(_quoted(found)) + "\n"


def _quoted(found: Shown) -> Iterator[str]:
    yield f"  [{found['status'].capitalize()}] {_plain(found['name'])}"
    for line in found["body"].splitlines():
        yield f"  {_plain(line)}"


def review(found: Shown) -> str:
    """The weekly review."""
    return "\n".join(_review(found)) + "\n"


def _review(found: Shown) -> Iterator[str]:
    yield f"Incidents from {found['since']} until {found['until']}: {found['incidents']}"
    yield ""
    rows = [["ALERTS OF", "INCIDENTS", "FALSE", "UNMARKED", "FALSE POSITIVES"]]
    for each in (*found["priorities"], *found["alerts"]):
        ratio = each["falsePositiveRatio"]
        rows.append(
            [
                each["name"],
                str(each["incidents"]),
                str(each["falsePositives"]),
                str(each["unmarked"]),
                "?" if ratio is None else f"{100 * ratio:.1f} %",
            ]
        )
    yield _aligned(rows)
    yield f"Answered later than their severity allows: {found['answeredLate']}"
    for name, what in (("medianAcknowledgeS", "acknowledged"), ("medianResolveS", "over")):
        if found[name] is not None:
            yield f"Half were {what} within {span(found[name])}"
    limit = f"{100 * found['falsePositiveMax']:.0f} %"
    yield f"False positives of P1 under {limit}: {found['verdict']}"
    if found["verdict"] == "unmeasurable":
        yield "Mark the others: radgateway incident verdict ID useful|false_positive"


def _aligned(rows: list[list[str]]) -> str:
    rows = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _plain(text: str) -> str:
    """What a terminal would obey is no text."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
