"""Looking after secrets: real files and a real store, a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from secrets_store.store_config import CACHE_KEY, config_of, environ_of, filled

from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.config import GatewayConfig, Secret, load_config
from radgateway.secrets.refresher import SecretsRefresher
from radgateway.secrets.rotation import Rotation, rotated
from radgateway.secrets.sealed_file import SealedFile, key_of
from radgateway.secrets.watched_store import WatchedStore


@pytest.fixture
def fake() -> Iterator[FakeInfisical]:
    with FakeInfisical() as server:
        yield filled(server)


class Host:
    """Who holds the configuration in force, as a gateway does."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.refuses: Exception | None = None
        self.outcomes: list[str] = []
        self.now = 1000.0

    async def revise(self, change: Callable[[GatewayConfig], GatewayConfig]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.config = change(self.config)

    def refresher(self) -> SecretsRefresher:
        return SecretsRefresher(
            self.config,
            lambda: self.config,
            self.revise,
            on_outcome=self.outcomes.append,
            make_store=partial(WatchedStore, clock=lambda: self.now),
            settles_s=0.0,
        )

    async def later(self, refresher: SecretsRefresher) -> None:
        """Look when the store is due."""
        self.now += 2
        await refresher.look()

    @property
    def key(self) -> str:
        return self.config.keys[0].secret.reveal()


Story = Callable[[Host, SecretsRefresher], Awaitable[None]]


def told(config: GatewayConfig, story: Story) -> Host:
    """A host of this configuration, and what happens to it."""
    host = Host(config)

    async def main() -> None:
        refresher = host.refresher()
        try:
            await story(host, refresher)
        finally:
            await refresher.aclose()

    asyncio.run(main())
    return host


def of_store(fake: FakeInfisical, **store: Any) -> GatewayConfig:
    return load_config(config_of(fake, **store), environ_of(fake))


def of_file(path: Path) -> GatewayConfig:
    return load_config(
        {
            "keys": [{"name": "a", "secret": f"file:{path}"}],
            "providers": {"p": {"kind": "mock"}},
            "models": {"m": {"candidates": [{"provider": "p"}]}},
        },
        {},
    )


def test_a_file_that_was_rewritten_comes_into_force(tmp_path: Path) -> None:
    """By Kubernetes' way: a link of links that is swapped for another."""
    for version in ("1", "2"):
        (tmp_path / f"..v{version}").mkdir()
        (tmp_path / f"..v{version}" / "key").write_text(f"the-callers-key-{version}\n")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "key").symlink_to("..data/key")

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        await refresher.look()
        assert (host.key, host.outcomes) == ("the-callers-key-1", [])
        (tmp_path / "..next").symlink_to("..v2")
        (tmp_path / "..next").rename(tmp_path / "..data")
        await refresher.look()
        assert (host.key, host.outcomes) == ("the-callers-key-2", ["rotated"])
        await refresher.look()
        assert host.outcomes == ["rotated"]

    told(of_file(tmp_path / "key"), story)


@pytest.mark.parametrize("broken", ["gone", "empty", "odd"])
def test_a_file_that_gives_nothing_keeps_its_last_value(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Stale for as long as it lasts, said once, and well again by itself."""
    file = tmp_path / "key"
    file.write_text("the-callers-key-1")

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        if broken == "gone":
            file.unlink()
        else:
            file.write_text("" if broken == "empty" else "half\nwritten")
        for _ in range(3):
            await refresher.look()
        assert (host.key, refresher.state) == ("the-callers-key-1", "stale")
        file.write_text("the-callers-key-2")
        await refresher.look()
        assert (host.key, refresher.state) == ("the-callers-key-2", "ok")

    with caplog.at_level(logging.WARNING):
        told(of_file(file), story)
    names = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert names.count("radgateway.secrets.unreadable") == 1
    assert names.count("radgateway.secrets.readable") == 1
    assert "the-callers-key" not in caplog.text


def test_what_is_no_longer_asked_for_is_no_fault(tmp_path: Path) -> None:
    """A reload that takes the reference out ends the stale state."""
    file = tmp_path / "key"
    file.write_text("the-callers-key-1")

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        file.unlink()
        await refresher.look()
        assert refresher.state == "stale"
        plain = replace(host.config.keys[0], secret=Secret("of-no-file"))
        host.config = replace(host.config, keys=(plain,))
        await refresher.look()
        assert refresher.state == "ok"

    told(of_file(file), story)


def test_a_file_that_is_just_being_written_is_read_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs between two readings a moment apart is left for the next look."""
    file = tmp_path / "key"
    file.write_text("the-callers-key-1")
    host = Host(of_file(file))

    def between(config: GatewayConfig, texts: Mapping[str, str]) -> Rotation:
        file.write_text("the-callers-key-2")
        return rotated(config, texts)

    monkeypatch.setattr("radgateway.secrets.refresher.rotated", between)

    async def main() -> None:
        refresher = SecretsRefresher(host.config, lambda: host.config, host.revise, settles_s=0)
        file.write_text("the-cal")
        await refresher.look()
        assert host.key == "the-callers-key-1"
        await refresher.look()
        assert host.key == "the-callers-key-2"
        await refresher.aclose()

    asyncio.run(main())


def test_the_store_is_asked_when_it_is_due(fake: FakeInfisical) -> None:
    """Not at each look; what changed there comes into force."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        await refresher.look()
        assert host.key == "the-callers-key-1"
        host.now += 1.2
        await refresher.look()
        assert (host.key, host.outcomes) == ("the-callers-key-2", ["rotated"])
        fake.values["/"]["CALLER"] = "the-callers-key-3"
        await host.later(refresher)
        assert host.key == "the-callers-key-3"
        await host.later(refresher)
        assert host.outcomes == ["rotated", "rotated", "unchanged"]

    told(of_store(fake), story)


def test_while_the_store_is_away_the_last_known_serve_until_they_expire(
    fake: FakeInfisical, caplog: pytest.LogCaptureFixture
) -> None:
    """ok, stale, expired, and ok on its return with what has changed meanwhile."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        assert refresher.state == "ok"
        fake.refuse()
        for age_s, state in ((2.0, "stale"), (9.0, "stale"), (11.0, "expired"), (13.0, "expired")):
            host.now = 1000.0 + age_s
            await refresher.look()
            assert refresher.state == state
            assert refresher.age_s == pytest.approx(age_s, abs=0.9)
            assert refresher.retry_in_s > 0
        assert host.key == "the-callers-key-1"
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        fake.listen()
        host.now += 2
        await refresher.look()
        assert (host.key, refresher.state, refresher.age_s) == ("the-callers-key-2", "ok", 0.0)

    with caplog.at_level(logging.WARNING):
        host = told(of_store(fake, max_stale_s=10.0), story)
    assert host.outcomes == ["failed"] * 4 + ["rotated"]
    names = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert names == [
        "radgateway.secrets.failed",
        "radgateway.secrets.expired",
        "radgateway.secrets.recovered",
        "radgateway.secrets.rotated",
    ]
    for record in caplog.records:
        assert "the-callers-key" not in str(vars(record))


def test_a_secret_that_is_gone_from_the_store_keeps_its_last_value(fake: FakeInfisical) -> None:
    """Its deletion may be a mistake; taking the key out of the configuration is none."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        del fake.values["/"]["CALLER"]
        await host.later(refresher)
        assert (host.key, refresher.state) == ("the-callers-key-1", "stale")

    told(of_store(fake), story)


def test_two_keys_of_one_secret_are_refused_and_tried_again(
    fake: FakeInfisical, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not fit together changes nothing, and is not tried at every look."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        fake.values["/"]["CALLER"] = "the-admins-key-1"
        for _ in range(3):
            await host.later(refresher)
        assert (host.key, host.outcomes[0]) == ("the-callers-key-1", "refused")
        assert host.outcomes.count("refused") == 1
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        await host.later(refresher)
        assert host.key == "the-callers-key-2"

    with caplog.at_level(logging.WARNING):
        told(of_store(fake), story)
    (refused,) = (r for r in caplog.records if r.getMessage() == "radgateway.secrets.refused")
    assert "is the same secret as that of keys.a" in vars(refused)["reason"]
    assert "the-admins-key-1" not in str(vars(refused))


def test_a_gateway_that_can_not_change_keeps_serving(fake: FakeInfisical) -> None:
    """Whatever putting it in force raises."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        host.refuses = RuntimeError("it is shutting down")
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        await host.later(refresher)
        assert (host.key, host.outcomes) == ("the-callers-key-1", ["refused"])

    told(of_store(fake), story)


def test_a_reload_in_between_is_not_taken_back(fake: FakeInfisical) -> None:
    """It has read the secrets later; the next look goes by what it read."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        revise = host.revise

        async def after_a_reload(change: Callable[[GatewayConfig], GatewayConfig]) -> None:
            fake.values["/"]["CALLER"] = "the-callers-key-3"
            host.config = of_store(fake)
            await revise(change)

        host.revise = after_a_reload  # type: ignore[method-assign]
        overtaken = host.refresher()
        host.revise = revise  # type: ignore[method-assign]
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        await host.later(overtaken)
        assert (host.key, host.outcomes) == ("the-callers-key-3", ["unchanged"])
        await overtaken.look()
        assert host.key == "the-callers-key-3"
        await overtaken.aclose()

    told(of_store(fake), story)


def test_another_store_in_the_configuration_is_the_one_that_is_asked(fake: FakeInfisical) -> None:
    """A reload may name another; its own rotated credentials are such a change too."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        with FakeInfisical() as other:
            filled(other)
            host.config = of_store(other)
            other.values["/"]["CALLER"] = "of-the-other-store"
            await refresher.look()
            await host.later(refresher)
            assert host.key == "of-the-other-store"
            host.config = load_config(
                {
                    "keys": [{"name": "a", "secret": "of-no-store"}],
                    "providers": {"p": {"kind": "mock"}},
                    "models": {"m": {"candidates": [{"provider": "p"}]}},
                },
                {},
            )
            await refresher.look()
            assert (refresher.state, refresher.age_s, refresher.reading) == ("ok", 0.0, None)

    told(of_store(fake), story)


def test_what_a_reload_has_read_counts(fake: FakeInfisical) -> None:
    """It asked the store itself, so the age begins anew; one that read nothing new does not."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        before = refresher.reading
        assert before is not None
        host.now += 0.5
        await refresher.look()
        assert refresher.age_s == pytest.approx(0.5, abs=0.4)
        host.config = of_store(fake)
        await refresher.look()
        assert refresher.reading is host.config.store_reading
        assert refresher.age_s < 0.4

    told(of_store(fake), story)


def test_each_reading_is_kept_on_disk(fake: FakeInfisical, tmp_path: Path) -> None:
    """So that the next start has what is in force now; a disk that takes none is said."""
    path = tmp_path / "sealed"
    config = of_store(fake, cache_file=str(path), cache_key="env:CACHE_KEY")
    assert config.secrets.infisical is not None
    source = config.secrets.infisical.source

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        await host.later(refresher)

    told(config, story)
    kept = SealedFile(str(path), key_of(CACHE_KEY), source).read()
    assert kept.values["/"]["CALLER"] == "the-callers-key-2"


def test_it_looks_by_itself(fake: FakeInfisical) -> None:
    """One task, one look at a time; it ends without waiting for the store."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        fake.values["/"]["CALLER"] = "the-callers-key-2"
        host.now += 2
        refresher.start()
        refresher.start()
        async with asyncio.timeout(20):
            while host.key != "the-callers-key-2":
                await asyncio.sleep(0.01)

    told(of_store(fake), story)


def test_it_ends_while_the_store_hangs(fake: FakeInfisical) -> None:
    """The look that is under way is cancelled."""

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        with fake.hanging():
            host.now += 2
            refresher.start()
            await asyncio.sleep(0.05)
            async with asyncio.timeout(10):
                await refresher.aclose()

    told(of_store(fake, timeout_s=60), story)


def test_a_bug_in_a_look_does_not_end_the_looking(
    fake: FakeInfisical, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it to, a revoked key would go on until it expires."""
    looks: list[SecretsRefresher] = []

    async def broken(self: SecretsRefresher) -> None:
        looks.append(self)
        raise KeyError("a bug")

    monkeypatch.setattr(SecretsRefresher, "look", broken)
    monkeypatch.setattr("radgateway.secrets.refresher._AFTER_A_BUG_S", 0.01)

    async def story(host: Host, refresher: SecretsRefresher) -> None:
        host.now += 2
        refresher.start()
        async with asyncio.timeout(20):
            while len(looks) < 2:
                await asyncio.sleep(0.01)

    told(of_store(fake), story)
    assert "radgateway.secrets.look_failed" in caplog.text
