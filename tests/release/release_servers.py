"""HTTP servers for the tests that misbehave as servers do, on sockets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = Callable[[BaseHTTPRequestHandler, str, dict[str, str]], None]
"""Answers a request for a path with a query."""


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            with contextlib.suppress(ConnectionError):  # the client has had enough
                answer(self, parts.path, dict(parse_qsl(parts.query)))

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    """One whole response."""
    handler.send_response(status)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def replying(payload: Any, status: int = 200) -> Answer:
    """Always the same JSON."""
    return lambda handler, path, query: reply(handler, status, json.dumps(payload).encode())


def vector(*values: str) -> dict[str, Any]:
    """An instant query's answer as Prometheus writes it."""
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def matrix(*points: tuple[float, str]) -> dict[str, Any]:
    """A range query's answer with one series."""
    result = [{"metric": {}, "values": [list(point) for point in points]}] if points else []
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}
