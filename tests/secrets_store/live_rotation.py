"""A gateway process under load, and a provider that takes the keys it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Process, started
from serving import Call, response

import radgateway
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.load import LoadGenerator, Sample
from radgateway.upstream.connect import connect

RATE_PER_S = 60.0
ROTATED = "rad_gateway_secrets_refreshes_total"
LIMIT_S = 20.0
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
).encode()
REFUSAL = json.dumps({"error": {"message": "no such key", "code": "invalid_api_key"}}).encode()


@dataclass
class Vendor:
    """A provider's API that takes some keys."""

    taken: set[str]
    last: str = ""
    """The key of the last call."""

    async def __call__(self, call: Call) -> None:
        found = re.search(rb"authorization: Bearer (\S+)", call.head, re.IGNORECASE)
        self.last = found[1].decode() if found else ""
        if self.last in self.taken:
            await call.say(response(ANSWER))
        else:
            await call.say(response(REFUSAL, "401 Unauthorized"))


class Live:
    """The process, and clients of it."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self._client = connect(max_connections=256)

    def load(self, key: str) -> LoadGenerator:
        """Requests with a key."""
        return LoadGenerator(self._client, self.url, "m", key)

    async def until_accepted(self, key: str) -> None:
        """Wait until a key lets in."""
        load = self.load(key)
        async with asyncio.timeout(LIMIT_S):
            while not (await load.one()).ok:
                await asyncio.sleep(0.02)

    async def until_rotated(self, times: int) -> None:
        """Wait until so many changes are in force, of all workers together."""
        api = GatewayAPI(self._client, self.url, "")
        async with asyncio.timeout(LIMIT_S):
            while await api.metric(ROTATED, outcome="rotated") != times:
                await asyncio.sleep(0.05)

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The fields of all lines of a name."""
        lines = [line for line in self.process.lines if f'"message":"{message}"' in line]
        return [json.loads(line)["fields"] for line in lines]

    async def aclose(self) -> None:
        """Close the clients."""
        await self._client.aclose()


@contextlib.asynccontextmanager
async def live(
    folder: Path, config: Mapping[str, Any], environ: Mapping[str, str], *, workers: int = 1
) -> AsyncIterator[Live]:
    """Serve a configuration."""
    (folder / "gateway.yaml").write_text(json.dumps(config))
    command = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    here = {"PYTHONPATH": str(Path(radgateway.__file__).parents[1])}
    with started([*command, "--workers", str(workers)], folder, here | dict(environ)) as process:
        found = await asyncio.to_thread(process.wait_for, r" on (http://\S+)")
        await asyncio.to_thread(process.wait_until_ready, workers)
        gateway = Live(process, found[1])
        try:
            yield gateway
        finally:
            await gateway.aclose()


def failed(*samples: Sample) -> dict[str, int]:
    """What failed in samples, by why."""
    found: dict[str, int] = {}
    for sample in samples:
        for why, times in sample.figures().failures.items():
            found[why] = found.get(why, 0) + times
    return found
