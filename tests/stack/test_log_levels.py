"""Which lines each environment has, from the configuration to the stream: the strategy's 5.2."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drive import drive, http_scope
from logging_state import lines_of, logging_put_back
from serving import Call, provider, response

from radgateway.app import create_gateway
from radgateway.assembly.log_lines import RequestLines, configured_logging
from radgateway.assembly.parts import make_instruments
from radgateway.config import load_config

ROUTE = "/v1/chat/completions"
ANSWER = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the process's logging as it was."""
    with logging_put_back():
        yield


async def upstream(call: Call) -> None:
    """A provider that fails where it is told to."""
    if b'"fail"' in call.body:
        await call.say(response(b"{}", "500 Internal Server Error"))
    else:
        await call.say(response(ANSWER, "200 OK", "x-ratelimit-remaining-requests: 9"))


async def traffic(gateway: Any) -> list[int]:
    """A success, a client's error, a provider's, a wrong key, and an admin's look."""
    statuses = []
    for model, key in (("m", "k"), ("unknown", "k"), ("fail", "k"), ("m", "wrong")):
        headers = [("authorization", f"Bearer {key}-0123456789")]
        body = json.dumps({"model": model, "messages": [{"content": "what I asked"}]}).encode()
        statuses.append((await drive(gateway, http_scope(ROUTE, headers=headers), body)).status)
    admin = [("authorization", "Bearer ops-0123456789")]
    look = http_scope("/v0/management/config", method="GET", headers=admin)
    statuses.append((await drive(gateway, look)).status)
    return statuses


def logged(
    monkeypatch: pytest.MonkeyPatch, folder: Path, environment: str, **telemetry: Any
) -> list[dict[str, Any]]:
    """All lines of that traffic in an environment, at its own level unless told otherwise."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)

    async def run() -> Any:
        async with provider(upstream) as real:
            config = load_config(
                {
                    "environment": environment,
                    "keys": [{"name": "k", "secret": "env:CALLER"}],
                    "admin_keys": [{"name": "ops", "secret": "env:ADMIN"}],
                    "providers": {"real": {"kind": "openai", "base_url": real.url}},
                    "models": {
                        name: {"candidates": [{"provider": "real", "model": name}]}
                        for name in ("m", "fail")
                    },
                    "retry_budget": {"max_attempts": 0},
                    "storage": {"usage": f"sqlite:///{folder}/usage.db"},
                    "telemetry": {"tracing": {"enabled": False}, **telemetry},
                },
                {"CALLER": "k-0123456789", "ADMIN": "ops-0123456789"},
            )
            instruments = make_instruments(config)
            logs = configured_logging(config, instruments)
            gateway = create_gateway(
                config, instruments=instruments, on_end=RequestLines(config, logs)
            )
            assert await traffic(gateway) == [200, 404, 500, 401, 200]
            await gateway.aclose()
        return logs

    logs = asyncio.run(run())
    return [line for line in lines_of(stream, logs) if line["message"].startswith("radgateway.")]


Told = set[tuple[str, str, int | None]]

REQUESTS: Told = {
    ("radgateway.request", "info", 200),
    ("radgateway.request", "warning", 404),
    ("radgateway.request", "error", 500),
    ("radgateway.request", "info", 401),
    ("radgateway.audit.authentication", "info", 401),
    ("radgateway.audit.admin", "info", 200),
}
PROVIDERS: Told = {
    ("radgateway.provider.exchange", "info", 200),
    ("radgateway.provider.exchange", "info", 500),
}
DEBUG: Told = {
    ("radgateway.request.body", "debug", None),
    ("radgateway.sql.statement", "debug", None),
}
EXPECTED: dict[str, Told] = {
    "local": REQUESTS | PROVIDERS | DEBUG,
    "alpha": REQUESTS | PROVIDERS,
    "staging": REQUESTS,
    # INFO for failed authentication and the audit, though the level is WARN.
    "production": REQUESTS - {("radgateway.request", "info", 200)},
}


def told(lines: list[dict[str, Any]]) -> Told:
    """The kinds of lines, with the status they tell of."""
    return {
        (line["message"], line["level"], line.get("fields", {}).get("status"))
        for line in lines
        if not line["message"].startswith("radgateway.drain")
    }


@pytest.mark.servers
@pytest.mark.parametrize("environment", list(EXPECTED))
def test_each_environment_logs_what_the_strategy_says(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the same traffic; and every line has the schema."""
    lines = logged(monkeypatch, tmp_path, environment)
    assert told(lines) == EXPECTED[environment]
    for line in lines:
        assert line["service"] == "rad-gateway"
        assert line["environment"] == environment
        assert {"@timestamp", "level", "message", "version"} <= set(line)
    text = json.dumps(lines)
    assert ("what I asked" in text) is (environment == "local")
    assert "0123456789" not in text


@pytest.mark.servers
@pytest.mark.parametrize("environment", ["alpha", "staging", "production"])
def test_bodies_and_statements_stay_local_at_any_level(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who turns DEBUG on where real people's requests go still sees none of them."""
    lines = logged(monkeypatch, tmp_path, environment, log_level="debug")
    assert told(lines) >= EXPECTED[environment]
    assert not told(lines) & DEBUG
    assert "what I asked" not in json.dumps(lines)


@pytest.mark.servers
def test_the_highest_level_keeps_the_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what is broken, and who was let in or was not."""
    lines = logged(monkeypatch, tmp_path, "production", log_level="error")
    assert told(lines) == {
        ("radgateway.request", "error", 500),
        ("radgateway.request", "info", 401),
        ("radgateway.audit.authentication", "info", 401),
        ("radgateway.audit.admin", "info", 200),
    }
    audit = [line["fields"] for line in lines if ".audit." in line["message"]]
    assert [(each["by"], each["from"], each["outcome"]) for each in audit] == [
        (None, "127.0.0.1", "invalid_api_key"),
        ("ops", "127.0.0.1", "success"),
    ]
