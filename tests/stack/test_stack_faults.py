"""What a provider can do wrong, over real sockets through the whole stack.

After each fault nothing is left behind: no connection, no slot, no task; and the next request
works.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from drive import no_other_tasks
from serving import STREAM_HEAD, Call, Provider, Script, chunked, provider, response, serving

from radgateway import create_gateway
from radgateway.asgi import ASGIApp
from radgateway.gateway import Gateway

pytestmark = pytest.mark.servers

KEY = "key-of-the-caller"
PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
}
GOOD = {
    "openai": b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    "anthropic": b'{"type":"message","usage":{"input_tokens":1,"output_tokens":2}}',
    "gemini": b'{"candidates":[],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}',
}


def name_of(value: object) -> str:
    """A parameter's name in a test's id."""
    return getattr(value, "__name__", str(value))


def configured(url: str, kind: str = "openai", **more: Any) -> dict[str, Any]:
    """A gateway's configuration over one provider, with short clocks."""
    return {
        "keys": [{"name": "caller", "secret": KEY}],
        "providers": {
            "up": {
                "kind": kind,
                "base_url": url,
                "api_key": "sk-of-the-provider",
                "timeouts": {"connect_s": 0.5, "first_byte_s": 0.4, "idle_s": 0.4, "total_s": 3},
                **more,
            }
        },
        "models": {"m": {"candidates": [{"provider": "up"}]}},
        "storage": {"usage": "memory://"},
        "server": {"max_body_bytes": 10_000},
    }


class Rig:
    """A gateway on a socket in front of a scripted provider, and a client."""

    def __init__(self, url: str, gateway: Gateway, upstream: Provider, kind: str) -> None:
        self.url, self.gateway, self.upstream, self.kind = url, gateway, upstream, kind
        self.client = httpx.AsyncClient(base_url=url, timeout=8, trust_env=False)

    async def ask(self, stream: bool = False, **options: Any) -> httpx.Response:
        """Ask through the gateway; the whole answer."""
        body: dict[str, Any] = {"model": "m", "stream": True} if stream else {"model": "m"}
        options.setdefault("headers", {"x-api-key": KEY})
        if "content" not in options:
            options["json"] = body
        return await self.client.post(PATHS[self.kind], **options)

    def layer(self, name: str) -> Any:
        """A layer of the stack, by the name of its class."""
        app: Any = self.gateway.app
        while app is not None:
            if type(app).__name__ == name:
                return app
            inner = getattr(app, "app", None)
            app = inner if inner is not None else getattr(app, "providers", {}).get("up")
        raise AssertionError(f"no {name} in the stack")

    async def assert_clean(self) -> None:
        """Nothing is in use anywhere."""
        client = self.layer("HTTPProvider")._upstream
        for _ in range(200):
            busy = [
                self.gateway.drain.in_flight,
                self.layer("AdmissionQueue").in_use,
                self.layer("Bulkhead").slots.in_use,
                sum(origin.active + origin.waiting for origin in client.stats().values()),
            ]
            idle = sum(origin.idle for origin in client.stats().values())
            if not any(busy) and self.upstream.open == idle:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"still in use: {busy}, open {self.upstream.open}, idle {idle}")


@contextlib.asynccontextmanager
async def rig(script: Script, kind: str, **more: Any) -> AsyncIterator[Rig]:
    """A rig that is checked for leaks at its end."""
    async with provider(script) as upstream:
        gateway = create_gateway(configured(upstream.url, kind, **more))
        app: ASGIApp = gateway
        async with serving(app) as url:
            made = Rig(url, gateway, upstream, kind)
            async with made.client:
                yield made
                await made.assert_clean()
    assert not await no_other_tasks()


def code_of(answer: httpx.Response, kind: str) -> str:
    """The stable code of an error, wherever its dialect keeps it."""
    error = answer.json()["error"]
    return str(error["details"][0]["reason"] if kind == "gemini" else error["code"])


async def refuses(call: Call) -> None:
    raise AssertionError("nobody listens")


async def hangs_before_headers(call: Call) -> None:
    await call.until_closed()


async def closes_before_headers(call: Call) -> None:
    call.writer.close()


async def closes_mid_body(call: Call) -> None:
    await call.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    call.writer.close()


async def hangs_mid_body(call: Call) -> None:
    await call.say(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    )
    await call.until_closed()


async def huge_headers(call: Call) -> None:
    with contextlib.suppress(ConnectionError):
        await call.say(b"HTTP/1.1 200 OK\r\nx-pad: " + b"a" * 100_000 + b"\r\n\r\n")
        await call.until_closed()


async def no_http(call: Call) -> None:
    with contextlib.suppress(ConnectionError):
        await call.say(b"SSH-2.0-OpenSSH_9.2\r\n")
        await call.until_closed()


async def broken_chunk(call: Call) -> None:
    with contextlib.suppress(ConnectionError):
        await call.say(STREAM_HEAD.replace(b"text/event-stream", b"application/json"))
        await call.say(b"zz\r\n{}\r\n")
        await call.until_closed()


async def error_in_a_200(call: Call) -> None:
    await call.say(response(b'{"error":{"message":"no capacity"},"type":"error"}'))


BROKEN: list[tuple[Script, int, str | None]] = [
    (hangs_before_headers, 504, "first_byte_timeout"),
    (closes_before_headers, 502, "upstream_connection_lost"),
    (hangs_mid_body, 504, "idle_timeout"),
    (huge_headers, 502, "upstream_bad_response"),
    (no_http, 502, "upstream_bad_response"),
    (broken_chunk, 502, "upstream_bad_response"),
    (error_in_a_200, 502, None),
]


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(("script", "status", "code"), BROKEN, ids=name_of)
def test_a_provider_that_breaks_is_a_clear_error(
    script: Script, status: int, code: str | None, kind: str
) -> None:
    """In the caller's dialect, with a stable code; then the next request works."""

    async def story() -> None:
        faulty = True

        async def once(call: Call) -> None:
            await (script(call) if faulty else call.say(response(GOOD[kind])))

        async with rig(once, kind) as r:
            answer = await r.ask()
            assert answer.status_code == status, answer.text
            if code is not None:
                assert code_of(answer, kind) == code
                assert answer.headers["x-radgateway-error-source"] == "gateway"
            assert answer.headers["x-radgateway-provider"] == "up"
            await r.assert_clean()
            faulty = False
            again = await r.ask()
            assert (again.status_code, again.content) == (200, GOOD[kind])

    asyncio.run(story())


def test_a_provider_that_refuses_connections_is_unreachable() -> None:
    """Nothing was sent, so the client may try again."""

    async def story() -> None:
        async with provider(refuses) as gone:
            url = gone.url
        gateway = create_gateway(configured(url))
        async with serving(gateway) as base, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                base + PATHS["openai"], json={"model": "m"}, headers={"x-api-key": KEY}
            )
        assert answer.status_code == 502
        assert code_of(answer, "openai") == "upstream_unreachable"
        assert "127.0.0.1" not in answer.text

    asyncio.run(story())


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("429 Too Many Requests", ["retry-after: 7"], b'{"error":{"message":"slow down"}}'),
        ("500 Internal Server Error", ["content-type: text/html"], b"<html>oops</html>"),
        ("400 Bad Request", [], b'{"error":{"message":"context too long"}}'),
        ("529 Overloaded", [], b'{"type":"error"}'),
    ],
)
def test_a_providers_error_keeps_its_status_body_and_retry_after(
    status: str, headers: list[str], body: bytes
) -> None:
    """The provider's own words are what the client's code knows how to read."""

    async def says(call: Call) -> None:
        await call.say(response(body, status, *headers))

    async def story() -> None:
        async with rig(says, "anthropic") as r:
            answer = await r.ask()
            assert answer.status_code == int(status[:3])
            assert answer.content == body
            assert answer.headers["x-radgateway-error-source"] == "upstream"
            if headers and "retry" in headers[0]:
                assert answer.headers["retry-after"] == "7"

    asyncio.run(story())


def test_a_compressed_answer_is_read_and_passed_on_plain() -> None:
    """gzip though identity was asked for: the caller gets the bytes, the ledger the usage."""

    async def zipped(call: Call) -> None:
        assert b"accept-encoding: identity" in call.head.lower()
        await call.say(response(gzip.compress(GOOD["openai"]), "200 OK", "content-encoding: gzip"))

    async def story() -> None:
        async with rig(zipped, "openai") as r:
            answer = await r.ask()
            assert answer.content == GOOD["openai"]
            assert "content-encoding" not in answer.headers

    asyncio.run(story())


def content(text: str) -> bytes:
    """A chat chunk with content."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


async def stream_closes(call: Call) -> None:
    await call.say(STREAM_HEAD + chunked(content("one")))
    call.writer.close()


async def stream_hangs(call: Call) -> None:
    await call.say(STREAM_HEAD + chunked(content("one")))
    await call.until_closed()


async def stream_breaks_its_chunks(call: Call) -> None:
    with contextlib.suppress(ConnectionError):
        await call.say(STREAM_HEAD + chunked(content("one")))
        # A provider's bytes come in their own time; the break must not reach us with the content.
        await asyncio.sleep(0.05)
        await call.say(b"nonsense\r\n")
        await call.until_closed()


async def stream_ends_early(call: Call) -> None:
    await call.say(STREAM_HEAD + chunked(content("one")))
    await asyncio.sleep(0.05)
    await call.say(b"0\r\n\r\n")


async def stream_ends_with_the_connection(call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    await call.say(head + content("one"))
    await asyncio.sleep(0.05)
    call.writer.close()


BROKEN_STREAMS = [
    (stream_closes, "upstream_connection_lost"),
    (stream_hangs, "idle_timeout"),
    (stream_breaks_its_chunks, "upstream_bad_response"),
    (stream_ends_early, "upstream_truncated"),
    (stream_ends_with_the_connection, "upstream_truncated"),
]


@pytest.mark.parametrize(("script", "code"), BROKEN_STREAMS, ids=name_of)
def test_a_stream_that_breaks_ends_in_an_error_event(script: Script, code: str) -> None:
    """After content there is no other provider and no polite end, but an honest one."""

    async def story() -> None:
        async with rig(script, "openai") as r:
            answer = await r.ask(stream=True)
            assert answer.status_code == 200
            events = [e.removeprefix("data: ") for e in answer.text.split("\n\n") if e]
            assert json.loads(events[0])["choices"][0]["delta"]["content"] == "one"
            assert json.loads(events[-1])["error"]["code"] == code
            assert "[DONE]" not in answer.text
            if script is stream_hangs:
                return
            assert r.upstream.calls

    asyncio.run(story())


def test_a_large_body_that_breaks_is_cut() -> None:
    """What is already on its way and can't say that it failed must look cut."""

    async def cut(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        await call.say(b"content-length: 1000000\r\n\r\n" + b"x" * 200_000)
        call.writer.close()

    async def story() -> None:
        async with rig(cut, "openai") as r:
            with pytest.raises(httpx.RemoteProtocolError):
                await r.ask()

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after_content", [False, True])
def test_a_client_that_leaves_closes_the_call_upstream(stream: bool, after_content: bool) -> None:
    """Streaming or not, before the first byte or after: the provider sees its connection close."""
    closed = asyncio.Event()

    async def endless(call: Call) -> None:
        if after_content and stream:
            await call.say(STREAM_HEAD + chunked(content("one")))
        elif after_content:
            await call.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100_000)
        await call.until_closed()
        closed.set()

    async def story() -> None:
        timeouts = {"first_byte_s": 30, "idle_s": 30, "total_s": 30}
        async with rig(endless, "openai", timeouts=timeouts) as r:
            with pytest.raises(httpx.ReadTimeout):
                await r.ask(stream=stream, timeout=0.3)
            async with asyncio.timeout(2):
                await closed.wait()
            await r.assert_clean()

    asyncio.run(story())


def test_a_client_that_sends_half_a_body_and_leaves_is_forgotten() -> None:
    """Nobody to answer, nothing to call, nothing kept."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD["openai"]))

        async with rig(good, "openai") as r:
            host, port = r.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            head = f"POST {PATHS['openai']} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\n"
            writer.write(head.encode() + b'content-length: 100\r\n\r\n{"model"')
            await writer.drain()
            await asyncio.sleep(0.05)
            assert r.gateway.drain.in_flight == 1
            writer.close()
            await r.assert_clean()
            assert not r.upstream.calls
            assert (await r.ask()).status_code == 200

    asyncio.run(story())


async def parts(*bodies: bytes) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for body in bodies:
        yield body


BAD = [
    ({"content": b"not json"}, 400, "invalid_json"),
    ({"content": b'{"model":"\xff"}'}, 400, "invalid_json"),
    ({"content": b'{"model":"m","x":' + b"[" * 4000 + b"]" * 4000 + b"}"}, 400, "invalid_json"),
    ({"content": b"{}"}, 400, "missing_model"),
    ({"content": b'{"model":7}'}, 400, "invalid_model"),
    ({"content": b'{"model":"m\\r\\nx-evil: 1"}'}, 400, "invalid_model"),
    ({"content": b'{"model":"unheard-of"}'}, 404, "unknown_model"),
    ({"content": b" " * 10_001}, 413, "body_too_large"),
    ({"content": "in parts"}, 413, "body_too_large"),
    (
        {"content": b"a=b", "type": "application/x-www-form-urlencoded"},
        415,
        "unsupported_media_type",
    ),
    ({"content": b'{"model":"m"}', "key": None}, 401, "missing_api_key"),
    ({"content": b'{"model":"m"}', "key": "wrong"}, 401, "invalid_api_key"),
]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(("sent", "status", "code"), BAD)
def test_bad_input_is_named_in_the_callers_dialect(
    sent: dict[str, Any], status: int, code: str, kind: str
) -> None:
    """What is wrong and what to do, nothing reaches the provider, and the next request works."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD[kind]))

        async with rig(good, kind) as r:
            key = sent.get("key", KEY)
            headers = {"x-api-key": key} if key else {}
            headers["content-type"] = sent.get("type", "application/json")
            body = sent["content"]
            if body == "in parts":
                body = parts(b" " * 6000, b" " * 6000)
            answer = await r.ask(content=body, headers=headers)
            assert (answer.status_code, code_of(answer, kind)) == (status, code)
            assert ("type" in answer.json()) is (kind == "anthropic")
            assert answer.headers["x-radgateway-error-source"] == "gateway"
            assert answer.headers["x-request-id"]
            assert not r.upstream.calls
            assert (await r.ask()).status_code == 200

    asyncio.run(story())


def test_a_body_nested_a_hundred_thousand_deep_is_refused() -> None:
    """A bomb of brackets costs an answer and no more."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD["openai"]))

        async with provider(good) as upstream:
            config = configured(upstream.url)
            config["server"] = {}
            async with (
                serving(create_gateway(config)) as url,
                httpx.AsyncClient(
                    base_url=url, trust_env=False, headers={"x-api-key": KEY}
                ) as client,
            ):
                bomb = b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
                answer = await client.post(PATHS["openai"], content=bomb)
                assert (answer.status_code, code_of(answer, "openai")) == (400, "invalid_json")

    asyncio.run(story())


@pytest.mark.parametrize("request_id", ["x" * 10_000, "a b", "<script>"])
def test_an_unusable_request_id_is_replaced(request_id: str) -> None:
    """It neither breaks the answer nor reaches the provider."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD["openai"]))

        async with rig(good, "openai") as r:
            answer = await r.ask(headers={"x-api-key": KEY, "x-request-id": request_id})
            assert answer.status_code == 200
            assert answer.headers["x-request-id"] != request_id
            sent = r.upstream.calls[0].head
            assert answer.headers["x-request-id"].encode() in sent
            assert request_id.encode() not in sent

    asyncio.run(story())


def test_a_wrong_method_is_405() -> None:
    """With the methods that would do."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD["openai"]))

        async with rig(good, "openai") as r:
            answer = await r.client.get(PATHS["openai"], headers={"x-api-key": KEY})
            assert (answer.status_code, code_of(answer, "openai")) == (405, "method_not_allowed")
            assert answer.headers["allow"] == "POST"

    asyncio.run(story())


def test_the_providers_credential_is_the_only_one_it_sees() -> None:
    """The caller's key stays here, the provider's never comes back."""

    async def story() -> None:
        async def good(call: Call) -> None:
            await call.say(response(GOOD["openai"]))

        async with rig(good, "openai") as r:
            answer = await r.ask(headers={"authorization": f"Bearer {KEY}", "cookie": "c=1"})
            sent = r.upstream.calls[0].head.lower()
            assert b"authorization: bearer sk-of-the-provider" in sent
            assert KEY.encode() not in sent
            assert b"cookie" not in sent
            assert "sk-of-the-provider" not in str(answer.headers) + answer.text

    asyncio.run(story())
