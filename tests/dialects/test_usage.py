"""What each API reports comes to one meaning, and nothing it sends comes to a 0 or a crash."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from genai_prices import extract_usage
from hypothesis import given
from hypothesis import strategies as st

from radgateway.dialects import AnthropicMessages, Gemini, OpenAI, OpenAIChat, OpenAIResponses
from radgateway.dialects.base import Dialect
from radgateway.dialects.usage import COUNT_MAX, gathered
from radgateway.exchange import Usage

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 192,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
}
SPOKEN = {
    "model": "gpt-4o-audio-preview",
    "usage": {
        "prompt_tokens": 120,
        "completion_tokens": 90,
        "total_tokens": 210,
        "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 20, "audio_tokens": 100},
        "completion_tokens_details": {"text_tokens": 10, "audio_tokens": 80},
    },
}
RESPONSE = {
    "model": "gpt-5.6",
    "usage": {
        "input_tokens": 3000,
        "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 512},
        "output_tokens": 1200,
        "output_tokens_details": {"reasoning_tokens": 832},
        "total_tokens": 4200,
    },
}
IMAGE = {
    "model": "gpt-image-1",
    "usage": {
        "total_tokens": 1100,
        "input_tokens": 40,
        "output_tokens": 1060,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 30},
        "output_tokens_details": {"text_tokens": 4, "image_tokens": 1056},
    },
}
MESSAGE = {
    "model": "claude-sonnet-4-5",
    "type": "message",
    "usage": {
        "input_tokens": 21,
        "cache_creation_input_tokens": 188,
        "cache_read_input_tokens": 2051,
        "cache_creation": {"ephemeral_5m_input_tokens": 88, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 393,
        "output_tokens_details": {"thinking_tokens": 200},
        "service_tier": "standard",
    },
}
GENERATED = {
    "modelVersion": "gemini-2.5-flash",
    "usageMetadata": {
        "promptTokenCount": 264,
        "candidatesTokenCount": 80,
        "totalTokenCount": 456,
        "thoughtsTokenCount": 100,
        "toolUsePromptTokenCount": 12,
        "cachedContentTokenCount": 200,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 6},
            {"modality": "IMAGE", "tokenCount": 258},
        ],
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 80}],
    },
}

CASES: dict[str, tuple[Dialect, dict[str, Any], Usage | None]] = {
    "chat": (
        OpenAIChat(),
        CHAT,
        Usage(2006, 300, 1920, 192, input_audio_tokens=0, output_audio_tokens=0),
    ),
    "chat of a small server": (
        OpenAIChat(),
        {"usage": {"prompt_tokens": 5, "completion_tokens": 7}},
        Usage(5, 7),
    ),
    "chat with sound": (
        OpenAIChat(),
        SPOKEN,
        Usage(120, 90, 0, input_audio_tokens=100, output_audio_tokens=80),
    ),
    "chat of xAI, whose reasoning is not in the answer": (
        OpenAIChat(),
        {
            "usage": {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94},
            }
        },
        Usage(32, 103, 6, 94),
    ),
    "chat of DeepSeek": (
        OpenAIChat(),
        {
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 3,
                "prompt_cache_hit_tokens": 16,
                "prompt_cache_miss_tokens": 4,
            }
        },
        Usage(20, 3, 16),
    ),
    "chat, nothing cached": (
        OpenAIChat(),
        {
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": 0},
            }
        },
        Usage(20, 0, 0),
    ),
    "response": (OpenAIResponses(), RESPONSE, Usage(3000, 1200, 1024, 832, 512)),
    "response in an event": (
        OpenAIResponses(),
        {"type": "response.completed", "response": RESPONSE},
        Usage(3000, 1200, 1024, 832, 512),
    ),
    "embedding": (
        OpenAI(),
        {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        Usage(8, 0),
    ),
    "image": (OpenAI(), IMAGE, Usage(40, 1060, input_image_tokens=30, output_image_tokens=1056)),
    "transcription by tokens": (
        OpenAI(),
        {
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 45,
                "total_tokens": 59,
            }
        },
        Usage(14, 45, input_audio_tokens=14),
    ),
    "transcription by time": (
        OpenAI(),
        {"text": "Hello.", "usage": {"type": "duration", "seconds": 7.5}},
        Usage(audio_s=7.5),
    ),
    "speech as a stream": (
        OpenAI(),
        {
            "type": "speech.audio.done",
            "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115},
        },
        Usage(14, 101),
    ),
    "message": (
        AnthropicMessages(),
        MESSAGE,
        Usage(2260, 393, 2051, 200, 188, long_cache_write_tokens=100),
    ),
    "message without a cache": (
        AnthropicMessages(),
        {"usage": {"input_tokens": 9, "output_tokens": 2}},
        Usage(9, 2),
    ),
    "gemini": (Gemini(), GENERATED, Usage(276, 180, 200, 100, input_image_tokens=258)),
    "gemini, blocked": (
        Gemini(),
        {"usageMetadata": {"promptTokenCount": 6, "totalTokenCount": 6}},
        Usage(6, 0),
    ),
    "gemini, under way": (
        Gemini(),
        {"usageMetadata": {"promptTokenCount": 6, "totalTokenCount": 30}},
        Usage(6, None),
    ),
    "gemini, only thoughts": (
        Gemini(),
        {"usageMetadata": {"promptTokenCount": 6, "thoughtsTokenCount": 24}},
        Usage(6, 24, reasoning_tokens=24),
    ),
    "no usage": (OpenAIChat(), {"choices": []}, None),
    "null": (OpenAIChat(), {"usage": None}, None),
    "empty": (AnthropicMessages(), {"usage": {}}, None),
    "speech": (OpenAI(), {}, None),
}


def repr_of(value: object) -> str:
    return repr(value)[:12]


def read(dialect: Dialect, payload: Any, earlier: dict[str, Any] | None = None) -> Usage | None:
    counts = dialect.counts_of(payload)
    return dialect.usage(gathered(earlier, counts)) if isinstance(counts, dict) else None


@pytest.mark.parametrize(("dialect", "payload", "expected"), CASES.values(), ids=CASES)
def test_what_an_api_reports_comes_to_one_meaning(
    dialect: Dialect, payload: Any, expected: Usage | None
) -> None:
    """Inputs with what was cached, outputs with reasoning, and None for what was not said."""
    assert read(dialect, payload) == expected


@pytest.mark.parametrize(
    ("dialect", "payload", "vendor", "flavour"),
    [
        (OpenAIChat(), CHAT, "openai", "chat"),
        (OpenAIChat(), SPOKEN, "openai", "chat"),
        (OpenAIResponses(), RESPONSE, "openai", "responses"),
        (OpenAI(), IMAGE, "openai", "images"),
        (OpenAI(), CASES["embedding"][1], "openai", "embeddings"),
        (AnthropicMessages(), MESSAGE, "anthropic", "default"),
        (Gemini(), GENERATED, "google", "default"),
    ],
)
def test_it_is_the_meaning_that_genai_prices_finds(
    dialect: Dialect, payload: Any, vendor: str, flavour: str
) -> None:
    """Somebody else's reading of the same payloads, by which the prices are meant."""
    usage = read(dialect, payload)
    theirs = extract_usage(payload, provider_id=vendor, api_flavor=flavour).usage
    assert usage is not None
    for ours, name in (
        (usage.input_tokens, "input_tokens"),
        (usage.output_tokens or None, "output_tokens"),
        (usage.cached_tokens, "cache_read_tokens"),
        (usage.cache_write_tokens, "cache_write_tokens"),
        (usage.long_cache_write_tokens, "cache_write_1h_tokens"),
        (usage.reasoning_tokens, "output_reasoning_tokens"),
        (usage.input_audio_tokens, "input_audio_tokens"),
        (usage.input_image_tokens, "input_image_tokens"),
        (usage.output_audio_tokens, "output_audio_tokens"),
        (usage.output_image_tokens, "output_image_tokens"),
    ):
        assert ours == theirs.__dict__.get(name), name


@pytest.mark.parametrize(
    "wrong",
    [
        *(-1, -0.5, 1.5, "12", "", True, False, None, [], {}, [3], {"n": 3}),
        *(COUNT_MAX + 1, 10**400, math.nan, math.inf, -math.inf, 1e300),
    ],
    ids=repr_of,
)
@pytest.mark.parametrize(
    ("dialect", "name", "inputs", "outputs"),
    [
        (OpenAIChat(), "usage", "prompt_tokens", "completion_tokens"),
        (OpenAIResponses(), "usage", "input_tokens", "output_tokens"),
        (AnthropicMessages(), "usage", "input_tokens", "output_tokens"),
        (Gemini(), "usageMetadata", "promptTokenCount", "candidatesTokenCount"),
    ],
)
def test_what_is_no_count_is_unknown(
    dialect: Dialect, name: str, inputs: str, outputs: str, wrong: Any
) -> None:
    """Never 0, and the counts beside it stand."""
    assert read(dialect, {name: {inputs: wrong, outputs: 5}}) == Usage(None, 5)
    assert read(dialect, {name: {inputs: 5, outputs: wrong}}) == Usage(5, None)
    assert read(dialect, {name: {inputs: wrong, outputs: wrong}}) is None
    assert read(dialect, {name: wrong}) is None


def test_counts_written_with_a_point_are_counts() -> None:
    """As some servers write theirs."""
    usage = {"prompt_tokens": 3.0, "completion_tokens": 4e1}
    assert read(OpenAIChat(), {"usage": usage}) == Usage(3, 40)


def test_a_part_that_is_larger_than_the_whole_says_nothing() -> None:
    """Such a report is wrong somewhere; a discount is not given for it."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 11},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert read(OpenAIChat(), {"usage": usage}) == Usage(10, 4)


def test_a_stream_of_anthropics_is_put_together() -> None:
    """What the end repeats or leaves out, with and without the cache's counts."""
    start = {"input_tokens": 4, "cache_read_input_tokens": 10, "output_tokens": 1}
    for end in (
        {"output_tokens": 7},
        {"output_tokens": 7, "input_tokens": 4},
        {"output_tokens": 7, "input_tokens": 4, "cache_read_input_tokens": 10},
        {"output_tokens": 7, "input_tokens": None, "cache_read_input_tokens": "?"},
    ):
        counts = gathered(None, start)
        assert read(AnthropicMessages(), {"usage": end}, counts) == Usage(14, 7, 10)


def test_a_later_mistake_takes_nothing_back() -> None:
    """Neither a count nor a detail of one."""
    first = gathered(None, CHAT["usage"])
    wrong = {
        "prompt_tokens": "many",
        "completion_tokens": -300,
        "prompt_tokens_details": {"cached_tokens": None},
        "completion_tokens_details": "none",
    }
    assert gathered(first, wrong) == first


def test_only_what_is_read_is_kept() -> None:
    """A stream may say anything, any number of times; what is kept of it is bounded."""
    said = {f"x{n}": n for n in range(1000)}
    details = {"prompt_tokens_details": said, "promptTokensDetails": [{}] * 1000}
    kept = gathered(None, {**said, **details})
    assert kept == {"prompt_tokens_details": {}, "promptTokensDetails": [{}] * 16}


_names = st.sampled_from(
    [
        *CHAT["usage"],
        *MESSAGE["usage"],
        *GENERATED["usageMetadata"],
        "modality",
        "tokenCount",
        "cached_tokens",
    ]
)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_names, _anything, max_size=8), st.dictionaries(_names, _anything))
def test_nothing_that_is_sent_is_too_much(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Any nonsense has a reading, and all counts in it are counts."""
    for dialect in (OpenAI(), OpenAIResponses(), AnthropicMessages(), Gemini()):
        usage = dialect.usage(gathered(gathered(None, first), second))
        for name in Usage.__slots__ if usage is not None else ():
            value = getattr(usage, name)
            if name != "source" and value is not None:
                assert 0 <= value <= 3 * COUNT_MAX
                json.dumps(value, allow_nan=False)
