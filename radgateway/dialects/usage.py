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
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS: Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)
_GROUPS: Final = frozenset({*_INPUT_DETAILS, *_OUTPUT_DETAILS, "cache_creation"})
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


def gathered(earlier: Counts | None, said: Mapping[str, Any]) -> Counts:
    """A report over those that came before it in the same stream, name by name.

    Each API's stream repeats running totals, and leaves out what it has said. What is no count
    displaces none, so nothing that has been reported is lost to a later mistake.
    """
    found: Counts = dict(earlier) if earlier is not None else {}
    for name, value in said.items():
        if name in _NAMES:
            if _number(value) is not None:
                found[name] = value
        elif name in _GROUPS and isinstance(value, Mapping):
            found[name] = found.get(name, {}) | {
                detail: count
                for detail, count in value.items()
                if detail in _DETAIL_NAMES and _number(count) is not None
            }
        elif name in _LISTS and isinstance(value, list):
            found[name] = value[:_LISTED_MAX]
    return found


def openai(counts: Counts) -> Usage | None:
    """Chat completions, responses, embeddings, images and audio: two namings of one shape."""
    read = _first(counts, "input_tokens", "prompt_tokens")
    written = _first(counts, "output_tokens", "completion_tokens")
    total = _count(counts.get("total_tokens"))
    if written is None and read is not None and total is not None and total >= read:
        written = total - read  # embeddings report a total and no completion
    if read is None and written is None:
        seconds = _number(counts.get("seconds"))
        return Usage(audio_s=float(seconds)) if seconds is not None else None
    reasoning = _detail(counts, _OUTPUT_DETAILS, "reasoning_tokens")
    if read is not None and written is not None and reasoning and total is not None:
        # xAI's, which counts it beside the answer.
        written += reasoning if total == read + written + reasoning else 0
    cached = _detail(counts, _INPUT_DETAILS, "cached_tokens")
    if cached is None:  # Kimi's, Anthropic's compatible API's and DeepSeek's
        cached = _first(counts, "cached_tokens", "prompt_cache_hit_tokens")
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_part(cached, read),
        reasoning_tokens=_part(reasoning, written),
        cache_write_tokens=_part(_detail(counts, _INPUT_DETAILS, "cache_write_tokens"), read),
        input_audio_tokens=_part(_detail(counts, _INPUT_DETAILS, "audio_tokens"), read),
        input_image_tokens=_part(_detail(counts, _INPUT_DETAILS, "image_tokens"), read),
        output_audio_tokens=_part(_detail(counts, _OUTPUT_DETAILS, "audio_tokens"), written),
        output_image_tokens=_part(_detail(counts, _OUTPUT_DETAILS, "image_tokens"), written),
    )


def anthropic(counts: Counts) -> Usage | None:
    """Messages: cache reads and writes are counted beside `input_tokens`, so they are added."""
    fresh, written = _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
    if fresh is None and written is None:
        return None
    read = _count(counts.get("cache_read_input_tokens"))
    stored = _count(counts.get("cache_creation_input_tokens"))
    creation = ("cache_creation",)
    short = _detail(counts, creation, "ephemeral_5m_input_tokens")
    long = _detail(counts, creation, "ephemeral_1h_input_tokens")
    if stored is None and (short is not None or long is not None):
        stored = (short or 0) + (long or 0)
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (stored or 0),
        output_tokens=written,
        cached_tokens=read,
        reasoning_tokens=_part(_detail(counts, _OUTPUT_DETAILS, "thinking_tokens"), written),
        cache_write_tokens=stored,
        long_cache_write_tokens=_part(long, stored),
    )


def gemini(counts: Counts) -> Usage | None:
    """generateContent: thoughts are counted beside the candidates, and the results of tools beside
    the prompt, so they are added."""
    prompt = _count(counts.get("promptTokenCount"))
    answer = _count(counts.get("candidatesTokenCount"))
    thoughts = _count(counts.get("thoughtsTokenCount"))
    if prompt is None and answer is None:
        return None
    read = None if prompt is None else prompt + (_count(counts.get("toolUsePromptTokenCount")) or 0)
    written = None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0)
    if written is None and read is not None and _count(counts.get("totalTokenCount")) == read:
        written = 0  # an embedding, or a prompt that was blocked
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_part(_count(counts.get("cachedContentTokenCount")), read),
        reasoning_tokens=thoughts,
        input_audio_tokens=_part(_listed(counts, "promptTokensDetails", "AUDIO"), read),
        input_image_tokens=_part(_listed(counts, "promptTokensDetails", "IMAGE"), read),
        output_audio_tokens=_part(_listed(counts, "candidatesTokensDetails", "AUDIO"), written),
        output_image_tokens=_part(_listed(counts, "candidatesTokensDetails", "IMAGE"), written),
    )


def _number(value: Any) -> int | float | None:
    """A number that may count something, or None: no text, no truth value, no NaN."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if 0 <= value <= COUNT_MAX else None  # NaN is neither
    return None


def _count(value: Any) -> int | None:
    """A whole number; some servers write theirs as 12.0."""
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _first(counts: Counts, *names: str) -> int | None:
    """The first of some names that has a count."""
    for name in names:
        value = _count(counts.get(name))
        if value is not None:
            return value
    return None


def _detail(counts: Counts, groups: tuple[str, ...], name: str) -> int | None:
    for group in groups:
        details = counts.get(group)
        if isinstance(details, dict):
            value = _count(details.get(name))
            if value is not None:
                return value
    return None


def _part(part: int | None, whole: int | None) -> int | None:
    """A count of part of another; one that is larger is a mistake, and says nothing."""
    return None if part is not None and whole is not None and part > whole else part


def _listed(counts: Counts, name: str, modality: str) -> int | None:
    """The tokens of one modality in a list of Gemini's."""
    for item in counts.get(name, ()):
        if isinstance(item, dict) and item.get("modality") == modality:
            return _count(item.get("tokenCount"))
    return None
