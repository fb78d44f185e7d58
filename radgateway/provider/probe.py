"""Probes: asking a provider now and then whether it is there, at no cost in tokens.

Off unless configured, since traffic tells more: a list of models that answers does not prove that
a generation would. So a probe informs, and no more. It opens and closes no breaker: what has
failed at generating is let in again by a call that generates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from radgateway.asgi import ASGIApp, Clock, Message, Scope, StreamBroken
from radgateway.exchange import ATTEMPT_KEY, Attempt
from radgateway.task_end import end_task

_log = logging.getLogger("radgateway.probe")

MODELS: Mapping[str, str] = {
    "openai": "/v1/models",
    "anthropic": "/v1/models",
    "gemini": "/v1beta/models",
}
"""Where each kind lists its models: it takes the credential, and costs nothing."""

_MISSING = frozenset({404, 405})
"""A server without such a list is there all the same."""
_JITTER = 0.1
"""Share of the interval by which each pause differs, so that replicas don't ask in step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """When and how a provider is asked."""

    interval_s: float = 30.0
    """Seconds between two probes, 1 to 3600; give or take a tenth."""
    path: str | None = None
    """On the provider's host, such as `/health`; null lists its models, an empty one connects."""
    timeout_s: float = 5.0
    """Seconds until it counts as failed, over 0 and at most `interval_s`."""

    def __post_init__(self) -> None:
        if not 1 <= self.interval_s <= 3600:
            raise ValueError(f"interval_s must be at least 1 and at most 3600: {self.interval_s}")
        if not 0 < self.timeout_s <= self.interval_s:
            raise ValueError(f"timeout_s must be over 0, at most interval_s: {self.timeout_s}")
        if self.path and not (self.path.startswith("/") and self.path.isprintable()):
            raise ValueError(f"path must begin with a slash or be empty, not {self.path!r}")


class ProbeResult(NamedTuple):
    """What one probe came to."""

    ok: bool
    reason: str | None
    """Why not: a code of the error catalogue, or `http_` and the status."""
    duration_s: float
    at: float
    """Unix seconds."""


Ask = Callable[[], Awaitable[str | None]]
"""One question to a provider: None where it is well, else the reason."""


def by_request(app: ASGIApp, path: str) -> Ask:
    """Asks with GET through an app that calls the provider, its `HTTPProvider`.

    An answer below 400 is well, and so is 404: it came from somewhere. 401 and 403 are not, as
    our credential would not serve a request either; 429 says busy, which is alive.
    """

    async def ask() -> str | None:
        attempt = Attempt("", "", time.monotonic())
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        with contextlib.suppress(StreamBroken):
            await app(_scope(path, attempt), receive, send)
        if attempt.failure is not None:
            return attempt.failure
        if status < 400 or status in _MISSING or status == 429:
            return None if status else "upstream_bad_response"
        return f"http_{status}"

    return ask


def by_connection(url: str, context: ssl.SSLContext | None = None) -> Ask:
    """Asks by opening a connection to a URL's host, with TLS for https, and closing it."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    tls = (context or ssl.create_default_context()) if secure else None

    async def ask() -> str | None:
        try:
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
        except OSError:  # ssl.SSLError is one
            return "upstream_unreachable"
        writer.close()
        return None

    return ask


def _scope(path: str, attempt: Attempt) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "state": {ATTEMPT_KEY: attempt},
    }


class Probes:
    """Asks each provider at its own interval, from one background task, and keeps the results."""

    def __init__(
        self,
        probes: Mapping[str, tuple[ProbeConfig, Ask]],
        *,
        rng: random.Random | None = None,
        clock: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.results: dict[str, ProbeResult] = {}
        """The last result by provider; none before the first."""
        self._probes = dict(probes)
        self._rng = rng or random.Random()
        self._clock = clock
        self._wall = wall
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin to ask, on the running loop; does nothing where there is nobody to ask."""
        if self._probes and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stop asking; a probe under way is cancelled."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, (config, ask) in self._probes.items():
                group.create_task(self._keep_asking(name, config, ask))

    async def _keep_asking(self, name: str, config: ProbeConfig, ask: Ask) -> None:
        pause_s = self._rng.uniform(0, min(config.interval_s, 1.0))
        while True:
            await asyncio.sleep(pause_s)
            self.results[name] = await self._asked(config, ask)
            pause_s = config.interval_s * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _asked(self, config: ProbeConfig, ask: Ask) -> ProbeResult:
        began = self._clock()
        try:
            async with asyncio.timeout(config.timeout_s):
                reason = await ask()
        except TimeoutError:
            reason = "total_timeout"
        except Exception:  # one probe's bug must not end all of them
            _log.exception("radgateway.probe.failed")
            reason = "internal_error"
        return ProbeResult(reason is None, reason, self._clock() - began, self._wall())
