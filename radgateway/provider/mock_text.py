"""The mock provider's replies in text: chat, responses, messages and Gemini, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from radgateway.provider.mock_request import (
    JSON,
    SSE,
    TEXT,
    BadRequest,
    Part,
    Reply,
    Request,
    event,
    whole,
    words,
)

VECTOR = (0.01, 0.02, 0.03, 0.04)
"""The original's embedding of everything."""

_encode = msgspec.json.encode


def _counts(prompt: int, completion: int, cost: float) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost_total": cost,
    }


def _echo(messages: Iterable[Any]) -> str:
    """The original's answer to a chat."""
    prompt: str | None = None
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "user":
            prompt = _text_of(message.get("content"))
    return "No prompt" if prompt is None else f"Echo: {prompt}"


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def chat(asked: Request) -> Reply:
    """A chat completion, or its chunks: a role, words, a finish reason, usage if asked for."""
    text = _echo(asked.fields.messages or ())
    usage = _counts(12, 18, 0.0004)
    head = {"id": f"chatcmpl_{asked.ident}", "created": asked.created, "model": asked.model}
    if asked.fields.stream:
        options = asked.fields.stream_options
        wanted = options is not None and options.include_usage
        return Reply(SSE, tuple(_chat_chunks(head, text, usage if wanted else None)))
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    return whole(answer, len(words(text)))


def _chat_chunks(head: dict[str, Any], text: str, usage: dict[str, Any] | None) -> Iterator[Part]:
    head = {**head, "object": "chat.completion.chunk"}
    if usage is not None:
        # With include_usage every chunk but the last says null, as the API's reference promises.
        head["usage"] = None

    def chunk(delta: dict[str, Any], finish: str | None = None, tokens: int = 0) -> Part:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice]}, tokens)

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for word in words(text):
        yield chunk({"content": word}, tokens=1)
    yield chunk({}, "stop")
    if usage is not None:
        yield event({**head, "choices": [], "usage": usage})
    yield Part(b"data: [DONE]\n\n")


def responses(asked: Request) -> Reply:
    """A response, or the typed events of one."""
    if not asked.fields.stream:
        return whole(_response(asked, "completed"), len(words(TEXT)))
    parts = []
    for number, payload in enumerate(_response_events(asked)):
        tokens = int(payload["type"] == "response.output_text.delta")
        parts.append(event({**payload, "sequence_number": number}, tokens, named=True))
    return Reply(SSE, tuple(parts))


def _response(asked: Request, status: str) -> dict[str, Any]:
    done = status == "completed"
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20,
        "cost_total": 0.0003,
    }
    return {
        "id": f"resp_{asked.ident}",
        "object": "response",
        "created_at": asked.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": asked.model,
        "output": [_output_item(asked, "completed")] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def _output_item(asked: Request, status: str) -> dict[str, Any]:
    content = [_output_text(TEXT)] if status == "completed" else []
    return {
        "id": f"msg_{asked.ident}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(asked: Request) -> Iterator[dict[str, Any]]:
    item = {"output_index": 0}
    content = {**item, "item_id": f"msg_{asked.ident}", "content_index": 0}
    started = _response(asked, "in_progress")
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    running = _output_item(asked, "in_progress")
    yield {"type": "response.output_item.added", **item, "item": running}
    yield {"type": "response.content_part.added", **content, "part": _output_text("")}
    for word in words(TEXT):
        yield {"type": "response.output_text.delta", **content, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **content, "text": TEXT, "logprobs": []}
    yield {"type": "response.content_part.done", **content, "part": _output_text(TEXT)}
    finished = _output_item(asked, "completed")
    yield {"type": "response.output_item.done", **item, "item": finished}
    yield {"type": "response.completed", "response": _response(asked, "completed")}


def messages(asked: Request) -> Reply:
    """A message, or its events with the ping that real streams have."""
    message = {
        "id": f"msg_{asked.ident}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }
    if not asked.fields.stream:
        return whole(message, len(words(TEXT)))
    return Reply(SSE, tuple(_message_events(message)))


def _message_events(message: dict[str, Any]) -> Iterator[Part]:
    begun = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    yield event({"type": "message_start", "message": begun}, named=True)
    yield event({"type": "content_block_start", "index": 0, "content_block": block}, named=True)
    yield event({"type": "ping"}, named=True)
    for word in words(TEXT):
        delta = {"type": "text_delta", "text": word}
        yield event({"type": "content_block_delta", "index": 0, "delta": delta}, 1, named=True)
    yield event({"type": "content_block_stop", "index": 0}, named=True)
    last = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {"output_tokens": 10}
    yield event({"type": "message_delta", "delta": last, "usage": usage}, named=True)
    yield event({"type": "message_stop"}, named=True)


def gemini(asked: Request) -> Reply:
    """Generated content (whole, events, or one JSON array), a token count or an embedding."""
    if asked.action == "countTokens":
        return whole({"totalTokens": 10})
    if asked.action == "embedContent":
        return whole({"embedding": {"values": VECTOR}})
    if asked.action == "generateContent":
        return whole(_generated(asked, TEXT, last=True), len(words(TEXT)))
    if asked.action != "streamGenerateContent":
        raise BadRequest(f"The mock provider does not know the action {asked.action!r}.")
    pieces = words(TEXT)
    chunks = [
        _generated(asked, word, last=at == len(pieces)) for at, word in enumerate(pieces, start=1)
    ]
    if asked.as_events:
        return Reply(SSE, tuple(event(chunk, 1) for chunk in chunks))
    # Without alt=sse the API streams the elements of one JSON array.
    array = [Part((b",\r\n" if at else b"[") + _encode(c), 1) for at, c in enumerate(chunks)]
    return Reply(JSON, (*array, Part(b"]")))


def _generated(asked: Request, text: str, *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    if last:
        candidate["finishReason"] = "STOP"
    output = 10 if last else 1
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": output,
        "totalTokenCount": 10 + output,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": asked.model,
        "responseId": asked.ident,
    }
