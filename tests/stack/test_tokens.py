"""Tokens at the whole gateway, over real sockets: an issuer's server, ours, and a client's."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import minting
import pytest
import trustme
from minting import jwk, jwks
from processes import started
from serving import Call, Provider, provider, response, serving

from radgateway import create_gateway

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
CONFIG: dict[str, Any] = {
    "keys": [{"name": "k", "secret": "key-1"}],
    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
    "providers": {"mock": {"kind": "mock"}},
    "models": {"m": {"candidates": [{"provider": "mock"}]}},
    "storage": {"usage": "memory://"},
    "telemetry": {"metrics": True},
}
SECTION: dict[str, Any] = {"issuer": minting.ISSUER, "audience": minting.AUDIENCE}


def fresh(algorithm: str = "RS256", number: int = 0, **said: Any) -> str:
    """A token that is valid now."""
    now = int(time.time())
    said = {"iat": now, "exp": now + 60, **said}
    return minting.token(algorithm, number, **said).decode()


async def ask(client: httpx.AsyncClient, token: str) -> tuple[int, str | None]:
    """Status and error code of a chat request with a token."""
    answer = await client.post(CHAT, json=BODY, headers={"authorization": f"Bearer {token}"})
    return answer.status_code, answer.json().get("error", {}).get("code")


class Issuer:
    """What the issuer's server says of its keys."""

    def __init__(self) -> None:
        self.document = minting.KEY_SET
        self.date: str | None = None
        self.hangs = False

    async def __call__(self, call: Call) -> None:
        if self.hangs:
            await call.until_closed()
            return
        date = self.date or email.utils.formatdate(usegmt=True)
        await call.say(response(self.document, "200 OK", f"date: {date}", "connection: close"))
        call.writer.close()


def config(server: Provider, **more: Any) -> dict[str, Any]:
    return {**CONFIG, "jwt": {**SECTION, "jwks_url": f"{server.url}/keys", **more}}


def test_tokens_by_published_keys_over_real_sockets() -> None:
    """Believed by the issuer's published keys, a new key without a restart, a withdrawn one no
    longer; an issuer that hangs or is gone costs the known tokens nothing."""

    async def story() -> None:
        issuer = Issuer()
        async with provider(issuer) as server:
            gateway = create_gateway(config(server, refresh_s=1))
            async with serving(gateway) as url, httpx.AsyncClient(base_url=url) as client:
                assert await ask(client, fresh()) == (200, None)
                assert await ask(client, fresh("ES256")) == (200, None)
                assert await ask(client, fresh("HS256")) == (401, "invalid_token")
                # the key is replaced
                new = fresh(number=1, header={"kid": "rsa-1"})
                old = fresh()
                assert await ask(client, new) == (401, "invalid_token")
                issuer.document = jwks(jwk("RS256", "rsa-1", 1))
                until = time.monotonic() + 10
                while await ask(client, new) != (200, None):
                    assert time.monotonic() < until
                    await asyncio.sleep(0.05)
                assert await ask(client, old) == (401, "invalid_token")
                # the issuer hangs
                issuer.hangs = True
                await asyncio.sleep(1.2)
                began = time.monotonic()
                assert await ask(client, new) == (200, None)
                assert time.monotonic() - began < 0.5
                began = time.monotonic()
                unknown = fresh(number=0, header={"kid": "made-up"})
                assert await ask(client, unknown) == (401, "invalid_token")
                assert time.monotonic() - began < 2
                assert await ask(client, new) == (200, None)

    asyncio.run(asyncio.wait_for(story(), 40))


def test_without_an_issuer_keys_work_and_tokens_wait() -> None:
    """503 until the keys are there, said by readiness; API keys don't care."""

    async def story() -> None:
        settings = {**CONFIG, "jwt": {**SECTION, "jwks_url": "http://127.0.0.1:1/keys"}}
        async with (
            serving(create_gateway(settings)) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            assert await ask(client, fresh()) == (503, "auth_unavailable")
            assert await ask(client, "key-1") == (200, None)
            ready = (await client.get("/health/ready")).json()
            assert ready["status"] == "ready"
            assert ready["dependencies"]["tokens"].startswith("unavailable")

    asyncio.run(asyncio.wait_for(story(), 20))


def test_skewed_clocks_fail_tokens_with_a_word_and_are_seen_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Within the leeway nothing happens; beyond it each way has its code, its metric and a message
    that names the clocks; and the issuer's Date gives it away."""

    async def story() -> None:
        issuer = Issuer()
        issuer.date = email.utils.formatdate(time.time() + 90, usegmt=True)
        async with provider(issuer) as server:
            gateway = create_gateway(config(server))
            async with serving(gateway) as url, httpx.AsyncClient(base_url=url) as client:
                now = int(time.time())
                # a token of one minute, made by an issuer whose clock is off by so much
                for skew_s, expected in (
                    (0, (200, None)),
                    (50, (200, None)),
                    (-110, (200, None)),
                    (90, (401, "token_not_yet_valid")),
                    (-150, (401, "token_expired")),
                ):
                    made = fresh(iat=now + skew_s, exp=now + skew_s + 60)
                    assert await ask(client, made) == expected, skew_s
                late = fresh(exp=now - 90)
                answer = await client.post(
                    CHAT, json=BODY, headers={"authorization": f"Bearer {late}"}
                )
                assert "check the clocks" in answer.json()["error"]["message"]
                assert 'error="invalid_token"' in answer.headers["www-authenticate"]
                metrics = (await client.get("/metrics")).text
                name = "rad_gateway_auth_failures_total"
                assert f'{name}{{reason="token_not_yet_valid"}} 1.0' in metrics
                assert f'{name}{{reason="token_expired"}} 2.0' in metrics
                ready = (await client.get("/health/ready")).json()
                assert "clocks" in ready["dependencies"]["tokens"]

    with caplog.at_level(logging.WARNING, "radgateway.jwt"):
        asyncio.run(asyncio.wait_for(story(), 20))
    (line,) = (r for r in caplog.records if r.message == "radgateway.jwt.clocks_differ")
    assert line.__dict__["issuer_ahead_s"] == pytest.approx(90, abs=5)


def test_an_issuer_with_authorities_of_its_own(tmp_path: Path) -> None:
    """https by `ca_file`, and by it alone: nobody between can put in keys of their own."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))

    async def published(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(minting.KEY_SET, "200 OK", "connection: close"))
        await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(published, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        for ca_file, expected in ((str(pem), (200, None)), (None, (503, "auth_unavailable"))):
            section = {"jwks_url": f"https://127.0.0.1:{port}/keys", "ca_file": ca_file}
            gateway = create_gateway({**CONFIG, "jwt": {**SECTION, **section}})
            async with serving(gateway) as url, httpx.AsyncClient(base_url=url) as client:
                assert await ask(client, fresh()) == expected
        server.close()
        await server.wait_closed()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_each_subject_has_limits_of_its_own() -> None:
    """Counted by name; a key of the same name shares nothing with it."""

    async def story() -> None:
        settings = {
            **CONFIG,
            "keys": [{"name": "alice", "secret": "key-1", "limits": ["100/hour"]}],
            "jwt": {**SECTION, "secret": minting.SECRET, "limits": ["2/hour"]},
        }
        async with (
            serving(create_gateway(settings)) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            for jti in "ab":
                assert (await ask(client, fresh("HS256", jti=jti)))[0] == 200
            assert await ask(client, fresh("HS256", jti="c")) == (429, "rate_limited")
            assert (await ask(client, fresh("HS256", sub="bob")))[0] == 200
            answer = await client.post(CHAT, json=BODY, headers={"x-api-key": "key-1"})
            assert answer.headers["x-ratelimit-remaining-requests"] == "99"
            usage = (
                await client.get("/v0/management/usage", headers={"x-api-key": "key-admin"})
            ).text
            assert "jwt:alice" in usage
            assert "jwt:bob" in usage

    asyncio.run(asyncio.wait_for(story(), 20))


def test_tokens_open_the_data_plane_alone_and_no_keys_leave_it_closed() -> None:
    """With `keys: []` a token is needed; management knows none."""

    async def story() -> None:
        settings = {**CONFIG, "keys": [], "jwt": {**SECTION, "secret": minting.SECRET}}
        async with (
            serving(create_gateway(settings)) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            good = fresh("HS256")
            assert (await client.post(CHAT, json=BODY)).status_code == 401
            assert await ask(client, "key-1") == (401, "invalid_api_key")
            assert await ask(client, good) == (200, None)
            models = await client.get("/v1/models", headers={"authorization": f"Bearer {good}"})
            assert models.status_code == 200
            for key in (good, "key-1"):
                answer = await client.get(
                    "/v0/management/usage", headers={"authorization": f"Bearer {key}"}
                )
                assert answer.status_code == 401

    asyncio.run(asyncio.wait_for(story(), 20))


FILE = """
environment: production
keys: []
jwt:
  issuer: {issuer}
  audience: {audience}
  jwks_file: keys.json
  refresh_s: 1
providers:
  up: {{kind: openai, base_url: "http://127.0.0.1:1"}}
models:
  m: {{candidates: [{{provider: up}}]}}
storage: {{usage: "sqlite:///usage.db"}}
telemetry: {{log_level: debug, tracing: {{enabled: false}}}}
"""


@pytest.mark.servers
def test_the_served_gateway_takes_tokens_and_logs_none(tmp_path: Path) -> None:
    """`radgateway serve` with a file of keys that is replaced while it runs. Whatever becomes of a
    token, no part of it is printed, and a name is."""
    (tmp_path / "gateway.yaml").write_text(
        FILE.format(issuer=minting.ISSUER, audience=minting.AUDIENCE)
    )
    (tmp_path / "keys.json").write_bytes(minting.KEY_SET)
    now = int(time.time())
    tokens = {
        "good": fresh(),
        "expired": fresh(exp=now - 100),
        "early": fresh(nbf=now + 100),
        "elsewhere": fresh(aud="another"),
        "unknown": fresh(number=1, header={"kid": "rsa-1"}),
        "forged": fresh(number=1),
        "odd": fresh(sub="a subject\nof two lines \u2028 {}"),
    }
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(arguments, tmp_path) as process:
        url = process.wait_for(r" on (http://\S+)")[1]
        process.wait_for("Application startup complete")

        def status(token: str) -> int:
            headers = {"authorization": f"Bearer {token}"}
            return httpx.post(url + CHAT, json=BODY, headers=headers).status_code

        # 502: let in, and the provider is not there
        found = {name: status(token) for name, token in tokens.items()}
        assert found == dict.fromkeys(tokens, 401) | {"good": 502, "odd": 502}
        other = tmp_path / "new.json"
        other.write_bytes(jwks(jwk("RS256", "rsa-1", 1)))
        other.replace(tmp_path / "keys.json")
        until = time.monotonic() + 10
        while status(tokens["unknown"]) != 502:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert status(tokens["good"]) == 401
        assert process.end() == 0
    output = process.output
    assert f"Tokens: of {minting.ISSUER} for {minting.AUDIENCE}" in output
    assert "open" not in output.split("Models:")[0]
    for token in tokens.values():
        for part in token.split("."):
            assert part not in output
    logged = [json.loads(line) for line in process.lines if line.startswith("{")]
    requests = [line["fields"] for line in logged if line["message"] == "radgateway.request"]
    named = {line["principal"] for line in requests if "principal" in line}
    assert "jwt:alice" in named
    assert any(name.startswith("jwt:a_subject_of_two_lines") for name in named)
    codes = {line.get("error_code") for line in requests}
    assert {"invalid_token", "token_expired", "token_not_yet_valid"} <= codes
