"""Slack, Statuspage and PagerDuty on this machine, as strict as they are, and with their troubles.

The forms, lengths, headers and statuses are those of their references. Each may be told to answer
its next requests badly: a status, `hang` (no answer), `cut` (the connection ends before anything
was done), or `lose` (it is done, and the answer gets lost).
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

STATUSES = ("investigating", "identified", "monitoring", "resolved")
TOKEN = "statuspage-token-of-the-test"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"
PAGE = "kctbh9vrtdwd"
Trouble = int | str


@dataclass
class Services:
    """All three, and what they have got."""

    url: str = ""
    slack: list[tuple[str, str]] = field(default_factory=list)
    """Which webhook, and the text."""
    page: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The incidents of the status page, oldest first; each with its updates, newest first."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What they would have refused in earnest, and why."""
    trouble: dict[str, deque[Trouble]] = field(default_factory=dict)
    """What each answers next: by `slack`, `statuspage`, `pagerduty`."""
    asked: list[str] = field(default_factory=list)
    """Every request, as it came."""
    released: threading.Event = field(default_factory=threading.Event)
    last_page_request: float = -10.0
    throttles: bool = True

    def troubled(self, service: str, *troubles: Trouble) -> None:
        """Have a service answer its next requests so."""
        self.trouble.setdefault(service, deque()).extend(troubles)

    def updates(self) -> list[list[tuple[str, str]]]:
        """The status and words of each update, oldest first, for each incident of the page."""
        return [
            [(u["status"], u["body"]) for u in reversed(incident["incident_updates"])]
            for incident in self.page.values()
        ]


class _Answer(Exception):
    """An answer that ends the request."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}


class _Handler(http.server.BaseHTTPRequestHandler):
    services: Services
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test tells what was got."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.partition("?")[0]
        self.services.asked.append(f"{self.command} {path}")
        service = {"services": "slack", "v1": "statuspage"}.get(path.split("/")[1], "pagerduty")
        waiting = self.services.trouble.get(service)
        trouble = waiting.popleft() if waiting else None
        if trouble == "cut":
            self.close_connection = True
            return
        if trouble == "hang":
            self.services.released.wait(30)
            self.close_connection = True
            return
        try:
            if isinstance(trouble, int):
                headers = {"retry-after": "7"} if trouble == 429 else {}
                raise _Answer(trouble, {"error": "trouble"}, headers)
            getattr(self, f"_{service}")(path, json.loads(body) if body else None)
        except _Answer as answer:
            if trouble == "lose":
                self.close_connection = True
                return
            if answer.status in (400, 401, 422):
                self.services.refused.append(f"{self.command} {path}: {answer.body}")
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    def _slack(self, path: str, body: Any) -> None:
        if not isinstance(body, dict):
            raise _Answer(400, "invalid_payload")
        text = body.get("text")
        if not isinstance(text, str) or not 0 < len(text) <= 40_000:
            raise _Answer(400, "no_text")
        self.services.slack.append((path.rpartition("/")[2], text))
        raise _Answer(200, "ok")

    def _pagerduty(self, path: str, body: Any) -> None:
        if path != "/v2/change/enqueue":
            raise _Answer(404, {})
        payload = body.get("payload", {})
        wrong = [
            name
            for name, good in (
                ("routing_key", body.get("routing_key") == ROUTING_KEY),
                ("payload.summary", 0 < len(payload.get("summary", "")) <= 1_024),
                ("payload.timestamp", "T" in payload.get("timestamp", "T")),
                ("payload.custom_details", isinstance(payload.get("custom_details", {}), dict)),
                ("fields", set(body) <= {"routing_key", "payload", "links", "images"}),
                ("payload", set(payload) <= {"summary", "timestamp", "source", "custom_details"}),
            )
            if not good
        ]
        if wrong:
            raise _Answer(400, {"status": "invalid event", "errors": wrong})
        self.services.changes.append(payload)
        raise _Answer(202, {"status": "success", "message": "Change event processed"})

    def _statuspage(self, path: str, body: Any) -> None:
        services = self.services
        if self.headers.get("authorization") != f"OAuth {TOKEN}":
            raise _Answer(401, {"error": "Could not authenticate"})
        now = time.monotonic()
        if services.throttles and now - services.last_page_request < 0.99:  # a timer may be early
            services.refused.append(f"throttled: {self.command} {path}")
            raise _Answer(420, {"error": "Please slow down your requests."})
        services.last_page_request = now
        prefix = f"/v1/pages/{PAGE}/incidents"
        if not path.startswith(prefix):
            raise _Answer(404, {"error": "Not found"})
        name = path.removeprefix(prefix).removeprefix("/")
        if self.command == "GET" and not name:
            raise _Answer(200, list(reversed(services.page.values())))
        if self.command == "POST" and not name:
            raise _Answer(201, self._new(body))
        if name not in services.page:
            raise _Answer(404, {"error": "Not found"})
        if self.command == "PATCH":
            self._update(services.page[name], body.get("incident", {}))
        raise _Answer(200, services.page[name])

    def _new(self, body: Any) -> dict[str, Any]:
        said = body.get("incident", {})
        if not 0 < len(said.get("name", "")) <= 255:
            raise _Answer(422, {"error": ["Name can't be blank"]})
        if said.get("impact_override") not in (None, "none", "minor", "major", "critical"):
            raise _Answer(422, {"error": ["impact_override is invalid"]})
        if not all(isinstance(value, dict) for value in said.get("metadata", {}).values()):
            raise _Answer(422, {"error": ["metadata values must be objects"]})
        made = {
            "id": f"page{len(self.services.page) + 1}",
            "name": said["name"],
            "impact": said.get("impact_override"),
            "metadata": said.get("metadata", {}),
            "incident_updates": [],
        }
        self._update(made, said)
        self.services.page[made["id"]] = made
        return made

    def _update(self, incident: dict[str, Any], said: dict[str, Any]) -> None:
        if said.get("status") not in STATUSES or not 0 < len(said.get("body", "")) <= 25_000:
            raise _Answer(422, {"error": ["status or body is invalid"]})
        update = {"id": f"u{time.monotonic_ns()}", "status": said["status"], "body": said["body"]}
        incident["incident_updates"].insert(0, update)
        incident["status"] = said["status"]


@contextlib.contextmanager
def services() -> Iterator[Services]:
    """All three on one port of this machine."""
    made = Services()
    handler = type("Handler", (_Handler,), {"services": made})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        made.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
