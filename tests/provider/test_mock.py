from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anthropic
import httpx2
import openai
import pytest
import uvicorn
from drive import Answer, drive, http_scope, no_other_tasks
from hypothesis import given
from hypothesis import strategies as st

from radgateway.asgi import StreamBroken
from radgateway.dialects.base import Event
from radgateway.dialects.usage import gathered
from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange
from radgateway.provider.mock import Fault, FaultPlan, MockConfig, MockProvider
from radgateway.provider.mock_media import MP3_FRAME, PNG
from radgateway.surface import OPERATIONS, dialect_of_path

CHAT = "/v1/chat/completions"
GEMINI = "/v1beta/models/gemini-1.5-flash:"
NOW = 1_700_000_000.5
HELLO = [{"role": "user", "content": "hello brave world"}]
T = TypeVar("T")


def mock(
    config: MockConfig | None = None, sleep: Callable[[float], Any] | None = None
) -> MockProvider:
    """A mock whose clock stands still and whose waits are only noted unless told otherwise."""

    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    return MockProvider(config, random.Random(1), sleep or no_sleep, clock=lambda: NOW)


async def call(app: MockProvider, path: str, payload: Any, **options: Any) -> Answer:
    """One JSON request by hand."""
    fault = options.pop("fault", None)
    headers = [("content-type", "application/json")]
    if fault is not None:
        headers.append(("X-Mock-Fault", fault))
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return await drive(
        app,
        http_scope(path, headers=headers, query=options.pop("query", "")),
        body,
        **options,
    )


def events_of(body: bytes) -> list[Any]:
    """The decoded data of a stream of events."""
    events = []
    for event in body.decode().split("\n\n"):
        for line in event.splitlines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                events.append(data if data == "[DONE]" else json.loads(data))
    return events


def openai_client(app: Any) -> openai.AsyncOpenAI:
    """The official client, talking to an app instead of a socket."""
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    return openai.AsyncOpenAI(
        api_key="k", base_url="http://mock/v1", http_client=http, max_retries=0, timeout=5
    )


def anthropic_client(app: Any) -> anthropic.AsyncAnthropic:
    """The same of the other vendor."""
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    return anthropic.AsyncAnthropic(
        api_key="k", base_url="http://mock", http_client=http, max_retries=0, timeout=5
    )


def with_openai(use: Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, T]]) -> T:
    """Run something with the official client around a mock that never fails."""

    async def run() -> T:
        async with openai_client(mock()) as client, asyncio.timeout(10):
            return await use(client)

    return asyncio.run(run())


def test_chat_is_read_by_the_official_client() -> None:
    """A chat completion is the original's echo, with its token counts."""

    async def use(client: openai.AsyncOpenAI) -> Any:
        return await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)  # type: ignore[arg-type]

    reply = with_openai(use)
    assert reply.choices[0].message.content == "Echo: hello brave world"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.model, reply.created, reply.object) == (
        "gpt-4o-mini",
        int(NOW),
        "chat.completion",
    )
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 18, 30)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "No prompt"),
        ([{"role": "system", "content": "be brief"}], "No prompt"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "Echo: a"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "z"}], "Echo: z"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "x"}},
                        {"type": "text", "text": "this"},
                    ],
                }
            ],
            "Echo: see this",
        ),
        ([{"role": "user"}, "odd", 3], "Echo: "),
        (None, "No prompt"),
    ],
)
def test_chat_echoes_the_last_user_message(messages: Any, text: str) -> None:
    """Content may be a string or parts, and the last of the user's counts."""
    payload = {"model": "m", "messages": messages}
    answer = asyncio.run(call(mock(), CHAT, payload))
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("usage", [True, False])
def test_chat_streams_as_the_api_does(usage: bool) -> None:
    """A role, words, a finish reason, the usage alone where it was asked for, and [DONE]."""
    payload: dict[str, Any] = {"model": "m", "messages": HELLO, "stream": True}
    if usage:
        payload["stream_options"] = {"include_usage": True}
    answer = asyncio.run(call(mock(), CHAT, payload))
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    events = events_of(answer.body)
    assert len(events) == len(answer.chunks)
    assert events.pop() == "[DONE]"
    if usage:
        last = events.pop()
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 30
        assert all(event["usage"] is None for event in events)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0]["role"] == "assistant"
    assert [delta.get("content") for delta in deltas[1:-1]] == [
        "Echo: ",
        "hello ",
        "brave ",
        "world",
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_chat_stream_is_read_by_the_official_client() -> None:
    """The client joins the stream to the same text and finds its usage."""

    async def use(client: openai.AsyncOpenAI) -> tuple[str, Any]:
        stream = await client.chat.completions.create(  # type: ignore[call-overload]
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        text, usage = "", None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
        return text, usage

    text, usage = with_openai(use)
    assert text == "Echo: hello brave world"
    assert usage.total_tokens == 30


def test_responses_are_read_by_the_official_client() -> None:
    """A response has an output item with the text, and usage 10 + 10."""

    async def use(client: openai.AsyncOpenAI) -> Any:
        return await client.responses.create(model="m", input="hi")

    reply = with_openai(use)
    assert reply.output_text == "Mock provider response"
    assert reply.status == "completed"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (10, 10)


def test_responses_stream_is_read_by_the_official_client() -> None:
    """The client's own accumulator accepts the typed events and ends with the same response."""

    async def use(client: openai.AsyncOpenAI) -> tuple[list[str], Any]:
        async with client.responses.stream(model="m", input="hi") as stream:
            kinds: list[str] = [event.type async for event in stream]
            return kinds, await stream.get_final_response()

    kinds, final = with_openai(use)
    assert kinds[0] == "response.created"
    assert kinds.count("response.output_text.delta") == 3
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Mock provider response"
    assert final.usage.total_tokens == 20


@pytest.mark.parametrize("stream", [False, True])
def test_messages_are_read_by_the_official_client(stream: bool) -> None:
    """Whole or streamed (the client accumulates), the message and its usage are the same."""

    async def run() -> Any:
        asked: dict[str, Any] = {"model": "claude", "max_tokens": 9, "messages": HELLO}
        async with anthropic_client(mock()) as client, asyncio.timeout(10):
            if not stream:
                return await client.messages.create(**asked)
            async with client.messages.stream(**asked) as events:
                return await events.get_final_message()

    message = asyncio.run(run())
    assert message.content[0].text == "Mock provider response"
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", "claude")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 10)


def test_messages_stream_has_the_events_of_the_api() -> None:
    """The order of events, the ping included, each named as its type."""
    payload = {"model": "m", "max_tokens": 1, "messages": HELLO, "stream": True}
    answer = asyncio.run(call(mock(), "/v1/messages", payload))
    kinds = [event["type"] for event in events_of(answer.body)]
    named = [
        line.removeprefix("event: ")
        for line in answer.body.decode().splitlines()
        if line.startswith("event: ")
    ]
    assert kinds == named
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings_are_read_by_the_official_client(encoding: Any) -> None:
    """One vector for each input, in the encoding asked for; the client asks for base64."""

    async def use(client: openai.AsyncOpenAI) -> Any:
        options = {} if encoding is None else {"encoding_format": encoding}
        return await client.embeddings.create(model="m", input=["a", "b"], **options)

    reply = with_openai(use)
    assert [item.index for item in reply.data] == [0, 1]
    if encoding != "base64":
        assert reply.data[1].embedding == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (8, 8)


@pytest.mark.parametrize(
    ("given_input", "count"), [("a", 1), ([1, 2, 3], 1), ([[1], [2]], 2), ([], 1), (None, 1)]
)
def test_embeddings_count_inputs(given_input: Any, count: int) -> None:
    """A list of tokens is one input, a list of lists is many."""
    payload = {"model": "m", "input": given_input}
    answer = asyncio.run(call(mock(), "/v1/embeddings", payload))
    data = json.loads(answer.body)["data"]
    assert [item["embedding"] for item in data] == [[0.01, 0.02, 0.03, 0.04]] * count


def test_embeddings_bound_their_inputs() -> None:
    """A reply can't be made thousands of times larger than its request."""
    payload = {"model": "m", "input": ["a"] * 2049}
    assert asyncio.run(call(mock(), "/v1/embeddings", payload)).status == 400


def test_images_are_read_by_the_official_client() -> None:
    """As many images as asked for, each a real PNG."""
    import base64

    async def use(client: openai.AsyncOpenAI) -> Any:
        return await client.images.generate(model="gpt-image-1", prompt="a cat", n=2)

    reply = with_openai(use)
    assert [base64.b64decode(image.b64_json) for image in reply.data] == [PNG, PNG]
    assert reply.usage.total_tokens == 20


def test_images_stream_one_event() -> None:
    """A streamed image ends with the completed event."""

    async def use(client: openai.AsyncOpenAI) -> Any:
        stream = await client.images.generate(model="m", prompt="a cat", stream=True)
        return [event async for event in stream]

    (event,) = with_openai(use)
    assert event.type == "image_generation.completed"
    assert event.usage.total_tokens == 20


def test_transcriptions_are_read_by_the_official_client() -> None:
    """A multipart upload, answered as JSON, as plain text, or streamed."""

    async def use(client: openai.AsyncOpenAI) -> tuple[Any, Any, list[Any]]:
        create: Any = client.audio.transcriptions.create
        upload = ("a.wav", b"RIFF" + bytes(range(256)) * 40)
        whole = await create(model="whisper-1", file=upload)
        plain = await create(model="whisper-1", file=upload, response_format="text")
        stream = await create(model="whisper-1", file=upload, stream=True)
        return whole, plain, [event async for event in stream]

    whole, plain, events = with_openai(use)
    assert whole.text == "Mock provider response"
    assert whole.usage.total_tokens == 20
    assert plain.strip() == "Mock provider response"
    assert "".join(event.delta for event in events[:-1]) == "Mock provider response"
    assert events[-1].type == "transcript.text.done"


def test_speech_is_audio() -> None:
    """Frames of silent MPEG audio by default, in several chunks."""

    async def use(client: openai.AsyncOpenAI) -> Any:
        reply = await client.audio.speech.create(model="m", voice="alloy", input="hi")
        return reply.response.headers["content-type"], reply.content

    kind, audio = with_openai(use)
    assert kind == "audio/mpeg"
    assert audio == MP3_FRAME * 8
    payload = {"model": "m", "voice": "v", "input": "x", "response_format": "pcm"}
    answer = asyncio.run(call(mock(), "/v1/audio/speech", payload))
    assert answer.header("content-type") == "audio/pcm"
    assert len(answer.chunks) == 8


def test_speech_streams_events() -> None:
    """With stream_format sse the audio comes as events and ends with its usage."""
    payload = {"model": "m", "voice": "v", "input": "x", "stream_format": "sse"}
    answer = asyncio.run(call(mock(), "/v1/audio/speech", payload))
    events = events_of(answer.body)
    assert [event["type"] for event in events] == [*["speech.audio.delta"] * 8, "speech.audio.done"]
    payload = {**payload, "stream_format": "audio", "response_format": "midi"}
    assert asyncio.run(call(mock(), "/v1/audio/speech", payload)).status == 400


def test_gemini_generates() -> None:
    """The text, a stop, the usage, and the model of the path."""
    answer = asyncio.run(call(mock(), GEMINI + "generateContent", {"contents": []}))
    reply = json.loads(answer.body)
    candidate = reply["candidates"][0]
    assert candidate["content"]["parts"][0]["text"] == "Mock provider response"
    assert candidate["finishReason"] == "STOP"
    assert reply["usageMetadata"] == {
        "promptTokenCount": 10,
        "candidatesTokenCount": 10,
        "totalTokenCount": 20,
    }
    assert reply["modelVersion"] == "gemini-1.5-flash"


@pytest.mark.parametrize("as_events", [True, False])
def test_gemini_streams_events_or_an_array(as_events: bool) -> None:
    """With alt=sse the chunks are events, without it the elements of one array."""
    answer = asyncio.run(
        call(
            mock(),
            GEMINI + "streamGenerateContent",
            {"contents": []},
            query="key=k&alt=sse" if as_events else "",
        )
    )
    chunks = events_of(answer.body) if as_events else json.loads(answer.body)
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert "".join(texts) == "Mock provider response"
    assert len(answer.chunks) == len(chunks) + (0 if as_events else 1)
    assert chunks[-1]["usageMetadata"]["totalTokenCount"] == 20


def test_gemini_counts_and_embeds() -> None:
    """The two actions that generate nothing."""
    counted = asyncio.run(call(mock(), GEMINI + "countTokens", {"contents": []}))
    assert json.loads(counted.body) == {"totalTokens": 10}
    embedded = asyncio.run(call(mock(), GEMINI + "embedContent", {"content": {}}))
    assert json.loads(embedded.body) == {"embedding": {"values": [0.01, 0.02, 0.03, 0.04]}}


@pytest.mark.parametrize("path", sorted(set(OPERATIONS) - {"/v1/audio/transcriptions"}))
@pytest.mark.parametrize("stream", [False, True])
def test_same_request_gets_the_same_bytes(path: str, stream: bool) -> None:
    """Every path is deterministic, and another request gets another id."""
    payload = {"model": "m", "messages": HELLO, "input": "x", "stream": stream}

    async def run() -> list[bytes]:
        app = mock()
        bodies = [payload, payload, {**payload, "input": "y"}]
        return [(await call(app, path, body)).body for body in bodies]

    first, again, other = asyncio.run(run())
    assert first == again
    with_ids = b'"id":' in first
    assert (first != other) == with_ids


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/responses", "/v1/messages", GEMINI + "streamGenerateContent"],
)
def test_dialects_read_the_usage(path: str, stream: bool) -> None:
    """The gateway's own reading of a reply finds what the mock reports."""
    payload = {
        "model": "m",
        "messages": HELLO,
        "stream": stream,
        "stream_options": {"include_usage": True},
    }
    gemini = path.startswith("/v1beta")
    answer = asyncio.run(call(mock(), path, payload, query="alt=sse" if gemini else ""))
    dialect = dialect_of_path(path)
    found = events_of(answer.body) if (stream or gemini) else [json.loads(answer.body)]
    reported: dict[str, Any] | None = None
    for each in found:
        if isinstance(counts := dialect.counts_of(each), dict):
            reported = gathered(reported, counts)
    assert reported is not None
    usage = dialect.usage(reported)
    assert usage is not None
    assert usage.output_tokens == (18 if path == CHAT else 10)
    if stream and not gemini:
        assert dialect.judge(found[0]) is Event.PREAMBLE


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, b"not json", 400),
        (CHAT, b"", 400),
        (CHAT, b'{"messages":[]}', 400),
        (CHAT, b'{"model":7}', 400),
        (CHAT, b'{"model":"m","messages":"x"}', 400),
        (CHAT, b'{"model":"m","x":' + b"[" * 100_000, 400),
        ("/v1/audio/transcriptions", b'{"model":"m"}', 400),
        (GEMINI + "dance", b"{}", 400),
        ("/v1/models", b"", 404),
        ("/nowhere", b"", 404),
    ],
)
def test_refuses_what_a_path_does_not_take(path: str, body: bytes, status: int) -> None:
    """A bad body is a 400 with the reason in the dialect's words, never an exception."""
    answer = asyncio.run(call(mock(), path, body))
    assert answer.status == status
    assert json.loads(answer.body)["error"]["message"]
    assert answer.header("x-radgateway-error-source") is None


def test_refuses_other_methods_and_large_bodies() -> None:
    """405 names POST; a body over the bound is a 413."""

    async def run() -> tuple[Answer, Answer]:
        app = mock(MockConfig(max_body_bytes=20))
        return (
            await drive(app, http_scope(CHAT, method="GET")),
            await call(app, "/v1/messages", {"model": "m", "messages": HELLO}),
        )

    wrong, large = asyncio.run(run())
    assert (wrong.status, wrong.header("allow")) == (405, "POST")
    assert large.status == 413
    assert json.loads(large.body)["error"]["type"] == "request_too_large"


FAULTY = MockConfig(fault_header="X-Mock-Fault", hang_s=7)
STREAM = {"model": "m", "messages": HELLO, "stream": True}


def test_faults_are_off_unless_configured() -> None:
    """A shared mock can't be broken by a caller's header."""
    answer = asyncio.run(call(mock(), CHAT, STREAM, fault="status=500"))
    assert answer.status == 200


def test_fault_status_with_retry_after() -> None:
    """The status, Retry-After, and the error of the dialect, read by the official client."""

    async def run() -> openai.RateLimitError:
        async with openai_client(mock(FAULTY)) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(
                    model="m",
                    messages=HELLO,  # type: ignore[arg-type]
                    extra_headers={"x-mock-fault": "status=429;retry_after=3"},
                )
            return caught.value

    error = asyncio.run(run())
    assert error.response.headers["retry-after"] == "3"
    assert error.type == "rate_limit_error"


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/responses", "/v1/messages", GEMINI + "generateContent"]
)
def test_fault_error_body_is_seen_as_failed(path: str) -> None:
    """A 200 with an error is what the gateway's dialects call failed."""
    answer = asyncio.run(call(mock(FAULTY), path, {"model": "m"}, fault="error_body"))
    assert answer.status == 200
    assert dialect_of_path(path).failed(json.loads(answer.body))


@pytest.mark.parametrize("after", [0, 2, None])
@pytest.mark.parametrize(
    "path", [CHAT, "/v1/responses", "/v1/messages", GEMINI + "streamGenerateContent"]
)
def test_fault_error_event_ends_the_stream(path: str, after: int | None) -> None:
    """The last event is an error to the gateway's dialects, after the number of events asked."""
    fault = "error_event" if after is None else f"error_event;after={after}"
    answer = asyncio.run(call(mock(FAULTY), path, STREAM, fault=fault, query="alt=sse"))
    events = events_of(answer.body)
    assert dialect_of_path(path).judge(events[-1]) is Event.ERROR
    if after is not None:
        assert len(events) == after + 1
    assert answer.complete


def test_fault_error_event_without_a_stream_is_an_error_body() -> None:
    """There is no event to put into a whole body."""
    answer = asyncio.run(call(mock(FAULTY), CHAT, {"model": "m"}, fault="error_event"))
    assert "error" in json.loads(answer.body)


@pytest.mark.parametrize(
    ("stream", "fault", "chunks"),
    [
        (True, "break", 3),
        (True, "break;after=0", 0),
        (True, "break;after=99", 6),
        (False, "break", 1),
    ],
)
def test_fault_break_cuts(stream: bool, fault: str, chunks: int) -> None:
    """The response begins and is cut: it never claims to be complete."""
    answer = asyncio.run(
        call(mock(FAULTY), CHAT, {**STREAM, "stream": stream}, fault=fault, raises=True)
    )
    assert isinstance(answer.error, StreamBroken)
    assert (answer.status, len(answer.chunks), answer.complete) == (200, chunks, False)
    if not stream:
        assert len(answer.body) < int(answer.header("content-length") or 0)


def test_fault_empty() -> None:
    """A 200 with nothing in it."""
    answer = asyncio.run(call(mock(FAULTY), CHAT, STREAM, fault="empty"))
    assert (answer.status, answer.body, answer.complete) == (200, b"", True)


@pytest.mark.parametrize(("fault", "sent"), [("hang_before", 0), ("hang_mid;after=2", 2)])
def test_fault_hang_waits_its_limit_then_goes_on(fault: str, sent: int) -> None:
    """A stall lasts `hang_s` and no longer."""
    seen: list[tuple[float, int]] = []
    chunks = 0

    async def note(seconds: float) -> None:
        seen.append((seconds, chunks))

    def count(_: Answer) -> None:
        nonlocal chunks
        chunks += 1

    answer = asyncio.run(call(mock(FAULTY, note), CHAT, STREAM, fault=fault, on_chunk=count))
    assert seen == [(7, sent)]
    assert answer.complete
    assert events_of(answer.body)[-1] == "[DONE]"


@pytest.mark.parametrize("fault", ["hang_before", "hang_mid"])
def test_client_that_leaves_ends_a_hang(fault: str) -> None:
    """A standing wait ends with the disconnect, and leaves no task behind."""

    async def run() -> set[asyncio.Task[Any]]:
        gone, hanging = asyncio.Event(), asyncio.Event()

        async def hang(_: float) -> None:
            hanging.set()
            await asyncio.Event().wait()

        app = mock(FAULTY, hang)
        request = asyncio.create_task(call(app, CHAT, STREAM, fault=fault, leave=gone))
        await asyncio.wait_for(hanging.wait(), 5)
        gone.set()
        answer = await asyncio.wait_for(request, 5)
        assert not answer.complete
        return await no_other_tasks()

    assert asyncio.run(run()) == set()


def test_cancellation_passes_through() -> None:
    """Cancelled from outside it ends at once, and says nothing more."""

    async def run() -> set[asyncio.Task[Any]]:
        hanging = asyncio.Event()

        async def hang(_: float) -> None:
            hanging.set()
            await asyncio.Event().wait()

        request = asyncio.create_task(call(mock(FAULTY, hang), CHAT, STREAM, fault="hang_mid"))
        await asyncio.wait_for(hanging.wait(), 5)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return await no_other_tasks()

    assert asyncio.run(run()) == set()


def test_back_pressure_is_honoured() -> None:
    """The next event is not made before the last was taken."""

    async def run() -> None:
        taken, let_on = asyncio.Event(), asyncio.Event()

        async def hold(answer: Answer) -> None:
            taken.set()
            await let_on.wait()

        request = asyncio.create_task(call(mock(), CHAT, STREAM, on_chunk=hold))
        await asyncio.wait_for(taken.wait(), 5)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not request.done()
        let_on.set()
        assert (await asyncio.wait_for(request, 5)).complete

    asyncio.run(run())


def test_latency_and_rate() -> None:
    """Latency comes before the headers; each word then takes its share of a second."""
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> None:
        app = mock(MockConfig(latency_ms=250, tokens_per_s=10), note)
        await call(app, CHAT, STREAM)
        await call(app, CHAT, {**STREAM, "stream": False})

    asyncio.run(run())
    assert slept == pytest.approx([0.25, 0.1, 0.1, 0.1, 0.1, 0.25, 0.4])


def test_waiting_is_booked_to_the_attempt() -> None:
    """Simulated latency counts as the provider's time, not as the gateway's overhead."""
    now = 0.0

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    exchange = Exchange("r", "POST", clock=lambda: now)
    attempt = Attempt("mock", "m", now)
    app = mock(MockConfig(latency_ms=1500), pass_time)
    scope = http_scope(CHAT)
    scope["state"] = {KEY: exchange, ATTEMPT_KEY: attempt}
    answer = asyncio.run(drive(app, scope, json.dumps(STREAM).encode()))
    assert answer.complete
    assert attempt.waited_s == 1.5


@given(st.floats(0, 1), st.floats(0, 1), st.integers())
def test_ratios_hold_for_any_seed(first: float, second: float, seed: int) -> None:
    """Shares add up as configured: nothing fails at 0, everything at 1, and a seed repeats."""
    error = first
    rest = (1 - first) * second
    config = MockConfig(error_ratio=error, break_ratio=rest, error_status=503)
    plan, again = (FaultPlan(config, random.Random(seed)) for _ in range(2))
    faults = [plan.next() for _ in range(50)]
    assert faults == [again.next() for _ in range(50)]
    kinds = {fault.kind if fault is not None else None for fault in faults}
    assert kinds <= {None, "status", "break"}
    if error == 0:
        assert "status" not in kinds
    if error == 1:
        assert kinds == {"status"}


def test_ratios_are_kept_in_the_long_run() -> None:
    """1,000 draws of a fixed seed are near the configured shares."""
    config = MockConfig(error_ratio=0.3, break_ratio=0.2, hang_ratio=0.1)
    plan = FaultPlan(config, random.Random(3))
    drawn = [fault.kind if (fault := plan.next()) is not None else "" for _ in range(1000)]
    counts = {kind: drawn.count(kind) for kind in ("status", "break", "hang_mid", "")}
    assert counts == {
        "status": pytest.approx(300, abs=45),
        "break": pytest.approx(200, abs=45),
        "hang_mid": pytest.approx(100, abs=45),
        "": pytest.approx(400, abs=45),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_ms", -1),
        ("latency_ms", float("nan")),
        ("tokens_per_s", -0.1),
        ("error_ratio", 1.1),
        ("break_ratio", -0.1),
        ("error_status", 200),
        ("hang_s", 0),
        ("max_body_bytes", 0),
    ],
)
def test_config_refuses_nonsense(field: str, value: float) -> None:
    """The message names the field and the value."""
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        MockConfig(**{field: value})  # type: ignore[arg-type]


def test_config_refuses_ratios_over_one() -> None:
    """A request suffers one fault, so the shares can't be more than all."""
    with pytest.raises(ValueError, match="add up"):
        MockConfig(error_ratio=0.6, break_ratio=0.6)


@pytest.mark.parametrize(
    "text", ["", "explode", "status=99", "break;soon", "break;after=x", "status=4x"]
)
def test_unknown_faults_are_refused(text: str) -> None:
    """A misspelt fault is an error, not silence."""
    with pytest.raises(ValueError, match=r"fault|status"):
        Fault.parse(text)
    answer = asyncio.run(call(mock(FAULTY), CHAT, STREAM, fault=text))
    assert answer.status == 400


@asynccontextmanager
async def serving(app: MockProvider) -> AsyncIterator[str]:
    """The app on a real socket; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(5):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(5):
            await task
        listener.close()


@pytest.mark.servers
def test_over_a_socket() -> None:
    """A real server streams it; a break cuts the connection; a client that leaves is noticed."""

    async def run() -> None:
        hanging, left = asyncio.Event(), asyncio.Event()

        async def hang(_: float) -> None:
            hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()

        async with serving(mock(FAULTY, hang)) as base, asyncio.timeout(20):  # noqa: SIM117
            async with openai.AsyncOpenAI(
                api_key="k", base_url=f"{base}/v1", max_retries=0, timeout=5
            ) as client:
                create: Any = client.chat.completions.create
                stream = await create(model="m", messages=HELLO, stream=True)
                text = [c.choices[0].delta.content or "" async for c in stream if c.choices]
                assert "".join(text) == "Echo: hello brave world"

                headers = {"x-mock-fault": "break"}
                stream = await create(model="m", messages=HELLO, stream=True, extra_headers=headers)
                with pytest.raises((httpx2.TransportError, openai.APIConnectionError)):
                    _ = [chunk async for chunk in stream]

                headers = {"x-mock-fault": "hang_before"}
                waiting = asyncio.create_task(
                    create(model="m", messages=HELLO, extra_headers=headers)
                )
                await hanging.wait()
                waiting.cancel()
                await left.wait()

    asyncio.run(run())
