"""The configuration: every mistake in one go, with its line, and no secret in any message."""

from __future__ import annotations

from pathlib import Path

import pytest

from radgateway.config import ConfigError
from radgateway.incident.settings import IncidentConfig, load_incident_config

GOOD = """\
environment: production
sources: [{name: alertmanager, secret: "env:SOURCE"}]
responders: [{name: alice, secret: "env:ALICE"}]
slack: {war_room: "env:SLACK"}
statuspage: {page: kctbh9vrtdwd, token: "env:PAGE"}
"""
ENVIRON = {
    "SOURCE": "source-secret",
    "ALICE": "alice-secret",
    "SLACK": "https://hooks.slack.example.invalid/services/T0/B0/x",
    "PAGE": "page-secret",
}


def load(folder: Path, text: str, **environ: str) -> IncidentConfig:
    file = folder / "incident.yaml"
    file.write_text(text)
    return load_incident_config(file, ENVIRON | environ)


def problems(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environ)
    return str(caught.value).replace(str(folder), "")


def test_secrets_are_read_and_the_rest_has_defaults(tmp_path: Path) -> None:
    """The port is its own, so that it runs beside a gateway."""
    made = load(tmp_path, GOOD)
    assert made.responders[0].secret.reveal() == "alice-secret"
    assert (made.server.port, made.server.host) == (8095, "127.0.0.1")
    assert made.statuspage is not None
    assert not made.statuspage.auto_publish
    assert made.pagerduty is None


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Each with its line, and the nearest name."""
    text = GOOD.replace("statuspage:", "statuspgae:") + "keep_days: 1\nreopen_s: soon\n"
    found = problems(tmp_path, text)
    assert "/incident.yaml:5: statuspgae: unknown key; did you mean 'statuspage'?" in found
    assert "/incident.yaml:6: keep_days: must be at least 7" in found
    assert "/incident.yaml:7: reopen_s: must be a number" in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("responders: [{", "responders: []\n# [{"), "responders: must name at least one"),
        (("war_room", "everybody"), "slack: has no audience 'everybody'"),
        (("kctbh9vrtdwd", "../../x"), "statuspage.page: must be the page's id"),
        (('"env:PAGE"', "tok-in-plain"), "holds a secret in plain text; in production use env:"),
        (("env:PAGE", "env:NOBODY"), "the environment variable NOBODY is not set"),
    ],
)
def test_a_mistake_says_what_would_do(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    """In words for whoever writes the file."""
    assert message in problems(tmp_path, GOOD.replace(*change))


def test_two_keys_may_not_be_the_same(tmp_path: Path) -> None:
    """Whose would it be? And neither is shown, nor is an address that is none."""
    found = problems(tmp_path, GOOD, ALICE="source-secret", SLACK="not-set-by-anybody")
    assert "responders[0].secret: is another key's too" in found
    assert "slack.war_room: must be the address of an incoming webhook" in found
    assert "source-secret" not in found
    assert "not-set-by-anybody" not in found


def test_at_home_a_secret_may_be_in_the_file(tmp_path: Path) -> None:
    """To try it out."""
    text = GOOD.replace("environment: production\n", "").replace('"env:PAGE"', "page-secret")
    assert load(tmp_path, text).statuspage is not None
