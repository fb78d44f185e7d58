"""A secret put anywhere into a running gateway comes out nowhere but where it was sent to."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from hypothesis import example, given, settings
from hypothesis import strategies as st
from logging_state import logging_put_back
from serving import STREAM_HEAD, Call, chunked, provider, response

from radgateway.app import create_gateway
from radgateway.assembly.log_lines import RequestLines, configured_logging
from radgateway.assembly.parts import make_instruments
from radgateway.config import load_config

CHAT = "/v1/chat/completions"
CLIENT_KEY, ADMIN_KEY = "alice-on-her-laptop", "the-operators-own-7"
PROVIDER_KEY, CACHE_PASSWORD = "vendor-gave-us-this", "pass-of-the-cache-1"

ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
HEX = "0123456789abcdef"


def run(letters: str, size: int, most: int | None = None) -> st.SearchStrategy[str]:
    """Random letters, no fewer than are needed to tell them from any other text."""
    return st.text(letters, min_size=size, max_size=most or size)


def joined(*parts: Any) -> st.SearchStrategy[str]:
    """Fixed and random parts, one after the other."""
    made = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(*made).map("".join)


SECRETS = st.one_of(
    joined("sk-proj-", run(ALNUM, 20, 60)),
    joined("sk-ant-api03-", run(ALNUM + "-_", 30, 60), "x"),
    joined("AIzaSy", run(ALNUM, 33)),
    joined("gsk_", run(ALNUM, 40)),
    joined("rad-", run(ALNUM, 43)),
    joined("AKIA", run("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 16)),
    joined("eyJhbGciOiJIUzI1NiJ9.eyJ", run(ALNUM, 20, 60), ".", run(ALNUM, 43)),
    joined("st.", run(HEX, 24), ".", run(HEX, 32), ".", run(HEX, 32)),
    joined("postgresql://rad:", run(ALNUM, 16, 30), "@db.internal/usage"),
    joined("redis://:", run(ALNUM, 16, 30), "@cache:6379/0"),
    st.sampled_from([CLIENT_KEY, ADMIN_KEY, PROVIDER_KEY]),
)
"""Keys of providers and clients, JSON web tokens, Infisical's, passwords in DSNs, and those that
only the configuration tells to be secrets."""


def core(secret: str) -> str:
    """The part of a secret that must not be seen: of a DSN the password."""
    return secret.partition("@")[0].rpartition(":")[2] if "://" in secret else secret


PROVIDER_CASES = ("error", "refused", "stream error", "broken", "nonsense", "headers", "fine")


def scripted(secret: str) -> Any:
    """A provider that says the secret in every way it can; which, the client's header tells."""
    said = json.dumps({"error": {"message": f"key {secret} is wrong", "code": secret}}).encode()
    usage = {"prompt_tokens": secret, "completion_tokens": 2}
    fine = json.dumps({"model": secret, "id": secret, "choices": [], "usage": usage}).encode()
    limits = (f"retry-after: {secret}", f"request-id: {secret}", f"x-ratelimit-x: {secret}")

    async def script(call: Call) -> None:
        case = next((c for c in PROVIDER_CASES if f"x-case: {c}".encode() in call.head), "fine")
        if case == "error":
            await call.say(response(said, "500 Internal Server Error", *limits))
        elif case == "refused":
            await call.say(response(said, f"401 {secret}", *limits))
        elif case == "stream error":
            await call.say(STREAM_HEAD + chunked(b"data: " + said + b"\n\n") + b"0\r\n\r\n")
        elif case == "broken":
            event = json.dumps({"choices": [{"delta": {"content": secret}}]}).encode()
            await call.say(STREAM_HEAD + chunked(b"data: " + event + b"\n\n"))
            call.writer.close()
        elif case == "nonsense":
            await call.say(f"{secret} is no HTTP\r\n\r\n".encode())
            call.writer.close()
        elif case == "headers":
            await call.say(response(b"{}", "200 OK", f"x-{secret}: 1", f"content-type: {secret}"))
        else:
            await call.say(response(fine, "200 OK", *limits))

    return script


def requests(secret: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The secret in every place of a request where a client can write text."""

    def asked(path: str = CHAT, body: Any = None, method: str = "POST", **given: Any) -> Any:
        headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
        headers |= given.pop("headers", {})
        default = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        sent = body if isinstance(body, bytes) else json.dumps(body or default).encode()
        scope = http_scope(path, method=method, headers=list(headers.items()), **given)
        return scope, sent

    for name in (
        *("authorization", "x-api-key", "x-goog-api-key", "x-request-id", "traceparent"),
        *("user-agent", "x-anything", "cookie", "content-type", "x-session-id", "x-priority"),
        *("idempotency-key", "forwarded", "x-case"),
    ):
        yield asked(headers={name: secret})
    yield asked(headers={"authorization": f"Bearer {secret}"})
    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": f"v={secret}"}
    yield asked(headers=trace)
    yield asked(query=f"key={secret}")
    yield asked(query=f"anything={secret}&{secret}")
    yield asked(f"/v1/{secret}")
    yield asked(f"/v1beta/models/{secret}:generateContent", query=f"key={secret}")
    yield asked(f"/v1beta/models/m:{secret}")
    yield asked(f"/v0/management/{secret}", method="GET")
    yield asked("/v0/management/usage", method="GET", headers={"authorization": f"Bearer {secret}"})
    messages = [{"role": "user", "content": secret}]
    yield asked(body={"model": "m", "messages": messages, "metadata": {"key": secret}})
    yield asked(body={"model": "m", secret: secret, "password": secret})
    yield asked(body={"model": secret, "messages": messages})
    yield asked(body={"model": f"wild-{secret}", "messages": messages})
    yield asked(body={"model": f"wild {secret}", "messages": messages, "stream": True})
    yield asked(body={"model": {"name": secret}})
    yield asked(body={"messages": messages, "stream": secret})
    yield asked(body=secret.encode())
    yield asked(body=b'{"model": "' + secret.encode())
    yield asked("/v1/audio/transcriptions", body=secret.encode())
    yield asked("/v1/messages", body={"model": f"wild-{secret}", "max_tokens": secret})
    for case in PROVIDER_CASES:
        for stream in (True, False):
            body = {"model": "m", "messages": messages, "stream": stream}
            yield asked(body=body, headers={"x-case": case})
    order = {"provider": secret, "faults": {secret: 1}, "for_s": 1}
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    yield asked("/v0/management/faults", body=order, headers=admin)
    yield asked("/v0/management/faults", method="DELETE", query=f"provider={secret}", headers=admin)
    yield asked(f"/v0/management/providers/{secret}/breaker", body={"mode": secret}, headers=admin)
    yield asked("/v0/management/drain", body={"why": secret}, headers=admin)
    yield asked("/v0/management/usage", method="GET", query=f"limit={secret}", headers=admin)


VIEWS = ("/metrics", "/health/ready", *(f"/v0/management/{v}" for v in (
    "config", "usage", "traces", "providers", "faults"
)))  # fmt: skip


def ours(answer: Answer) -> str:
    """What of an answer is the gateway's own: an error's body, and headers it adds."""
    names = (b"x-radgateway-", b"x-request-id", b"x-trace-id", b"www-authenticate")
    own = [(name, value) for name, value in answer.headers if name.startswith(names)]
    text = repr(own)
    if answer.header("x-radgateway-error-source") == "gateway":
        text += answer.body.decode("utf-8", "replace")
    return text


def config(url: str) -> dict[str, Any]:
    """A gateway with secrets of all kinds, with everything on that says anything."""
    return {
        "environment": "local",
        "keys": [{"name": "alice", "secret": CLIENT_KEY}],
        "admin_keys": [{"name": "ops", "secret": ADMIN_KEY}],
        "providers": {
            "real": {"kind": "openai", "base_url": url, "api_key": PROVIDER_KEY, "breaker": None},
            "claude": {"kind": "anthropic", "base_url": url, "api_key": PROVIDER_KEY},
        },
        "models": {
            "m": {"candidates": [{"provider": "real"}]},
            "wild*": {"candidates": [{"provider": "real"}, {"provider": "claude"}]},
        },
        "retry_budget": {"max_attempts": 0},
        "storage": {"usage": "memory://"},
        "telemetry": {
            "log_level": "debug",
            "metrics": True,
            "key_names_in_metrics": True,
            "tracing": {"enabled": True, "exporter": "stdout", "sampling_rate": 1.0},
        },
    }


def foreign(secret: str) -> None:
    """Lines of other libraries, which know nothing of ours."""
    log = logging.getLogger("somebody.else")
    try:
        raise RuntimeError(f"no answer for {secret}")
    except RuntimeError:
        log.exception("failed with %s", secret, extra={"note": secret, "api_key": secret})
    log.debug({"headers": [("authorization", secret)]})


async def told(secret: str, stream: io.StringIO) -> tuple[str, int]:
    """Everything that a gateway says of all those requests, and how many it served."""
    async with provider(scripted(secret)) as upstream:
        loaded = load_config(config(upstream.url), {})
        instruments = make_instruments(loaded)
        logs = configured_logging(loaded, instruments)
        gateway = create_gateway(loaded, instruments=instruments, on_end=RequestLines(loaded, logs))
        gateway.closers.append(logs.aclose)
        said: list[str] = []
        served = 0
        for scope, body in requests(secret):
            answer = await drive(gateway, scope, body, raises=True)
            assert answer.error is None or type(answer.error).__name__ == "StreamBroken"
            served += 1
            said.append(ours(answer))
        foreign(secret)
        for path in VIEWS:
            headers = [
                ("authorization", f"Bearer {ADMIN_KEY}"),
                ("accept", "application/openmetrics-text;version=1.0.0"),
            ]
            view = await drive(gateway, http_scope(path, method="GET", headers=headers))
            assert view.status == 200, path
            said.append(view.body.decode())
        await gateway.aclose()
    return "\n".join([*said, stream.getvalue()]), served


@pytest.mark.servers
@settings(max_examples=20, deadline=None)
@example(CLIENT_KEY)
@example(ADMIN_KEY)
@example(PROVIDER_KEY)
@given(SECRETS)
def test_no_secret_comes_out(secret: str) -> None:
    """Not in logs, spans, metrics, usage rows, views or our own errors, whoever put it where."""
    stream, stdout = io.StringIO(), sys.stdout
    sys.stdout = stream
    try:
        with logging_put_back():
            text, served = asyncio.run(told(secret, stream))
    finally:
        sys.stdout = stdout
    hidden = core(secret)
    assert served > 50
    # It says a lot, or not finding the secret would mean nothing.
    assert text.count('"name": "gateway_request"') > 30
    assert text.count('"radgateway.request"') > 40
    assert "radgateway.request.body" in text
    assert "radgateway.provider.exchange" in text
    assert "rad_gateway_requests_total" in text
    at = text.find(hidden)
    assert at < 0, text[max(0, at - 300) : at + 300].replace(hidden, "<SECRET>")


@pytest.mark.servers
@pytest.mark.slow
def test_no_password_of_a_storage_comes_out() -> None:
    """Where the database is away, the lines that say so name its host and no password."""
    stream, stdout = io.StringIO(), sys.stdout

    async def run() -> str:
        made = config("http://127.0.0.1:1") | {
            "storage": {
                "usage": "postgresql://rad:pa55-of-the-ledger@127.0.0.1:1/usage",
                "journal": None,
                "limits": f"redis://:{CACHE_PASSWORD}@127.0.0.1:1/0",
            }
        }
        loaded = load_config(made, {})
        instruments = make_instruments(loaded)
        logs = configured_logging(loaded, instruments)
        gateway = create_gateway(loaded, instruments=instruments, on_end=RequestLines(loaded, logs))
        gateway.closers.append(logs.aclose)
        headers = [("authorization", f"Bearer {CLIENT_KEY}")]
        answer = await drive(gateway, http_scope(CHAT, headers=headers), b'{"model": "m"}')
        async with asyncio.timeout(10):
            while "ledger_unavailable" not in stream.getvalue():
                await asyncio.sleep(0.05)  # the writer connects in a thread of its own
        await gateway.aclose()
        return ours(answer) + stream.getvalue()

    sys.stdout = stream
    try:
        with logging_put_back():
            text = asyncio.run(run())
    finally:
        sys.stdout = stdout
    assert "127.0.0.1" in text
    assert "pa55-of-the-ledger" not in text
    assert CACHE_PASSWORD not in text
