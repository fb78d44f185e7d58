"""The vendors' own Python clients, over a real socket, with nothing changed but the base URL."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest
from serving import serving

from radgateway import create_gateway

pytestmark = pytest.mark.servers

KEY = "key-1"
CONFIG = {
    "keys": [{"name": "k", "secret": KEY}],
    "providers": {"mock": {"kind": "mock"}},
    "models": {
        name: {"candidates": [{"provider": "mock"}]}
        for name in ("gpt", "claude", "embed", "image", "whisper", "tts")
    },
    "storage": {"usage": "memory://"},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


def with_openai(story: Callable[[openai.AsyncOpenAI], Awaitable[None]], **options: Any) -> None:
    """Run a story with OpenAI's client against a served gateway."""

    async def run() -> None:
        async with serving(create_gateway(CONFIG)) as url:
            settings = {"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0, **options}
            async with openai.AsyncOpenAI(**settings) as client:
                await story(client)

    asyncio.run(run())


def with_anthropic(story: Callable[[anthropic.AsyncAnthropic], Awaitable[None]]) -> None:
    """Run a story with Anthropic's client against a served gateway."""

    async def run() -> None:
        async with (
            serving(create_gateway(CONFIG)) as url,
            anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as client,
        ):
            await story(client)

    asyncio.run(run())


def test_openai_chat() -> None:
    """A completion and its usage."""

    async def story(client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="gpt", messages=HELLO)
        assert answer.choices[0].message.content == "Echo: Hello"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 30

    with_openai(story)


@pytest.mark.parametrize("asked", [False, True])
def test_openai_chat_stream(asked: bool) -> None:
    """Chunks put together; a usage chunk only for who asked."""

    async def story(client: openai.AsyncOpenAI) -> None:
        more: Any = {"stream_options": {"include_usage": True}} if asked else {}
        stream = await client.chat.completions.create(
            model="gpt", messages=HELLO, stream=True, **more
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "Echo: Hello"
        assert [c for c in chunks if not c.choices and c.usage] == chunks[-1:] * asked

    with_openai(story)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses(stream: bool) -> None:
    """The Responses API, whole and in events."""

    async def story(client: openai.AsyncOpenAI) -> None:
        if not stream:
            answer = await client.responses.create(model="gpt", input="Hello")
            assert answer.output_text == "Mock provider response"
            return
        events = await client.responses.create(model="gpt", input="Hello", stream=True)
        kinds = [event.type async for event in events]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"

    with_openai(story)


def test_openai_embeddings_images_and_audio() -> None:
    """The rest of the surface, a multipart upload and a binary answer among it."""

    async def story(client: openai.AsyncOpenAI) -> None:
        vectors = await client.embeddings.create(model="embed", input="x", encoding_format="float")
        assert vectors.data[0].embedding == pytest.approx([0.01, 0.02, 0.03, 0.04])
        images = await client.images.generate(model="image", prompt="x")
        assert images.data
        sound = io.BytesIO(b"RIFF" + bytes(range(256)) * 8)
        sound.name = "sound.wav"
        words = await client.audio.transcriptions.create(model="whisper", file=sound)
        assert words.text == "Mock provider response"
        speech = await client.audio.speech.create(model="tts", voice="alloy", input="x")
        assert len(speech.content) > 0
        models = await client.models.list()
        assert {model.id for model in models.data} == set(CONFIG["models"])

    with_openai(story)


def test_openai_reads_our_errors() -> None:
    """Each refusal becomes the exception its users catch, with the code in it."""

    async def story(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="nope", messages=HELLO)
        assert unknown.value.code == "unknown_model"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()

    with_openai(story)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_messages(stream: bool) -> None:
    """Messages, whole and streamed, usage in both."""

    async def story(client: anthropic.AsyncAnthropic) -> None:
        if stream:
            async with client.messages.stream(
                model="claude", max_tokens=50, messages=HELLO
            ) as events:
                text = "".join([part async for part in events.text_stream])
                message: anthropic.types.Message = await events.get_final_message()
        else:
            message = await client.messages.create(model="claude", max_tokens=50, messages=HELLO)
            text = "".join(block.text for block in message.content if block.type == "text")
        assert text == "Mock provider response"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 10)

    with_anthropic(story)


def test_anthropic_reads_our_errors() -> None:
    """Not found and unauthenticated, as its users catch them."""

    async def story(client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await client.messages.create(model="nope", max_tokens=5, messages=HELLO)
        body: Any = unknown.value.body
        assert body["error"]["type"] == "not_found_error"
        with pytest.raises(anthropic.AuthenticationError):
            await client.with_options(api_key="wrong").messages.create(
                model="claude", max_tokens=5, messages=HELLO
            )

    with_anthropic(story)
