"""Every page is gone through as somebody on call would: all it says to type, in its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runbooks.pages import PAGES, of
from runbooks.sandbox import Sandbox, sandbox

pytestmark = [pytest.mark.ops, pytest.mark.servers]
TYPED = [page for page in PAGES if len(of(page, "sh")) > 1]
ASKED = [page for page in PAGES if of(page, "promql")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all pages."""
    with sandbox(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_what_a_page_says_to_type_works(page: Path, here: Sandbox) -> None:
    """In one session that ends with the first command that fails; `sandbox` says what is real."""
    here.ready()
    session = here.type(page)
    assert session.returncode == 0, f"{session.stdout}\n{session.stderr}"


@pytest.mark.parametrize("page", ASKED, ids=lambda page: page.stem)
def test_what_a_page_asks_prometheus_it_answers(page: Path, here: Sandbox) -> None:
    """The real one, with the recording rules. Empty is no error: little is wrong here."""
    here.ready()
    for query in of(page, "promql"):
        here.watcher.query(query)


def test_evidence_is_what_was_there(here: Sandbox) -> None:
    """The security runbook leaves an audit with the wrong key's request, the ledger, and seals."""
    here.ready()
    home = here.folder / "security-incident"
    if not home.exists():
        (page,) = (page for page in TYPED if page.stem == "security-incident")
        assert here.type(page).returncode == 0
    evidence = home / "incident-evidence"
    assert '"outcome":"invalid_api_key"' in (evidence / "audit.log").read_text()
    assert "mobile-app" in (evidence / "usage.csv").read_text()
    assert (evidence / "ledger.dump").read_bytes().startswith(b"PGDMP")
    sealed = (evidence / "SHA256SUMS").read_text()
    assert {line.split("./")[1] for line in sealed.splitlines()} == {
        file.name for file in evidence.iterdir() if file.name != "SHA256SUMS"
    }
    secrets = ("the-key-of-a-caller", "the-key-of-an-admin")
    for file in evidence.iterdir():
        assert not any(secret.encode() in file.read_bytes() for secret in secrets), file.name


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("kubectl get pods --sellector a=b", "unknown flag: --sellector"),
        ("kubectl rollout restrat deployment/a", "unknown command"),
        ("kubectl apply --kustomize examples/kubernetes/overlays/nowhere", "nowhere"),
        ("kubectl exec --stdin deployment/a -- /bin/sh -c true < /dev/null", "no /bin/sh"),
        (
            "kubectl exec --stdin deployment/a -- /usr/bin/python3 -m radgateway check-config "
            "/dev/stdin < examples/alpha/compose.yaml",
            "unknown key",
        ),
        ("psql service=radgateway --command 'select no_such_column from usage'", "does not exist"),
        ("psql service=radgateway -x --command 'select 1'", "unrecognized arguments"),
        ('curl -s "$GATEWAY/v0/management/nothing"', ""),
        ("radgateway incident acknowledge", "required"),
        ("amtool silence qurey", "qurey"),
    ],
)
def test_a_mistake_is_found(here: Sandbox, tmp_path: Path, line: str, complaint: str) -> None:
    """The stand-ins refuse what the real ones would; a session ends with its mistake."""
    here.ready()
    page = tmp_path / f"{tmp_path.name}.md"
    page.write_text(f"```sh\nGATEWAY=http://here\n```\n\n```sh\n{line}\n```\n")
    session = here.type(page)
    assert session.returncode != 0
    assert complaint in session.stdout + session.stderr
