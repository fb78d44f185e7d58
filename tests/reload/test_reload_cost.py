"""What a reload of a large configuration costs those who are being served."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from radgateway import create_gateway
from radgateway.config import load_config

PROVIDERS, KEYS = 100, 1000


def large(number: int) -> dict[str, Any]:
    """Providers and keys whose names and secrets are all of their own."""
    names = [f"p{number}-{each}" for each in range(PROVIDERS)]
    return {
        "keys": [
            {
                "name": f"k{each}",
                "secret": f"secret-{number}-{each}",
                "limits": [f"{number}/minute"],
            }
            for each in range(1, KEYS + 1)
        ],
        "providers": {
            name: {"kind": "openai", "base_url": "http://127.0.0.1:1", "api_key": f"key-{name}"}
            for name in names
        },
        "models": {
            f"m{each}": {"candidates": [{"provider": name}, {"provider": names[each - 1]}]}
            for each, name in enumerate(names)
        },
        "storage": {"usage": "memory://"},
    }


def test_a_large_configuration_does_not_stop_the_loop() -> None:
    """100 providers and 1,000 keys, all of them new: made in a thread, and the step in which they
    come into force takes the loop some milliseconds of its own time."""

    async def story() -> float:
        gateway = create_gateway(large(1))
        longest_s, ended = 0.0, False

        async def watch() -> None:
            nonlocal longest_s
            last = time.thread_time()
            while not ended:
                await asyncio.sleep(0)
                now = time.thread_time()
                longest_s, last = max(longest_s, now - last), now

        async with gateway.lifespan():
            made = await asyncio.to_thread(load_config, large(2), {})
            watching = asyncio.create_task(watch())
            diff = await gateway.reload(made)
            ended = True
            await watching
        assert len(diff.changes) > KEYS
        assert diff.shown()["more"] == len(diff.changes) - 50
        return longest_s

    assert asyncio.run(story()) < 0.05
