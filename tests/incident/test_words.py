"""Templates: the public's are the strategy's own words; Slack's and the postmortem's are golden."""

from __future__ import annotations

from pathlib import Path

import pytest
from incident.stories import BEGAN, alert, incident
from msgspec.structs import replace

from radgateway.incident import lifecycle
from radgateway.incident.notices import messages
from radgateway.incident.postmortem import postmortem
from radgateway.incident.public_words import drafted, with_draft, with_state
from radgateway.incident.record import Draft, Incident, PageStatus, Severity
from radgateway.incident.severity import SEVERITIES
from radgateway.incident.words import filled, span

GOLDEN = Path(__file__).parent / "golden"
INVESTIGATING = """\
[Investigating] RAD Gateway - Elevated Error Rates
We are investigating elevated error rates on the chat completions API.
Impact: Some requests may fail. Estimated: 5% of requests.
Started: {{timestamp}}
Next update: 30 minutes"""
RESOLVED = """\
[Resolved] RAD Gateway - Service Restored
The issue has been resolved. All services are operating normally.
Duration: {{duration}}
Root cause: {{brief_description}}
Postmortem: {{link}}"""


def shown(draft: Draft) -> str:
    """As the template has it: the status page shows status and name by themselves."""
    return f"[{draft.status.capitalize()}] {draft.name}\n{draft.body}"


def golden(name: str, text: str) -> None:
    """A text that somebody has read and found good."""
    assert text == (GOLDEN / name).read_text(), name


def test_the_first_update_is_the_strategys_word_for_word() -> None:
    """Its 7.4, with the time in its place, for the trouble that it has as an example."""
    record = drafted(None, incident(alert(ratio=0.05)), BEGAN + 60)
    (draft,) = record.drafts
    assert shown(draft) == INVESTIGATING.replace("{{timestamp}}", "2026-11-25 10:00 UTC")
    assert draft.name == "RAD Gateway - Elevated Error Rates"


def test_the_last_update_is_the_strategys_word_for_word() -> None:
    """With duration, cause and link."""
    record = lifecycle.resolved(incident(), BEGAN + 4_800, "alice")
    made = with_draft(
        record, "resolved", BEGAN + 9_000, cause="a full disk", link="https://pm.example.invalid"
    )
    expected = RESOLVED.replace("{{duration}}", "1 h 20 min")
    expected = expected.replace("{{brief_description}}", "a full disk")
    expected = expected.replace("{{link}}", "https://pm.example.invalid")
    assert shown(made.drafts[-1]) == expected


@pytest.mark.parametrize("status", ["identified", "monitoring"])
def test_the_updates_between(status: PageStatus) -> None:
    """They promise the next one, as the first does."""
    draft = with_draft(incident(alert(ratio=0.05)), status, BEGAN).drafts[-1]
    golden(f"status-{status}.txt", f"{shown(draft)}\n")
    assert "Next update: 30 minutes" in draft.body


def test_the_public_hears_nothing_of_the_inside() -> None:
    """No instance, provider or description of an alert gets into a draft."""
    inside = replace(alert(), description="db-7 of vendor X", labels={"instance": "10.0.0.7"})
    for status in ("investigating", "identified", "monitoring", "resolved"):
        draft = with_draft(incident(inside), status, BEGAN).drafts[-1]
        for word in ("db-7", "vendor", "10.0.0.7", "HighErrorRate"):
            assert word not in f"{draft.name}{draft.body}"


def bad(severity: Severity) -> Incident:
    return replace(incident(alert(ratio=0.05)), severity=severity)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_slack_is_told_by_severity(severity: Severity) -> None:
    """Each has its own words, and goes to whom the matrix says."""
    told = list(messages(None, bad(severity)))
    golden(f"slack-{severity.lower()}.txt", f"{told[0].body['text']}\n")
    if severity == "SEV-1":
        golden("slack-executives.txt", f"{told[1].body['text']}\n")
    assert {message.to for message in told} == {"slack"}
    whom = {"SEV-1": ["war_room", "executives"], "SEV-2": ["war_room"], "SEV-3": ["tickets"]}
    assert [m.body["audience"] for m in told] == whom.get(severity, ["backlog"])


def test_slack_hears_of_the_end() -> None:
    """How long it took, and what is left to do."""
    before = bad("SEV-2")
    (told,) = messages(before, lifecycle.resolved(before, BEGAN + 300, "alice"))
    golden("slack-resolved.txt", f"{told.body['text']}\n")


def test_an_alert_can_not_call_a_channel() -> None:
    """Its text is shown as it is."""
    loud = replace(alert(), description="<!channel> <https://evil.example.invalid|here> & more")
    (told,) = messages(None, incident(loud))
    text = told.body["text"]
    assert "&lt;!channel&gt; &lt;https://evil.example.invalid|here&gt; &amp; more" in text
    assert text.count("<!") == 1  # the template's own


def test_a_long_message_is_cut() -> None:
    """To what Slack shows; what is left out of many alerts is counted."""
    many = [replace(alert(fingerprint=str(n)), description="x" * 1_000) for n in range(20)]
    (told,) = messages(None, incident(*many))
    assert len(told.body["text"]) == 3_000
    few = [alert(fingerprint=str(n)) for n in range(7)]
    (told,) = messages(None, incident(*few))
    assert "- and 2 more" in told.body["text"]


def test_nobody_is_told_what_is_no_news() -> None:
    """A note, an acknowledgement, a better severity: the timeline is enough."""
    record = incident()
    for after in (
        lifecycle.noted(record, BEGAN, "alice", "note", "x"),
        lifecycle.acknowledged(record, BEGAN, "alice"),
        lifecycle.graded(record, "SEV-4", BEGAN, "alice", ""),
    ):
        assert list(messages(record, after)) == []


def test_the_postmortem_has_the_timeline() -> None:
    """Everything that is known is filled in; a text can't break its table."""
    record = incident(alert(ratio=0.05))
    record = lifecycle.acknowledged(record, BEGAN + 120, "alice")
    record = lifecycle.noted(record, BEGAN + 180, "alice", "note", "a | b\n# <script>")
    record = lifecycle.resolved(record, BEGAN + 600, "bob", "rolled back")
    golden("postmortem.md", postmortem(record))


def test_drafts_follow_what_happens() -> None:
    """One for the beginning, one for the mitigation, one for the end of what was made public."""
    first = drafted(None, incident(), BEGAN)
    second = drafted(first, lifecycle.responding(first, BEGAN + 100, "alice"), BEGAN + 100)
    assert [(d.status, d.state) for d in second.drafts] == [
        ("investigating", "withdrawn"),
        ("identified", "draft"),
    ]
    quiet = drafted(second, lifecycle.resolved(second, BEGAN + 200, "alice"), BEGAN + 200)
    assert {draft.state for draft in quiet.drafts} == {"withdrawn"}
    public = with_state(second, 2, "published")
    over = drafted(public, lifecycle.resolved(public, BEGAN + 200, "alice"), BEGAN + 200)
    assert [(d.status, d.state) for d in over.drafts][-1] == ("resolved", "draft")


def test_what_is_not_bad_is_not_public() -> None:
    """A SEV-3 has no draft, until somebody says that it is worse."""
    minor = incident(alert(priority="P2"))
    assert drafted(None, minor, BEGAN).drafts == ()
    worse = lifecycle.graded(minor, "SEV-1", BEGAN + 100, "alice", "data loss")
    assert [draft.status for draft in drafted(minor, worse, BEGAN + 100).drafts] == [
        "investigating"
    ]


def test_a_place_that_nothing_is_known_of_is_an_error() -> None:
    """And what is filled in is not looked at again."""
    with pytest.raises(KeyError, match="headline"):
        filled("status-monitoring.txt", timestamp="now")
    text = filled("status-monitoring.txt", headline="{{timestamp}}", timestamp="now")
    assert "RAD Gateway - {{timestamp}}" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 seconds"),
        (1, "1 second"),
        (59.6, "1 minute"),
        (3_600, "1 hour"),
        (4_800, "1 h 20 min"),
        (190_000, "2 d 4 h"),
    ],
)
def test_spans_are_said_as_people_say_them(seconds: float, words: str) -> None:
    """Rounded, the two largest units at most."""
    assert span(seconds) == words
