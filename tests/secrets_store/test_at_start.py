"""A start with secrets in the store: asked once, and without it from what is known."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from secrets_store.store_config import CACHE_KEY, config_of, environ_of, filled

from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.cli import main
from radgateway.config import ConfigError, GatewayConfig, effective, load_config
from radgateway.config.secrets import secrets_in


@pytest.fixture
def fake() -> Iterator[FakeInfisical]:
    with FakeInfisical() as server:
        yield filled(server)


def loaded(fake: FakeInfisical, config: dict[str, Any] | None = None) -> GatewayConfig:
    return load_config(config or config_of(fake), environ_of(fake))


def problems(fake: FakeInfisical, config: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loaded(fake, config)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_all_secrets_come_with_one_reading(fake: FakeInfisical) -> None:
    """One login, and one list for each folder."""
    config = loaded(fake)
    assert config.keys[0].secret.reveal() == "the-callers-key-1"
    assert config.admin_keys[0].secret.reveal() == "the-admins-key-1"
    assert config.providers["p"].api_key.reveal() == "sk-of-the-provider-1"  # type: ignore[union-attr]
    assert (fake.logins, fake.lists) == (1, 2)
    assert config.store_reading is not None
    assert not config.store_reading.stale


def test_it_works_where_a_loop_runs_already(fake: FakeInfisical) -> None:
    """uvicorn calls an app's factory from inside its loop."""

    async def inside() -> GatewayConfig:
        return loaded(fake)

    assert asyncio.run(inside()).keys[0].secret.reveal() == "the-callers-key-1"


def test_a_configuration_without_references_asks_nobody(fake: FakeInfisical) -> None:
    """The section alone makes no call."""
    config = config_of(fake) | {"keys": [{"name": "a", "secret": "x-1"}], "admin_keys": []}
    config["providers"] = {"p": {"kind": "mock"}}
    assert loaded(fake, config).store_reading is None
    assert fake.logins == 0


def test_nothing_shows_a_secret_of_the_store(fake: FakeInfisical) -> None:
    """Neither the effective configuration nor what was read, and all are known for redaction."""
    config = loaded(fake)
    shown = effective(config) + repr(config) + repr(config.store_reading)
    texts = [text for folder in fake.values.values() for text in folder.values()]
    for secret in (*texts, fake.client_id, fake.client_secret):
        assert secret not in shown
        assert secret in secrets_in(config)
    assert "infisical:CALLER" in shown


def test_a_name_the_store_does_not_have_is_named_with_the_nearest(fake: FakeInfisical) -> None:
    """And no value of any."""
    config = config_of(fake) | {"keys": [{"name": "a", "secret": "infisical:CALLR"}]}
    found = problems(fake, config)
    assert list(found) == ["keys[0].secret"]
    assert "no secret 'CALLR' in /" in found["keys[0].secret"]
    assert "did you mean 'CALLER'?" in found["keys[0].secret"]
    assert "the-callers-key-1" not in found["keys[0].secret"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("infisical:", "must be followed by NAME or /folder/NAME"),
        ("infisical:a/b", "must be followed by NAME or /folder/NAME"),
        ("infisical:EMPTY", "is empty"),
        ("infisical:HIDDEN", "that this identity may read"),
        ("infisical:ODD", "no HTTP header can carry"),
    ],
)
def test_a_reference_that_gives_no_secret_says_why(
    fake: FakeInfisical, reference: str, message: str
) -> None:
    """Where it stands, and only there."""
    fake.values["/"] |= {"EMPTY": "", "HIDDEN": "x", "ODD": "a\nb"}
    fake.hidden.add("HIDDEN")
    found = problems(fake, config_of(fake) | {"keys": [{"name": "a", "secret": reference}]})
    assert list(found) == ["keys[0].secret"]
    assert message in found["keys[0].secret"]


def test_without_the_store_each_reference_says_what_to_do(fake: FakeInfisical) -> None:
    """The start fails, and names them all."""
    fake.refuse()
    found = problems(fake, config_of(fake))
    assert set(found) == {"keys[0].secret", "admin_keys[0].secret", "providers.p.api_key"}
    for message in found.values():
        assert "can't be reached" in message
        assert "cache_file" in message


def test_a_store_that_hangs_does_not_hold_up_the_start(
    fake: FakeInfisical, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a look-up of its name, which no loop can cut short."""
    config = config_of(fake, timeout_s=0.2)
    with fake.hanging():
        began = time.monotonic()
        assert "within 0.2 s" in problems(fake, config)["keys[0].secret"]
        assert time.monotonic() - began < 2
    going_on = threading.Event()

    def stuck(*arguments: Any, **more: Any) -> Any:
        going_on.wait(20)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    began = time.monotonic()
    try:
        assert "within 0.2 s" in problems(fake, config)["keys[0].secret"]
        assert time.monotonic() - began < 3
    finally:
        going_on.set()


def test_the_stores_own_credentials_are_not_in_the_store(fake: FakeInfisical) -> None:
    """There would be nothing to ask it with."""
    config = config_of(fake, client_id="infisical:ME", client_secret="env:NOT_SET")
    found = problems(fake, config)
    assert "use env:NAME or file:PATH" in found["secrets.infisical.client_id"]
    assert "NOT_SET is not set" in found["secrets.infisical.client_secret"]


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"client_id": None}, "client_id", "is missing"),
        ({"token": "env:CACHE_KEY"}, "token", "one or the other"),
        ({"cache_file": "x"}, "cache_file", "go together"),
        ({"ca_file": "/none.pem"}, "ca_file", "there is no file"),
        ({"max_stale_s": 1.5}, "max_stale_s", "at least twice"),
        ({"url": "http://store.example.com"}, "url", "https://"),
        ({"path": "no"}, "path", "path of a folder"),
        ({"project_id": "a b"}, "project_id", "id of a project"),
    ],
)
def test_settings_that_do_not_fit_are_said(
    fake: FakeInfisical, settings: dict[str, Any], path: str, message: str
) -> None:
    """At the key."""
    found = problems(fake, config_of(fake, **settings))
    assert message in found[f"secrets.infisical.{path}"]


def test_a_start_without_the_store_takes_the_sealed_file(
    fake: FakeInfisical, tmp_path: Path
) -> None:
    """What the last start read, which is said to be old."""
    config = config_of(fake, cache_file=str(tmp_path / "sealed"), cache_key="env:CACHE_KEY")
    first = loaded(fake, config)
    fake.refuse()
    second = loaded(fake, config)
    assert first == second
    assert first.store_reading is not None
    assert second.store_reading is not None
    assert second.store_reading.read_at == first.store_reading.read_at
    assert "can't be reached" in second.store_reading.stale


def test_a_sealed_file_that_is_too_old_does_not_serve(
    fake: FakeInfisical, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key may have been revoked since."""
    config = config_of(fake, cache_file=str(tmp_path / "sealed"), cache_key="env:CACHE_KEY")
    loaded(fake, config)
    fake.refuse()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    assert "max_stale_s is 86400" in problems(fake, config)["keys[0].secret"]


@pytest.mark.parametrize(("key", "message"), [("short", "openssl rand"), (None, "does not open")])
def test_a_sealed_file_that_does_not_open_is_said_beside_the_store(
    fake: FakeInfisical, tmp_path: Path, key: str | None, message: str
) -> None:
    """Both ways are closed, and both are told."""
    path = tmp_path / "sealed"
    config = config_of(fake, cache_file=str(path), cache_key="env:CACHE_KEY")
    loaded(fake, config)
    fake.refuse()
    path.write_bytes(path.read_bytes()[:-1])
    environ = environ_of(fake) | {"CACHE_KEY": key or CACHE_KEY}
    with pytest.raises(ConfigError, match=message):
        load_config(config, environ)


def test_a_disk_that_takes_no_file_is_no_reason_not_to_start(
    fake: FakeInfisical, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, as the next start will miss it."""
    config = config_of(fake, cache_file=str(tmp_path / "no" / "f"), cache_key="env:CACHE_KEY")
    with caplog.at_level(logging.WARNING):
        loaded(fake, config)
    assert "radgateway.secrets.unsealed" in caplog.text


def test_what_the_process_knows_serves_before_the_sealed_file(fake: FakeInfisical) -> None:
    """A reload while the store is away changes what it changes, and loses no secret."""
    first = loaded(fake)
    fake.refuse()
    again = load_config(config_of(fake), environ_of(fake), known=first.store_reading)
    assert again.keys[0].secret.reveal() == "the-callers-key-1"
    assert again.store_reading is not None
    assert again.store_reading.stale


def test_check_config_asks_the_store_where_it_is_told_to(
    fake: FakeInfisical,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By itself it works away from the store; with --resolve it finds what is not there."""
    import json

    for name, value in environ_of(fake).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config_of(fake)))
    fake.refuse()
    assert main(["check-config", str(file)]) == 0
    assert main(["check-config", "--resolve", str(file)]) == 2
    fake.listen()
    assert main(["check-config", "--resolve", str(file)]) == 0
    said = capsys.readouterr()
    assert "can't be reached" in said.err
    assert "the-callers-key-1" not in said.out + said.err
