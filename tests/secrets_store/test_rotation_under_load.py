"""Keys rotated in a serving process: no request fails, and the old key is out in the end.

The steps are those of docs/how-to/secrets.md, from mounted files as Kubernetes swaps them and from
a store, with one worker and with two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from secrets_store.live_rotation import LIMIT_S, RATE_PER_S, Live, Vendor, failed, live
from secrets_store.store_config import CACHE_KEY
from serving import provider

from radgateway.chaos.fake_infisical import FakeInfisical

pytestmark = [pytest.mark.ops]

FIRST = {
    "CALLER": "the-callers-key-1",
    "NEXT": "nobody-has-this-key-yet-1",
    "ADMIN": "the-admins-key-1",
    "P": "sk-of-the-vendor-1",
}
Put = Callable[..., None]
"""Puts secrets where they are read from, by name."""


class Mounted:
    """A folder of secrets as the kubelet mounts one: links to links to a folder that is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values = dict(FIRST)
        self._version = 0
        folder.mkdir()
        self.put()
        for name in FIRST:
            (folder / name).symlink_to(f"..data/{name}")

    def put(self, **values: str) -> None:
        """Swap in a folder with these values changed."""
        self._version += 1
        self._values |= values
        made = self.folder / f"..v{self._version}"
        made.mkdir()
        for name, value in self._values.items():
            (made / name).write_text(value)
        beside = self.folder / "..data_tmp"
        beside.symlink_to(made.name)
        beside.rename(self.folder / "..data")


def config(url: str, reference: Callable[[str], str], secrets: dict[str, Any]) -> dict[str, Any]:
    return {
        "environment": "staging",
        "keys": [
            {"name": "caller", "secret": reference("CALLER")},
            {"name": "next", "secret": reference("NEXT")},
        ],
        "admin_keys": [{"name": "ops", "secret": reference("ADMIN")}],
        "providers": {
            "p": {
                "kind": "openai",
                "base_url": f"{url}/v1",
                "api_key": reference("P"),
                "max_concurrency": 50,
            }
        },
        "models": {"m": {"candidates": [{"provider": "p"}]}},
        "retry_budget": {"max_attempts": 0},  # nothing hides a request that fails
        "storage": {"usage": "memory://"},
        "telemetry": {"tracing": {"enabled": False}},
        "secrets": secrets,
    }


async def rotated(gateway: Live, vendor: Vendor, put: Put, *, workers: int) -> None:
    """Both kinds of keys, step by step, under load. Each step waits until every worker has it,
    as whoever rotates does."""
    old, new = gateway.load(FIRST["CALLER"]), gateway.load("the-callers-key-2")
    async with old.running(RATE_PER_S) as before:
        # The vendor's key: both are good, then ours changes, then the old one is revoked.
        vendor.taken.add("sk-of-the-vendor-2")
        put(P="sk-of-the-vendor-2")
        await gateway.until_rotated(workers)
        if under_way := list(before.pending):
            await asyncio.wait(under_way, timeout=LIMIT_S)  # with the old one, each of them
        vendor.taken.remove("sk-of-the-vendor-1")
        # A caller's key: the next one lets in beside the first, until all have it.
        put(NEXT="the-callers-key-2")
        await gateway.until_rotated(2 * workers)
    async with new.running(RATE_PER_S) as after:
        put(CALLER="nobody-has-this-key-yet-2")
        await gateway.until_rotated(3 * workers)
        assert [(await old.one()).status for _ in range(5 * workers)] == [401] * 5 * workers
        await asyncio.sleep(0.5)
    assert failed(before, after) == {}
    assert len(before.calls) + len(after.calls) > RATE_PER_S
    assert before.unsent == after.unsent == 0
    assert vendor.last == "sk-of-the-vendor-2"
    assert await asyncio.to_thread(gateway.process.end) == 0
    lines = gateway.logged("radgateway.secrets.rotated")
    places = [line["changed"][0].partition(" from ")[0] for line in lines]
    steps = ["providers.p.api_key", "keys[1].secret", "keys[0].secret"]
    assert places == [step for step in steps for _ in range(workers)]
    told = gateway.logged("radgateway.config.reloaded")
    assert [line["by"] for line in told] == ["secrets"] * 3 * workers
    for secret in (*FIRST.values(), "the-callers-key-2", "sk-of-the-vendor-2"):
        assert secret not in gateway.process.output


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_in_mounted_files_rotate_without_a_failed_request(
    tmp_path: Path, workers: int
) -> None:
    """The kubelet's swap of a folder comes into force by itself, in every worker."""
    mounted = Mounted(tmp_path / "run")

    def reference(name: str) -> str:
        return f"file:{mounted.folder / name}"

    async def main() -> None:
        vendor = Vendor({FIRST["P"]})
        async with provider(vendor) as server:
            made = config(server.url, reference, {"file_poll_s": 0.2})
            async with live(tmp_path, made, {}, workers=workers) as gateway:
                await rotated(gateway, vendor, mounted.put, workers=workers)

    asyncio.run(main())


def test_keys_in_the_store_rotate_without_a_failed_request(tmp_path: Path) -> None:
    """As soon as the store is read again."""
    with FakeInfisical() as store:
        store.values["/"] = dict(FIRST)

        def put(**values: str) -> None:
            store.values["/"] |= values

        async def main() -> None:
            vendor = Vendor({FIRST["P"]})
            settings = {"refresh_s": 1, "infisical": store.settings()}
            async with provider(vendor) as server:
                made = config(server.url, lambda name: f"infisical:{name}", settings)
                async with live(tmp_path, made, store.environ) as gateway:
                    await rotated(gateway, vendor, put, workers=1)

        asyncio.run(main())


def test_a_process_starts_from_the_sealed_file_and_catches_up(tmp_path: Path) -> None:
    """With the store away it serves what the last process knew; without the file it does not start;
    and a key that was rotated meanwhile comes into force when the store is back."""
    with FakeInfisical() as store:
        store.values["/"] = dict(FIRST)
        sealed = {"cache_file": "secrets.sealed", "cache_key": "env:CACHE_KEY"}
        environ = {**store.environ, "CACHE_KEY": CACHE_KEY}

        async def main() -> None:
            vendor = Vendor({FIRST["P"]})
            async with provider(vendor) as server:
                made = config(
                    server.url,
                    lambda name: f"infisical:{name}",
                    {"refresh_s": 1, "infisical": store.settings(**sealed)},
                )
                async with live(tmp_path, made, environ) as gateway:
                    await gateway.until_accepted(FIRST["CALLER"])
                await asyncio.to_thread(store.refuse)
                async with live(tmp_path, made, environ) as gateway:
                    assert (await gateway.load(FIRST["CALLER"]).one()).ok
                    store.values["/"]["CALLER"] = "the-callers-key-2"
                    store.listen()
                    await gateway.until_accepted("the-callers-key-2")
                    assert (await gateway.load(FIRST["CALLER"]).one()).status == 401

        asyncio.run(main())
    assert b"the-callers-key" not in (tmp_path / "secrets.sealed").read_bytes()
