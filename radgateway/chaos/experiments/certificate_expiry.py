"""A provider's certificate has expired: a clear error, and another answers (phase 3)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.lab import Lab
from radgateway.chaos.sandbox import free_port, required

_EXPIRED_FOR_S = 30.0
_REASON = "certificate has expired"
_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Bits."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)


class _TLSProvider:
    """A provider's API over TLS on a port that stays, with a certificate that changes."""

    def __init__(self, authority: Any, port: int) -> None:
        self._authority = authority
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serving(self, *, expired: bool) -> AsyncIterator[None]:
        """Serve with a certificate that is good, or was until yesterday."""
        now = datetime.datetime.now(datetime.UTC)
        dates: dict[str, datetime.datetime] = {}
        if expired:
            day = datetime.timedelta(days=1)
            dates = {"not_before": now - 30 * day, "not_after": now - day}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost", **dates).configure_cert(context)
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=context)
        try:
            yield
        finally:
            server.close()
            # Connections that stand were made under the old certificate, and would live on.
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (len(_ANSWER), _ANSWER)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def _config(lab: Lab, port: int, ca_file: Path) -> dict[str, Any]:
    secured = {
        "kind": "openai",
        "base_url": f"https://localhost:{port}/v1",
        "api_key": "sandbox",
        "ca_file": str(ca_file),
        "breaker": {"window_s": 1, "min_calls": 10, "open_s": lab.s(5.0, 0.2)},
    }
    # The same address without a breaker and without anybody to fall back on.
    alone = {**secured, "breaker": None}
    return {
        "providers": {"secured": secured, "alone": alone, "other": {"kind": "mock"}},
        "models": {
            "m": {
                "candidates": [
                    {"provider": "secured", "weight": 80},
                    {"provider": "other", "weight": 20},
                ]
            },
            "alone": {"candidates": [{"provider": "alone"}]},
        },
    }


async def _conduct(lab: Lab) -> None:
    trustme = required("trustme", "trustme")
    sandbox = lab.sandbox()
    authority = trustme.CA()
    ca_file = sandbox.folder / "authority.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    provider = _TLSProvider(authority, free_port())
    lab.say("starting a gateway in a sandbox, and a provider over TLS")
    process = await sandbox.gateway(_config(lab, provider._port, ca_file))
    target = lab.target(process.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    load = target.load
    async with provider.serving(expired=False):
        await lab.steady_before(load)
    seconds = lab.s(_EXPIRED_FOR_S, 1.5)
    async with provider.serving(expired=True):
        lab.say(f"the provider's certificate has expired, for {seconds:.1f} s")
        alone = await load.one(model="alone")
        sample = await load.at_rate(lab.rate, seconds)
    during = lab.keep("during", sample)
    lab.expect("answered during", during.success_ratio, ">=", lab.limit("success_ratio"))
    others = during.providers.get("other", 0)
    lab.expect("of them by the other provider", others, "==", during.answered)
    limit_ms = lab.limit("slowest_ms")
    lab.expect("p99 during", during.p99_ms, "<=", limit_ms, " ms")
    clear = alone.status == 502 and alone.failure == "upstream_unreachable"
    lab.expect("alone: 502 upstream_unreachable", clear, "==", 1)
    lab.expect("alone: answered in", alone.latency_s * 1000, "<=", limit_ms, " ms")
    lab.expect("the log says why", _REASON in process.output, "==", 1)
    async with provider.serving(expired=False):
        async with load.running(lab.rate):

            async def closed() -> bool:
                return await target.api.circuit("secured") == "closed"

            await lab.until(closed, lab.s(lab.limit("recovery_s"), 5.0))
        await lab.steady_after(load, by="secured")


CERTIFICATE_EXPIRY = Experiment(
    name="certificate-expiry",
    phase="3: dependency resilience",
    hypothesis="An expired certificate is a clear TLS error at once, and another provider answers",
    blast_radius="one provider of a sandbox (the strategy: staging only)",
    method=(
        "A provider over TLS goes on with a certificate that expired yesterday, under load, "
        "and then with a good one"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits={
        "success_ratio": Limit(0.99, "share of requests answered meanwhile"),
        "slowest_ms": Limit(1000.0, "milliseconds: an error at once, and no hang"),
        "recovery_s": Limit(60.0, "seconds until the breaker is closed again"),
    },
)
