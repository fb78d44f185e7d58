"""Reading token counts as each API reports them, into one meaning.

Input counts include what was read from a prompt cache or written to one, and output counts include
reasoning, whatever the provider's convention (Anthropic's `input_tokens` excludes both kinds of
cached tokens, OpenAI's `prompt_tokens` includes them, xAI's `completion_tokens` excludes
reasoning). A field that is absent or no count stays None: unknown is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from radgateway.exchange import Usage

Counts = dict[str, Any]
"""What a provider has reported of one attempt, in its own words, and only what is read here."""

COUNT_MAX: Final = 10**12
"""What is more is no count of one attempt; and columns and sums are bounded."""

_NAMES: Final = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "seconds",
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
    }
)
_GROUPS: Final = frozenset(
    {
        "prompt_tokens_details",
        "input_tokens_details",
        "input_token_details",
        "completion_tokens_details",
        "output_tokens_details",
        "output_token_details",
        "cache_creation",
    }
)
_DETAIL_NAMES: Final = frozenset(
    {
        "cached_tokens",
        "cache_write_tokens",
        "audio_tokens",
        "image_tokens",
        "reasoning_tokens",
        "thinking_tokens",
        "ephemeral_5m_input_tokens",
        "ephemeral_1h_input_tokens",
    }
)
_LISTS: Final = frozenset({"promptTokensDetails", "candidatesTokensDetails"})
_LISTED_MAX: Final = 16
"""Modalities looked at; there are five."""
_NOTHING: Final[Counts] = {}


def gathered(earlier: Counts | None, said: Mapping[str, Any]) -> Counts:
    """A report over those that came before it in the same stream, name by name.

    Each API's stream repeats running totals, and leaves out what it has said. What is no count
    displaces none, so nothing that has been reported is lost to a later mistake.
    """
    found: Counts = dict(earlier) if earlier is not None else {}
    for name, value in said.items():
        if name in _NAMES:
            count = _seconds(value) if name == "seconds" else _count(value)
            if count is not None:
                found[name] = count
        elif name in _GROUPS and isinstance(value, dict):
            group = dict(found[name]) if name in found else {}
            for detail, number in value.items():
                if detail in _DETAIL_NAMES:
                    count = _count(number)
                    if count is not None:
                        group[detail] = count
            found[name] = group
        elif name in _LISTS and isinstance(value, list):
            found[name] = value[:_LISTED_MAX]
    return found


def openai(counts: Counts) -> Usage | None:
    """Chat completions, responses, embeddings, images and audio: two namings of one shape."""
    get = counts.get
    read, written = get("input_tokens"), get("output_tokens")
    if read is None:
        read = get("prompt_tokens")
    if written is None:
        written = get("completion_tokens")
    total = get("total_tokens")
    if written is None and read is not None and total is not None and total >= read:
        written = total - read  # embeddings report a total and no completion
    if read is None and written is None:
        seconds = get("seconds")
        return Usage(audio_s=float(seconds)) if seconds is not None else None
    inputs = get("prompt_tokens_details") or get("input_tokens_details")
    inputs = inputs or get("input_token_details") or _NOTHING
    outputs = get("completion_tokens_details") or get("output_tokens_details")
    outputs = outputs or get("output_token_details") or _NOTHING
    reasoning = outputs.get("reasoning_tokens")
    if reasoning and read is not None and written is not None and total is not None:
        # xAI's, which counts it beside the answer.
        written += reasoning if total == read + written + reasoning else 0
    cached = inputs.get("cached_tokens")
    if cached is None:  # Kimi's, Anthropic's compatible API's and DeepSeek's
        cached = get("cached_tokens", get("prompt_cache_hit_tokens"))
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_part(cached, read),
        reasoning_tokens=_part(reasoning, written),
        cache_write_tokens=_part(inputs.get("cache_write_tokens"), read),
        input_audio_tokens=_part(inputs.get("audio_tokens"), read),
        input_image_tokens=_part(inputs.get("image_tokens"), read),
        output_audio_tokens=_part(outputs.get("audio_tokens"), written),
        output_image_tokens=_part(outputs.get("image_tokens"), written),
    )


def anthropic(counts: Counts) -> Usage | None:
    """Messages: cache reads and writes are counted beside `input_tokens`, so they are added."""
    fresh, written = counts.get("input_tokens"), counts.get("output_tokens")
    if fresh is None and written is None:
        return None
    read = counts.get("cache_read_input_tokens")
    stored = counts.get("cache_creation_input_tokens")
    creation = counts.get("cache_creation", _NOTHING)
    short = creation.get("ephemeral_5m_input_tokens")
    long = creation.get("ephemeral_1h_input_tokens")
    if stored is None and (short is not None or long is not None):
        stored = (short or 0) + (long or 0)
    thinking = counts.get("output_tokens_details", _NOTHING).get("thinking_tokens")
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (stored or 0),
        output_tokens=written,
        cached_tokens=read,
        reasoning_tokens=_part(thinking, written),
        cache_write_tokens=stored,
        long_cache_write_tokens=_part(long, stored),
    )


def gemini(counts: Counts) -> Usage | None:
    """generateContent: thoughts are counted beside the candidates, and the results of tools beside
    the prompt, so they are added."""
    get = counts.get
    prompt, answer = get("promptTokenCount"), get("candidatesTokenCount")
    thoughts = get("thoughtsTokenCount")
    if prompt is None and answer is None:
        return None
    read = None if prompt is None else prompt + get("toolUsePromptTokenCount", 0)
    written = None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0)
    if written is None and read is not None and get("totalTokenCount") == read:
        written = 0  # an embedding, or a prompt that was blocked
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_part(get("cachedContentTokenCount"), read),
        reasoning_tokens=thoughts,
        input_audio_tokens=_part(_listed(counts, "promptTokensDetails", "AUDIO"), read),
        input_image_tokens=_part(_listed(counts, "promptTokensDetails", "IMAGE"), read),
        output_audio_tokens=_part(_listed(counts, "candidatesTokensDetails", "AUDIO"), written),
        output_image_tokens=_part(_listed(counts, "candidatesTokensDetails", "IMAGE"), written),
    )


def _count(value: Any) -> int | None:
    """A whole number that may count something, or None: no text, no truth value, no NaN."""
    if type(value) is int:
        return value if 0 <= value <= COUNT_MAX else None
    if isinstance(value, float) and 0 <= value <= COUNT_MAX and value.is_integer():
        return int(value)  # some servers write theirs as 12.0
    return None


def _seconds(value: Any) -> float | None:
    """A length of time, which may have a fraction."""
    number = type(value) is int or isinstance(value, float)
    return value if number and 0 <= value <= COUNT_MAX else None


def _part(part: int | None, whole: int | None) -> int | None:
    """A count of part of another; one that is larger is a mistake, and says nothing."""
    return None if part is not None and whole is not None and part > whole else part


def _listed(counts: Counts, name: str, modality: str) -> int | None:
    """The tokens of one modality in a list of Gemini's."""
    for item in counts.get(name, ()):
        if isinstance(item, dict) and item.get("modality") == modality:
            return _count(item.get("tokenCount"))
    return None
