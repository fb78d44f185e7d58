"""FakeInfisical: an Infisical server as far as a gateway asks it, to be broken at will.

It speaks HTTP on loopback from threads of its own, so that it answers while a loop waits. Paths,
parameters, forms and errors are those of Infisical's API: universal auth with tokens that end,
secrets by folder with imports, 401, 403, 404 and 429 with their bodies.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LOGIN = "/api/v1/auth/universal-auth/login"
_V4, _V3 = "/api/v4/secrets", "/api/v3/secrets/raw"
_HANGS_MOST_S = 60.0


class FakeInfisical:
    """A server with one project. Its attributes may be changed while it serves.

    `context` makes it speak TLS.
    """

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self.project_id = "9f2c7a1e-0000-4000-8000-rad0gateway0"
        self.environment = "prod"
        self.client_id = secrets.token_hex(16)
        self.client_secret = secrets.token_urlsafe(32)
        self.values: dict[str, dict[str, str]] = {"/": {}}
        """Secrets by folder, then by name."""
        self.imports: dict[str, list[Mapping[str, str]]] = {}
        """What a folder imports, in order."""
        self.hidden: set[str] = set()
        """Names whose value the identity may not read."""
        self.token_ttl_s = 7200.0
        self.old = False
        """Whether it is a version that has no `/api/v4/secrets` yet."""
        self.status: int | None = None
        """Answer everything with this status."""
        self.retry_after: str | None = None
        self.body: bytes | None = None
        """Answer lists with these bytes."""
        self.logins = 0
        self.lists = 0
        self._tokens: dict[str, float] = {}
        self._context = context
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._answering = threading.Event()
        self._answering.set()

    @property
    def url(self) -> str:
        """Where it serves; the port stays."""
        return f"{'https' if self._context else 'http'}://localhost:{self._port}"

    def __enter__(self) -> FakeInfisical:
        self.listen()
        return self

    def __exit__(self, *exception: object) -> None:
        self._answering.set()
        self.refuse()

    def listen(self) -> None:
        """Take connections, again on the same port after `refuse`."""
        self._server = server = _Server(self, self._port, self._context)
        self._port = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Refuse connections, and drop those that stand."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        server.server_close()
        server.drop()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections while the block runs."""
        self.refuse()
        try:
            yield
        finally:
            self.listen()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Take requests and leave them without an answer."""
        self._answering.clear()
        try:
            yield
        finally:
            self._answering.set()

    def settings(self, **more: Any) -> dict[str, Any]:
        """The section `secrets.infisical` for it, on a machine that has its credentials in
        `STORE_CLIENT_ID` and `STORE_CLIENT_SECRET`."""
        return {
            "url": self.url,
            "project_id": self.project_id,
            "environment": self.environment,
            "client_id": "env:STORE_CLIENT_ID",
            "client_secret": "env:STORE_CLIENT_SECRET",
            **more,
        }

    @property
    def environ(self) -> dict[str, str]:
        """The variables that `settings` refer to."""
        return {"STORE_CLIENT_ID": self.client_id, "STORE_CLIENT_SECRET": self.client_secret}

    def revoke_tokens(self) -> None:
        """Refuse all tokens given out so far."""
        self._tokens.clear()

    def answer(self, method: str, target: str, authorization: str, body: bytes) -> tuple[int, Any]:
        """The status and body for a request."""
        self._answering.wait(_HANGS_MOST_S)
        if self.status is not None:
            return self._error(self.status, "InternalServerError", "Something went wrong")
        parts = urlsplit(target)
        if (method, parts.path) == ("POST", _LOGIN):
            return self._login(json.loads(body))
        if method == "GET" and parts.path in ((_V3,) if self.old else (_V3, _V4)):
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            return self._list(query, authorization)
        return self._error(404, "Not Found", f"Route {method}:{parts.path} not found")

    def _login(self, asked: Mapping[str, str]) -> tuple[int, Any]:
        self.logins += 1
        if (asked["clientId"], asked["clientSecret"]) != (self.client_id, self.client_secret):
            return self._error(401, "UnauthorizedError", "Invalid credentials")
        token = secrets.token_urlsafe(48)
        self._tokens[token] = time.monotonic() + self.token_ttl_s
        return 200, {
            "accessToken": token,
            "expiresIn": self.token_ttl_s,
            "accessTokenMaxTTL": 2_592_000,
            "tokenType": "Bearer",
        }

    def _list(self, query: Mapping[str, str], authorization: str) -> tuple[int, Any]:
        self.lists += 1
        refusal = self._refusal(query, authorization.removeprefix("Bearer "))
        if refusal is not None:
            return refusal
        folder = query.get("secretPath", "/")
        if query.get("environment") != self.environment or folder not in self.values:
            return self._error(404, "NotFound", f"Folder with path '{folder}' not found")
        if self.body is not None:
            return 200, self.body
        imports = [
            {"secretPath": "/imported", "secrets": self._shown(each, "/imported")}
            for each in self.imports.get(folder, [])
        ]
        return 200, {"secrets": self._shown(self.values[folder], folder), "imports": imports}

    def _refusal(self, query: Mapping[str, str], token: str) -> tuple[int, Any] | None:
        if token not in self._tokens:
            message = "Invalid token" if token else "Token missing"
            return self._error(401, "UnauthorizedError", message)
        if time.monotonic() > self._tokens[token]:
            message = "Your token has expired. Please re-authenticate."
            return self._error(403, "TokenError", message)
        if query.get("projectId", query.get("workspaceId")) != self.project_id:
            return self._error(403, "PermissionDenied", "You are not a member of this project")
        return None

    def _shown(self, values: Mapping[str, str], folder: str) -> list[dict[str, Any]]:
        return [
            {
                "secretKey": name,
                "secretValue": "<hidden-by-infisical>" if name in self.hidden else value,
                "secretValueHidden": name in self.hidden,
                "secretPath": folder,
                "type": "shared",
                "version": 1,
                "workspace": self.project_id,
                "environment": self.environment,
                "secretComment": "",
            }
            for name, value in values.items()
        ]

    def _error(self, status: int, error: str, message: str) -> tuple[int, Any]:
        return status, {
            "reqId": f"req-{secrets.token_hex(6)}",
            "statusCode": status,
            "message": message,
            "error": error,
        }


class _Server(ThreadingHTTPServer):
    """Listens, and knows its connections."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, store: FakeInfisical, port: int, context: ssl.SSLContext | None) -> None:
        self.store = store
        self._context = context
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in a thread of its own."""
        self._connections.add(request)
        try:
            if self._context is not None:
                request = self._context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except OSError:
            pass  # a client that left, or does not trust us
        finally:
            self._connections.discard(request)
            if self._context is not None:
                request.close()

    def drop(self) -> None:
        """End the connections that stand."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, answer = self.server.store.answer(
            self.command, self.path, self.headers.get("authorization") or "", body
        )
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(payload)))
        if self.server.store.retry_after is not None:
            self.send_header("retry-after", self.server.store.retry_after)
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
