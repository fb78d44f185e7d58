from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.dialects import (
    AnthropicMessages,
    Event,
    Gemini,
    OpenAI,
    OpenAIChat,
    OpenAIResponses,
)
from radgateway.exchange import Usage
from radgateway.routing.reply import HOLD_MAX, Reply

SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


def event(payload: Any, name: str = "", end: str = "\n") -> bytes:
    """One server-sent event."""
    head = f"event: {name}{end}" if name else ""
    data = payload if isinstance(payload, str) else json.dumps(payload)
    return f"{head}data: {data}{end}{end}".encode()


def chat(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """An OpenAI chat chunk."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


CHAT_USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
CHAT = [
    event(chat({"role": "assistant", "content": ""})),
    event(chat({"content": 'say "usage": {} \n\n'})),
    event(chat({"content": "é"})),
    event(chat({}, "stop")),
    event(CHAT_USAGE),
    event("[DONE]"),
]


def read(reply: Reply, chunks: list[bytes]) -> bytes:
    """Feed a whole response."""
    return b"".join(reply.feed(c, last=i == len(chunks) - 1) for i, c in enumerate(chunks))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces."""
    at = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


@given(
    cuts=st.lists(st.integers(0, 1200), max_size=30),
    hide=st.booleans(),
    crlf=st.booleans(),
)
def test_any_split_gives_the_same_bytes_and_usage(cuts: list[int], hide: bool, crlf: bool) -> None:
    """Where the network cuts a stream changes neither what the caller gets nor what is counted."""
    events = [e.replace(b"\n", b"\r\n") if crlf else e for e in CHAT]
    whole = b"".join(events)
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=hide)
    out = read(reply, split(whole, cuts))
    expected = b"".join(e for i, e in enumerate(events) if not (hide and i == 4))
    assert out == expected
    assert reply.usage == Usage(input_tokens=3, output_tokens=5)
    assert reply.complete
    assert reply.releasable
    assert not reply.failed


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_arbitrary_bytes_pass_unchanged(data: bytes, cuts: list[int]) -> None:
    """A stream that makes no sense to us still reaches the caller to the byte."""
    for headers in (SSE, JSON, []):
        for dialect in (OpenAIChat(), OpenAIResponses(), AnthropicMessages(), Gemini()):
            reply = Reply(dialect, headers, stream=True, hide_usage=False)
            out = read(reply, split(data, cuts))
            if headers is SSE:
                assert data.startswith(out)  # a fragment at the end is no event, and stays behind
            else:
                assert out == data


def test_the_preamble_is_held_and_content_releases() -> None:
    """A role alone promises nothing; the first content is the commit point."""
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=False)
    reply.feed(CHAT[0], last=False)
    held = reply.releasable
    reply.feed(CHAT[1], last=False)
    assert (held, reply.releasable) == (False, True)


RESPONSES_PREAMBLE = [
    event({"type": "response.created", "response": {"error": None}}, "response.created"),
    event({"type": "response.in_progress"}, "response.in_progress"),
]
ANTHROPIC_PREAMBLE = [
    event({"type": "message_start", "message": {"usage": {"input_tokens": 4}}}, "message_start"),
    event({"type": "ping"}, "ping"),
]


@pytest.mark.parametrize(
    ("dialect", "preamble", "failure"),
    [
        (OpenAIChat(), CHAT[:1], event({"error": {"message": "boom"}})),
        (
            OpenAIResponses(),
            RESPONSES_PREAMBLE,
            event({"type": "response.failed", "response": {"error": {"message": "boom"}}}),
        ),
        (
            AnthropicMessages(),
            ANTHROPIC_PREAMBLE,
            event({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}),
        ),
        (Gemini(), [], event({"error": {"code": 500, "message": "boom"}})),
    ],
)
def test_an_error_event_before_content_fails_the_attempt(
    dialect: Any, preamble: list[bytes], failure: bytes
) -> None:
    """Nothing was released yet, so another provider can be tried."""
    reply = Reply(dialect, SSE, stream=True, hide_usage=False)
    read(reply, [*preamble, failure])
    assert reply.failed
    assert not reply.releasable
    assert reply.error_text == "boom"


DELTA = {"type": "content_block_delta", "delta": {"text": "hi"}}
TEXT = {"type": "response.output_text.delta", "delta": "hi"}
PART = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}
SOUND = {"type": "speech.audio.delta", "audio": "AA=="}


@pytest.mark.parametrize(
    ("dialect", "content", "failure"),
    [
        (OpenAIChat(), chat({"content": "hi"}), {"error": {"message": "boom"}}),
        (
            OpenAIResponses(),
            TEXT,
            {"type": "response.failed", "response": {"error": {"message": "boom"}}},
        ),
        (OpenAIResponses(), TEXT, {"type": "error", "message": "boom"}),
        (AnthropicMessages(), DELTA, {"type": "error", "error": {"message": "boom"}}),
        (Gemini(), PART, {"error": {"code": 500, "message": "boom"}}),
        (OpenAI(), SOUND, {"error": {"message": "boom"}}),
    ],
)
def test_an_error_event_after_content_fails_the_attempt_too(
    dialect: Any, content: Any, failure: Any
) -> None:
    """What has gone out stays, and the error after it; but this was no success."""
    for spacing in (None, (",", ":")):
        last = f"data: {json.dumps(failure, separators=spacing)}\n\n".encode()
        reply = Reply(dialect, SSE, stream=True, hide_usage=False)
        assert read(reply, [event(content), last]) == event(content) + last
        assert (reply.failed, reply.complete, reply.error_text) == (True, False, "boom")


@pytest.mark.parametrize(
    ("dialect", "content", "last", "ended"),
    [
        (OpenAIChat(), chat({"content": "hi"}), chat({}, "stop"), False),
        (OpenAIResponses(), TEXT, {"type": "response.completed", "response": {}}, True),
        (OpenAIResponses(), TEXT, {"type": "response.incomplete", "response": {}}, True),
        (AnthropicMessages(), DELTA, {"type": "message_stop"}, True),
        (Gemini(), PART, {"candidates": [{"finishReason": "STOP"}]}, True),
        (OpenAI(), SOUND, {"type": "speech.audio.done"}, False),
        (OpenAI(), SOUND, {"type": "image_generation.completed"}, False),
    ],
)
def test_each_dialects_own_last_event_makes_a_stream_whole(
    dialect: Any, content: Any, last: Any, ended: bool
) -> None:
    """Also where no `[DONE]` follows: some servers never send it."""
    for spacing in (None, (",", ":")):
        reply = Reply(dialect, SSE, stream=True, hide_usage=False)
        end = f"data: {json.dumps(last, separators=spacing)}\n\n".encode()
        read(reply, [event(content), end])
        assert (reply.complete, reply.ended, reply.failed) == (True, ended, False)


def test_a_stream_that_ends_early_is_not_complete() -> None:
    """Only the dialect's own mark makes a stream whole."""
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=False)
    read(reply, CHAT[:3])
    assert reply.releasable
    assert not reply.complete


def test_anthropic_usage_is_put_together_from_both_events() -> None:
    """Input comes first and output last; cached tokens count as input."""
    start = {"input_tokens": 4, "cache_read_input_tokens": 10, "output_tokens": 1}
    events = [
        event({"type": "message_start", "message": {"usage": start}}, "message_start"),
        event({"type": "content_block_delta", "delta": {"text": "hi"}}, "content_block_delta"),
        event({"type": "message_delta", "usage": {"output_tokens": 7}}, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]
    reply = Reply(AnthropicMessages(), SSE, stream=True, hide_usage=False)
    read(reply, events)
    assert reply.usage == Usage(input_tokens=14, output_tokens=7, cached_tokens=10)
    assert reply.complete


def test_a_whole_answer_is_held_until_it_is_whole() -> None:
    """A body cut in the middle is still ours to discard."""
    body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
    reply = Reply(OpenAIChat(), JSON, stream=False, hide_usage=False)
    reply.feed(body[:10], last=False)
    held = reply.releasable
    reply.feed(body[10:], last=True)
    assert (held, reply.releasable) == (False, True)
    assert reply.usage == Usage(input_tokens=1, output_tokens=2)


def test_an_error_body_under_a_200_is_a_failure() -> None:
    """Some providers answer 200 and put the error inside."""
    reply = Reply(OpenAIChat(), JSON, stream=False, hide_usage=False)
    read(reply, [b'{"error":{"message":"no capacity"}}'])
    assert reply.failed
    assert reply.error_text == "no capacity"


@given(size=st.integers(HOLD_MAX - 50, HOLD_MAX + 50), cuts=st.lists(st.integers(0, 70_000)))
def test_usage_is_found_at_the_end_of_a_large_answer(size: int, cuts: list[int]) -> None:
    """A body too large to hold passes on at once, and its usage is read from its tail."""
    usage = b'"usage":{"prompt_tokens":8,"total_tokens":8}}'
    body = b'{"data":"' + b"x" * size + b'",' + usage
    reply = Reply(OpenAIChat(), JSON, stream=False, hide_usage=False)
    assert read(reply, split(body, cuts)) == body
    assert reply.usage == Usage(input_tokens=8, output_tokens=0)
    assert reply.releasable


def test_geminis_json_array_streams() -> None:
    """Without alt=sse the stream is one JSON array: released at once, usage from its end."""
    reply = Reply(Gemini(), JSON, stream=True, hide_usage=False)
    assert reply.releasable
    read(
        reply,
        [
            b'[{"usageMetadata": {"promptTokenCount": 1}},\n',
            b'{"usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 3}}]',
        ],
    )
    assert reply.usage == Usage(input_tokens=2, output_tokens=3)


def test_geminis_running_total_is_read_wherever_it_stands() -> None:
    """Also in an event that ends nothing, so that a stream broken off after it has its usage."""
    reply = Reply(Gemini(), SSE, stream=True, hide_usage=False)
    read(reply, [event(PART), event({"usageMetadata": {"promptTokenCount": 2}})])
    assert reply.usage is not None
    assert reply.usage.input_tokens == 2


def test_an_oversized_event_passes_without_being_held() -> None:
    """An event larger than we look at (an image) goes on as it comes; later ones are read."""
    big = event(chat({"content": "x" * 400_000}))
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=True)
    chunks = [big[i : i + 50_000] for i in range(0, len(big), 50_000)]
    assert read(reply, [*chunks, *CHAT[3:]]) == big + CHAT[3] + CHAT[5]
    assert reply.usage == Usage(input_tokens=3, output_tokens=5)


@given(size=st.integers(1000, 70_000))
def test_an_oversized_last_event_still_completes_its_stream(size: int) -> None:
    """An image in the last event is too large to read, but not a truncation; usage is found."""
    payload = {
        "type": "response.completed",
        "response": {"output": "x" * 400_000, "usage": {"input_tokens": 3, "output_tokens": 5}},
    }
    big = event(payload, "response.completed")
    reply = Reply(OpenAIResponses(), SSE, stream=True, hide_usage=False)
    assert read(reply, [big[i : i + size] for i in range(0, len(big), size)]) == big
    assert reply.complete
    assert reply.usage == Usage(input_tokens=3, output_tokens=5)


@pytest.mark.parametrize("cut", range(1, 6))
def test_the_end_of_an_oversized_event_may_be_cut_in_two(cut: int) -> None:
    """The event after it is read all the same."""
    big = event(chat({"content": "x" * 400_000}))
    whole = big + b"".join(CHAT[3:])
    at = len(big) - cut
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=True)
    parts = [whole[:300_000], whole[300_000:at], whole[at : at + 1], whole[at + 1 :]]
    assert read(reply, parts) == big + CHAT[3] + CHAT[5]
    assert reply.ended


def test_a_fragment_does_not_leave_before_the_error_that_ends_it() -> None:
    """The caller's parser gets whole events only, the error among them."""
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=False)
    out = reply.feed(CHAT[0] + CHAT[1] + CHAT[2][:20], last=False)
    assert out == CHAT[0] + CHAT[1]
    error = event({"error": {"message": "lost"}})
    assert reply.feed(reply.break_off() + error, last=True) == error


def test_safety_ratings_of_the_prompt_are_no_end() -> None:
    """Gemini sends them with the first event; only a block reason ends a stream there."""
    assert Gemini().judge({"promptFeedback": {"safetyRatings": [{}]}}) is Event.CONTENT
    assert Gemini().judge({"promptFeedback": {"blockReason": "SAFETY"}}) is Event.END


def test_one_of_several_images_is_not_the_end() -> None:
    """The second may still come, or be lost."""
    assert OpenAI().judge({"type": "image_generation.completed"}) is Event.FINISH


RESPONSES = [
    *RESPONSES_PREAMBLE,
    event(TEXT),
    event(
        {
            "type": "response.incomplete",
            "response": {"usage": {"input_tokens": 3, "output_tokens": 5}, "user": None},
        }
    ),
]
MESSAGES = [
    event(
        {
            "type": "message_start",
            "message": {"usage": {"input_tokens": 4, "output_tokens": 1}, "content": []},
        }
    ),
    event(DELTA),
    event({"type": "message_delta", "usage": {"output_tokens": 7}, "delta": {}}),
    event({"type": "message_stop"}),
]
PARTS = [
    event({**PART, "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": n}})
    for n in (1, 4, 9)
]


@pytest.mark.parametrize(
    ("dialect", "events"),
    [
        (OpenAIChat(), CHAT),
        (OpenAIResponses(), RESPONSES),
        (AnthropicMessages(), MESSAGES),
        (Gemini(), PARTS),
    ],
)
@given(data=st.data(), cuts=st.lists(st.integers(0, 1200), max_size=8))
def test_a_stream_cut_anywhere_keeps_what_was_reported(
    dialect: Any, events: list[bytes], data: st.DataObject, cuts: list[int]
) -> None:
    """Whatever has come whole of a report counts, though its event has no end yet."""
    whole = b"".join(events)
    upto = data.draw(st.integers(0, len(whole)), label="upto")
    reply = Reply(dialect, SSE, stream=True, hide_usage=False)
    for part in split(whole[:upto], cuts):
        reply.feed(part, last=False)
    reply.close()
    expected = Usage()
    at = 0
    for each in events:
        payload = each.removeprefix(b"data: ").partition(b"data: ")[2] or each[6:]
        found = re.search(rb'"usage(Metadata)?": ({[^{}]*})', payload)
        if found is not None:
            end = at + each.index(found[0]) + len(found[0])
            counts = dialect.counts_of(json.loads(payload))
            # Short of its last bytes an event has no reading; from the end of its report on it has.
            if end <= upto:
                after = dialect.usage(counts)
                expected = Usage(
                    after.input_tokens if after.input_tokens is not None else expected.input_tokens,
                    after.output_tokens,
                )
        at += len(each)
    assert (reply.usage or Usage()) == expected


@given(st.data())
def test_a_whole_answer_cut_after_its_usage_keeps_it(data: st.DataObject) -> None:
    """And an object of that name inside of the answer is not taken for it."""
    inner = {"type": "tool_use", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
    answer = {
        "content": [inner],
        "usage": {"input_tokens": 30, "output_tokens": 9},
        "stop_reason": "end_turn",
    }
    body = json.dumps(answer).encode()
    upto = data.draw(st.integers(0, len(body)))
    reply = Reply(AnthropicMessages(), JSON, stream=False, hide_usage=False)
    reply.feed(body[:upto], last=False)
    reply.close()
    told = upto >= body.index(b', "stop_reason"')
    assert reply.usage == (Usage(30, 9) if told else None)


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_full_of_usage_that_never_ends_is_read_in_bounded_time(stream: bool) -> None:
    """Objects in objects took seconds of the event loop, each of them searched to the end."""
    nested = b'[{"usageMetadata":{"promptTokenCount":2}}' + b',{"usage":{' * 5_000
    reply = Reply(Gemini(), JSON, stream=stream, hide_usage=False)
    began = time.process_time()
    for at in range(0, len(nested), 1_000):
        reply.feed(nested[at : at + 1_000], last=False)
    reply.close()
    assert time.process_time() - began < 1


def test_geminis_json_array_keeps_its_running_total_before_a_picture() -> None:
    """A part too large to look at, in which the stream breaks off, takes nothing back."""
    reply = Reply(Gemini(), JSON, stream=True, hide_usage=False)
    reply.feed(
        b'[{"usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 3}},', last=False
    )
    for _ in range(5):
        reply.feed(b'{"data": "' + b"x" * 9_000, last=False)
    reply.close()
    assert reply.usage == Usage(2, 3)


@given(cuts=st.lists(st.integers(0, 1200), max_size=30), crlf=st.booleans())
def test_events_are_counted_however_they_come(cuts: list[int], crlf: bool) -> None:
    """They are what a broken stream's length is estimated by, where they are about text."""
    events = [e.replace(b"\n", b"\r\n") if crlf else e for e in CHAT]
    reply = Reply(OpenAIChat(), SSE, stream=True, hide_usage=False)
    read(reply, split(b"".join(events), cuts))
    assert reply.parts == len(CHAT)
    assert reply.told
    assert not Reply(OpenAI(), SSE, stream=True, hide_usage=False).told
    assert not Reply(OpenAIChat(), JSON, stream=False, hide_usage=False).told
