"""Keepalives through the whole stack over real sockets, read by the vendors' own clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from serving import STREAM_HEAD, Call, Script, chunked, provider, response, serving

from radgateway import create_gateway

pytestmark = [pytest.mark.servers, pytest.mark.slow]

KEY = "key-1"
HELLO: Any = [{"role": "user", "content": "Hello"}]
QUIET_S = 0.35


def chat(delta: dict[str, Any], finish: str | None = None) -> bytes:
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


ANTHROPIC = [
    event(
        "message_start",
        message={
            "id": "m",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "m",
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    ),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"}),
    event("content_block_stop", index=0),
    event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": 2},
    ),
    event("message_stop"),
]
OPENAI = [
    chat({"role": "assistant", "content": ""}),
    chat({"content": "Hel"}),
    chat({"content": "lo"}),
    chat({}, "stop"),
    b"data: [DONE]\n\n",
]


def thinking(events: list[bytes], first_content: int) -> Script:
    """A provider that is quiet before its first word, and again before the second."""

    async def script(call: Call) -> None:
        await call.say(STREAM_HEAD)
        for number, each in enumerate(events):
            if number in (first_content, first_content + 1):
                # An event in two parts, with the silence in between: no keepalive may fall there.
                await call.say(chunked(each[:9]))
                await asyncio.sleep(QUIET_S / 2)
                await call.say(chunked(each[9:]))
                await asyncio.sleep(QUIET_S)
            else:
                await call.say(chunked(each))
        await call.say(b"0\r\n\r\n")

    return script


def gateway_over(url: str, kind: str, *, before_content: bool, **more: Any) -> dict[str, Any]:
    return {
        "keys": [{"name": "k", "secret": KEY}],
        "providers": {"up": {"kind": kind, "base_url": url, "api_key": "sk", **more}},
        "models": {"m": {"candidates": [{"provider": "up"}]}},
        "storage": {"usage": "memory://"},
        "keepalive": {"interval_s": 0.05, "before_content": before_content},
    }


def served(
    script: Script,
    kind: str,
    story: Callable[[str], Awaitable[None]],
    *,
    before_content: bool = False,
    **more: Any,
) -> None:
    """Run a story against a gateway on a socket in front of a scripted provider."""

    async def run() -> None:
        async with provider(script) as upstream:
            config = gateway_over(upstream.url, kind, before_content=before_content, **more)
            async with serving(create_gateway(config)) as url:
                await story(url)

    asyncio.run(run())


async def raw(url: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        body = {"model": "m", "stream": True, "max_tokens": 9, "messages": HELLO}
        return await client.post(path, json=body, headers={"x-api-key": KEY})


@pytest.mark.parametrize("before_content", [False, True])
def test_openais_client_reads_past_them(before_content: bool) -> None:
    """The comments are on the wire, and its user sees the same chunks as without."""

    async def story(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            deltas = [c.choices[0].delta.content async for c in stream]
        assert [delta for delta in deltas if delta] == ["Hel", "lo"]
        body = (await raw(url, "/v1/chat/completions")).content
        blocks = body.split(b"\n\n")
        assert blocks.count(b": keepalive") >= 4
        assert (blocks[0] == b": keepalive") == before_content
        assert body.replace(b": keepalive\n\n", b"") == b"".join(OPENAI)

    served(thinking(OPENAI, 1), "openai", story, before_content=before_content)


@pytest.mark.parametrize("before_content", [False, True])
def test_anthropics_client_reads_past_them(before_content: bool) -> None:
    """Its `ping` event, even before `message_start`, changes nothing for its user."""

    async def story(url: str) -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as client,
            client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events,
        ):
            text = [part async for part in events.text_stream]
            message = await events.get_final_message()
        assert text == ["Hel", "lo"]
        assert (message.usage.output_tokens, message.stop_reason) == (2, "end_turn")
        body = (await raw(url, "/v1/messages")).content
        ping = b'event: ping\ndata: {"type": "ping"}\n\n'
        assert body.count(ping) >= 4
        assert body.startswith(ping) == before_content
        assert body.replace(ping, b"") == b"".join(ANTHROPIC)

    served(thinking(ANTHROPIC, 2), "anthropic", story, before_content=before_content)


def test_a_failure_after_a_keepalive_is_the_clients_own_exception() -> None:
    """With the status gone out already, the official client still raises what it raises."""

    async def fails_late(call: Call) -> None:
        await asyncio.sleep(QUIET_S)
        await call.say(response(b'{"error":{"message":"no capacity"}}', "503 Busy"))

    async def story(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            with pytest.raises(openai.APIError, match="no capacity"):
                async for _ in stream:
                    pass
        answer = await raw(url, "/v1/chat/completions")
        assert answer.status_code == 200
        assert answer.text.startswith(": keepalive\n\n")
        assert answer.text.count("data: ") == 1
        assert "[DONE]" not in answer.text

    served(fails_late, "openai", story, before_content=True)


def test_another_provider_can_still_be_tried() -> None:
    """A keepalive commits the status and not the content: the failover goes on behind it."""

    async def quiet_then_broken(call: Call) -> None:
        await asyncio.sleep(QUIET_S)
        call.writer.close()

    async def run() -> None:
        async with (
            provider(quiet_then_broken) as broken,
            provider(thinking(OPENAI, 1)) as good,
        ):
            config = gateway_over(broken.url, "openai", before_content=True)
            config["providers"]["good"] = {
                "kind": "openai",
                "base_url": good.url,
                "api_key": "sk",
            }
            config["models"]["m"]["candidates"].append({"provider": "good"})
            async with serving(create_gateway(config)) as url:
                answer = await raw(url, "/v1/chat/completions")
                body = answer.content
                assert body.startswith(b": keepalive\n\n")
                assert body.replace(b": keepalive\n\n", b"") == b"".join(OPENAI)
                assert (len(broken.calls), len(good.calls)) == (1, 1)

    asyncio.run(run())


def test_a_client_that_leaves_between_keepalives_is_noticed() -> None:
    """The call to the provider is closed, as without them."""

    async def story(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            body = {"model": "m", "stream": True, "messages": HELLO}
            async with client.stream(
                "POST", "/v1/chat/completions", json=body, headers={"x-api-key": KEY}
            ) as answer:
                async for line in answer.aiter_lines():
                    if line == ": keepalive":
                        break
        async with asyncio.timeout(3):
            await closed.wait()

    closed = asyncio.Event()

    async def quiet(call: Call) -> None:
        await call.say(STREAM_HEAD + chunked(*OPENAI[:2]))
        await call.until_closed()
        closed.set()

    served(quiet, "openai", story)
