"""What is in the store comes out nowhere but where it is used, whatever the store does."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from typing import Any
from unittest import mock

import pytest
from drive import drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from logging_state import logging_put_back
from secrets_store.store_config import config_of, environ_of

from radgateway.app import create_gateway
from radgateway.assembly.log_lines import RequestLines, configured_logging
from radgateway.assembly.parts import make_instruments
from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.config import ConfigError, load_config
from radgateway.config.load import reader

VIEWS = ("/metrics", "/health/ready", "/v0/management/config", "/v0/management/keys")
WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=16)


def config(fake: FakeInfisical) -> dict[str, Any]:
    """A gateway with its secrets in the store, with everything on that says anything."""
    return {
        **config_of(fake, timeout_s=0.3),
        "telemetry": {
            "log_level": "debug",
            "metrics": True,
            "key_names_in_metrics": True,
            "tracing": {"enabled": True, "exporter": "stdout", "sampling_rate": 1.0},
        },
    }


async def told(fake: FakeInfisical, hidden: list[str], stream: io.StringIO) -> str:
    """All that is said of rotations that work, and of a store that fails in every way."""
    caller, admin, other = hidden[:3]
    said: list[str] = []
    loaded = load_config(config(fake), environ_of(fake))
    instruments = make_instruments(loaded)
    logs = configured_logging(loaded, instruments)
    gateway = create_gateway(
        loaded,
        instruments=instruments,
        on_end=RequestLines(loaded, logs),
        read=reader(config(fake), loaded),
    )
    gateway.closers.append(logs.aclose)
    gateway.start()

    async def until(line: str) -> None:
        async with asyncio.timeout(10):
            while line not in stream.getvalue():
                await asyncio.sleep(0.02)

    async def look(key: str) -> None:
        for path in VIEWS:
            headers = [("x-api-key", key)]
            view = await drive(gateway, http_scope(path, method="GET", headers=headers))
            said.append(view.body.decode())

    fake.values["/"]["CALLER"] = other
    await until("radgateway.secrets.rotated")
    await look(admin)
    fake.values["/"]["CALLER"] = admin  # is no secret for two
    await until("radgateway.secrets.refused")
    fake.values["/"] = {"CALLER": f"{caller}\n{other}", "P": ""}
    await until("radgateway.secrets.unreadable")
    fake.body = json.dumps({"error": hidden, "secrets": caller}).encode()
    await until("radgateway.secrets.failed")
    chat = http_scope("/v1/chat/completions", headers=[("x-api-key", other)])
    body = b'{"model": "m", "messages": []}'
    said.append((await drive(gateway, chat, body)).body.decode())
    assert gateway.reloader is not None
    with pytest.raises(ConfigError) as refused:
        await gateway.reloader.reload("host")
    said.append(str(refused.value))
    await look(admin)
    await gateway.aclose()
    try:
        load_config(config(fake), environ_of(fake))
    except ConfigError as error:
        said.append(str(error))
    return "\n".join([*said, stream.getvalue()])


@pytest.mark.servers
@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(st.lists(WORDS, min_size=4, max_size=4, unique=True))
def test_no_secret_of_the_store_comes_out(words: list[str]) -> None:
    """Not in logs, metrics, spans, views, answers or errors; nor the store's own credentials."""
    caller, admin, other, provider = (f"{word}-{index}7" for index, word in enumerate(words))
    stream, stdout = io.StringIO(), sys.stdout
    with FakeInfisical() as fake, mock.patch.dict(os.environ, environ_of(fake)):
        fake.values = {"/": {"CALLER": caller, "P": provider}, "/deep": {"ADMIN": admin}}
        sys.stdout = stream
        try:
            with logging_put_back():
                text = asyncio.run(told(fake, [caller, admin, other, provider], stream))
        finally:
            sys.stdout = stdout
        hidden = [caller, admin, other, provider, fake.client_secret, *fake._tokens]
    assert "infisical:CALLER" in text
    assert "rad_gateway_secrets_age_seconds" in text
    for secret in hidden:
        at = text.find(secret)
        assert at < 0, text[max(0, at - 300) : at + 300].replace(secret, "<SECRET>")
