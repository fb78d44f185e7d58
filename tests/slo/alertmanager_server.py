"""A real Alertmanager with the generated configuration, and everybody whom it tells."""

from __future__ import annotations

import contextlib
import http.server
import json
import queue
import re
import shlex
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from slo.pagerduty_events import complaints
from slo.server_process import free_address, running
from slo_tools import ROOT, run, tool, written

from radgateway.slo.pack import artefacts
from radgateway.slo.routing import secret_files
from radgateway.slo.settings import Contacts, Settings


@dataclass
class People:
    """Those who are told, and what they got: a path or `mail`, and the message."""

    got: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    refused: list[str] = field(default_factory=list)
    """What PagerDuty would have refused, and why."""
    web: str = ""
    mail: str = ""


class _Web(http.server.BaseHTTPRequestHandler):
    """Takes what PagerDuty, Slack and the watchdog's service would."""

    people: People

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        wrong = complaints(body) if self.path == "/pagerduty" else []
        self.people.refused += wrong
        self.people.got.put((self.path, body))
        self.send_response(400 if wrong else 202 if self.path == "/pagerduty" else 200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test tells what it got."""


class _Mailbox(socketserver.StreamRequestHandler):
    """The least of SMTP that a message needs (RFC 5321)."""

    people: People

    def handle(self) -> None:
        say = self.wfile.write
        say(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"EHLO"):
                say(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif line.startswith(b"AUTH"):
                say(b"235 yes\r\n")
            elif line == b"DATA":
                say(b"354 go on\r\n")
                message = b""
                while not message.endswith(b"\r\n.\r\n"):
                    if not (more := self.rfile.readline()):
                        return  # the sender was ended in the middle of it
                    message += more
                self.people.got.put(("mail", message.decode()))
                say(b"250 taken\r\n")
            elif line == b"QUIT":
                say(b"221 bye\r\n")
                return
            else:
                say(b"250 ok\r\n")


@contextlib.contextmanager
def listening() -> Iterator[People]:
    """Everybody, on this machine."""
    people = People()
    web_handler = type("Web", (_Web,), {"people": people})
    mail_handler = type("Mailbox", (_Mailbox,), {"people": people})
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), web_handler)
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), mail_handler)
    with _serving(web) as web_port, _serving(mail) as mail_port:
        people.web, people.mail = f"http://127.0.0.1:{web_port}", f"127.0.0.1:{mail_port}"
        yield people


@contextlib.contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    port: int = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings_for(people: People, folder: Path) -> Settings:
    """The pack's settings with the addresses of people on this machine."""
    contacts = replace(
        Contacts(),
        pagerduty_url=f"{people.web}/pagerduty",
        watchdog_url=f"{people.web}/watchdog",
        incidents_url=f"{people.web}/incidents",
        smtp_smarthost=people.mail,
        secrets_dir=str(folder / "secrets"),
    )
    return Settings(contacts=contacts)


@contextlib.contextmanager
def alertmanager(
    folder: Path, people: People, change: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> Iterator[str]:
    """Its host and port. `change` makes its waits shorter, in the files of the pack."""
    settings = settings_for(people, folder)
    made = artefacts(settings)
    files = dict(change({name: text for name, text in made.items() if "alertmanager/" in name}))
    config = "alertmanager/alertmanager.yml"
    # A mailbox without TLS.
    files[config] = files[config].replace("global:\n", "global:\n  smtp_require_tls: false\n")
    for name in secret_files(settings):
        files[f"secrets/{name}"] = f"key-of-{name.removeprefix('pagerduty_')}"
    files["secrets/slack_url"] = f"{people.web}/slack"
    written(files, folder)
    own = free_address()
    command = [
        tool("prometheus-alertmanager", "alertmanager"),
        f"--config.file={folder / config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={own}",
        "--cluster.listen-address=",
    ]
    with running(command, folder, f"http://{own}/-/ready"):
        yield own


def alerts_at(address: str, **labels: str) -> Any:
    """The alerts with some labels that an Alertmanager knows, as its API shows them."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    answer = httpx.get(f"http://{address}/api/v2/alerts", params={"filter": wanted})
    return answer.raise_for_status().json()


def silence(address: str) -> str:
    """Silence a deployment with the command of the how-to, as it stands there; gives its id."""
    page = (ROOT / "docs" / "how-to" / "slo-pack.md").read_text()
    (command,) = re.findall(r"^amtool silence add (?:.*\\\n)*.*$", page, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " "))
    assert "--duration=15m" in words
    arguments = [word for word in words[1:] if "alertmanager.url" not in word]
    added = run("amtool", *arguments, f"--alertmanager.url=http://{address}")
    assert added.returncode == 0, added.stderr
    return added.stdout.strip()
