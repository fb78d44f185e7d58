"""`.ci/audit` with the real pip-audit, against a service on loopback that answers as OSV does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ops_tools import ROOT
from pipeline.scripts import Programs, run
from steps.pins import read_pins

pytestmark = pytest.mark.ops

LOCK = """\
httpx==0.28.1 ; python_full_version < '3.12' \\
    --hash=sha256:{0}
httpx==0.29.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{0}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{0}
""".format("ab" * 32)


def vulnerability(package: str, id_: str) -> dict[str, Any]:
    span = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}
    affected = {"package": {"name": package, "ecosystem": "PyPI"}, "ranges": [span]}
    return {"id": id_, "aliases": ["CVE-2026-0001"], "summary": "bad", "affected": [affected]}


class Service:
    """What is known to be vulnerable, and what was asked about."""

    def __init__(self) -> None:
        self.known = {("jinja2", "2.4.1")}
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        service = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["content-length"])))
                pin = (question["package"]["name"], question["version"])
                service.asked.append(pin)
                vulns = [vulnerability(pin[0], "PYSEC-2026-1")] if pin in service.known else []
                body = json.dumps({"vulns": vulns} if vulns else {}).encode()
                self.send_response(service.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/query"


@pytest.fixture
def service() -> Iterator[Service]:
    osv = Service()
    thread = threading.Thread(target=osv.server.serve_forever, daemon=True)
    thread.start()
    yield osv
    osv.server.shutdown()
    osv.server.server_close()
    thread.join(5)


class Audit:
    """The script over a lock file of the test's."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.lock = folder / "lock.txt"
        self.lock.write_text(LOCK)
        self.accepted = folder / "accepted.toml"
        self.accepted.write_text("")
        self.environ = programs.environ

    def __call__(self, url: str, *files: Path) -> tuple[int, str]:
        locks = files or (self.lock,)
        done = run("audit", "--osv-url", url, "--accepted", self.accepted, *locks, env=self.environ)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def audit(tmp_path: Path, programs: Programs) -> Audit:
    return Audit(tmp_path, programs)


def test_no_known_vulnerability_passes(audit: Audit, service: Service) -> None:
    """Every pin was asked about, also that of another Python and of another platform."""
    code, said = audit(service.url)
    assert (code, said) == (0, "3 pins audited: 0 vulnerabilities, 0 accepted\n")
    assert set(service.asked) == {
        ("httpx", "0.28.1"),
        ("httpx", "0.29.0"),
        ("colorama", "0.4.6"),
        ("jinja2", "2.4.1"),
    }


def test_a_vulnerable_pin_fails(audit: Audit, service: Service) -> None:
    """Though it is not one of this platform; until somebody accepts it, for a time."""
    service.known.add(("colorama", "0.4.6"))
    code, said = audit(service.url)
    assert code == 1
    assert "VULNERABLE  colorama 0.4.6: " in said
    assert "CVE-2026-0001" in said
    today = datetime.now(UTC).date()
    entry = '[[accepted]]\nid = "CVE-2026-0001"\npackage = "colorama"\nreason = "why"\nuntil = '
    audit.accepted.write_text(f"{entry}{today + timedelta(days=7)}\n")
    assert audit(service.url)[0] == 0
    audit.accepted.write_text(f"{entry}{today - timedelta(days=2)}\n")
    assert audit(service.url)[0] == 2


def test_a_service_that_is_away_fails(audit: Audit, service: Service) -> None:
    """Nobody there, or nothing but errors."""
    assert audit("http://127.0.0.1:9/v1/query")[0] == 2
    service.status = 503
    assert audit(service.url)[0] == 2


def test_a_service_that_knows_nothing_fails(audit: Audit, service: Service) -> None:
    """It says that all is well; also of what is known to be bad."""
    service.known.clear()
    code, said = audit(service.url)
    assert code == 2
    assert "it can't be believed" in said


def test_our_own_locks_are_asked_about_whole(audit: Audit, service: Service) -> None:
    """Those of the image, of development and of the tools: pip-audit leaves out none."""
    files = [
        ROOT / name
        for name in ("constraints.txt", ".ci/image-requirements.txt", ".ci/ops-requirements.txt")
    ]
    code, said = audit(service.url, *files)
    assert code == 0, said
    pins = {(pin.name, pin.version) for file in files for pin in read_pins(file.read_text())}
    assert pins <= {(name, version) for name, version in service.asked}
