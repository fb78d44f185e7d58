"""Reading token counts as each API reports them, into one meaning.

Input counts include what was served from a prompt cache and output counts include reasoning,
whatever the provider's convention (Anthropic's `input_tokens` excludes cached tokens, OpenAI's
`prompt_tokens` includes them). A field that is absent stays None: unknown is not 0.
"""

from __future__ import annotations

from typing import Any

from radgateway.exchange import Usage


def _count(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


def _detail(counts: dict[str, Any], group: str, name: str) -> int | None:
    details = counts.get(group)
    return _count(details.get(name)) if isinstance(details, dict) else None


def openai(counts: Any) -> Usage | None:
    """Chat completions, responses, embeddings, images and audio: two namings of one shape."""
    if not isinstance(counts, dict):
        return None
    if "input_tokens" in counts or "output_tokens" in counts:
        return Usage(
            input_tokens=_count(counts.get("input_tokens")),
            output_tokens=_count(counts.get("output_tokens")),
            cached_tokens=_detail(counts, "input_tokens_details", "cached_tokens"),
            reasoning_tokens=_detail(counts, "output_tokens_details", "reasoning_tokens"),
        )
    prompt = _count(counts.get("prompt_tokens"))
    if prompt is None and "completion_tokens" not in counts:
        return None
    completion = _count(counts.get("completion_tokens"))
    if completion is None and _count(counts.get("total_tokens")) == prompt:
        completion = 0  # embeddings report a total and no completion
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=_detail(counts, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(counts, "completion_tokens_details", "reasoning_tokens"),
    )


def anthropic(counts: Any) -> Usage | None:
    """Messages: cache reads and writes are counted beside `input_tokens`, so they are added."""
    if not isinstance(counts, dict):
        return None
    fresh, output = _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
    if fresh is None and output is None:
        return None
    read = _count(counts.get("cache_read_input_tokens"))
    written = _count(counts.get("cache_creation_input_tokens"))
    total = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage(
        input_tokens=total, output_tokens=output, cached_tokens=read, cache_write_tokens=written
    )


def gemini(counts: Any) -> Usage | None:
    """generateContent: thoughts are counted beside the candidates, so they are added."""
    if not isinstance(counts, dict):
        return None
    prompt = _count(counts.get("promptTokenCount"))
    answer = _count(counts.get("candidatesTokenCount"))
    thoughts = _count(counts.get("thoughtsTokenCount"))
    if prompt is None and answer is None:
        return None
    output = None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0)
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=_count(counts.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def merged(old: Usage | None, new: Usage) -> Usage:
    """Later reports of a stream replace earlier ones, field by field (Anthropic sends both)."""
    if old is None:
        return new
    return Usage(
        input_tokens=old.input_tokens if new.input_tokens is None else new.input_tokens,
        output_tokens=old.output_tokens if new.output_tokens is None else new.output_tokens,
        cached_tokens=old.cached_tokens if new.cached_tokens is None else new.cached_tokens,
        cache_write_tokens=(
            old.cache_write_tokens if new.cache_write_tokens is None else new.cache_write_tokens
        ),
        reasoning_tokens=(
            old.reasoning_tokens if new.reasoning_tokens is None else new.reasoning_tokens
        ),
        source=new.source,
    )
