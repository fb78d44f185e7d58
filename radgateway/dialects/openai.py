"""OpenAI's APIs, and all that speak them (Ollama, vLLM, llama.cpp, OpenRouter and many more)."""

from __future__ import annotations

from typing import Any

import msgspec

from radgateway.dialects import json_splice, reading, usage
from radgateway.dialects.base import Ask, Event
from radgateway.dialects.usage import Counts
from radgateway.errors import Refusal
from radgateway.exchange import Usage

_encode = msgspec.json.encode
_TYPES = {
    "invalid": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "invalid_request_error",
    "too_large": "invalid_request_error",
    "rate_limit": "rate_limit_error",
}


def _error(refusal: Refusal) -> dict[str, Any]:
    kind = _TYPES.get(refusal.kind.category, "server_error")
    return {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}


class OpenAI:
    """Embeddings, images and audio: one answer to one request, or bytes, or a stream of events."""

    name = "openai"
    streams_json = False
    texts = False
    keepalive = b": keepalive\n\n"

    def read(self, path: str, content_type: bytes, body: bytes) -> Ask:
        """Read a JSON body or, for transcriptions, a multipart form."""
        if content_type[:10].lower() == b"multipart/":
            model, stream = reading.read_multipart(content_type, body)
            return Ask(path, content_type, body, model, stream)
        head = reading.read_json(content_type, body)
        return Ask(path, content_type, body, head.model, bool(head.stream))

    def address(self, ask: Ask, model: str, *, include_usage: bool) -> tuple[str, bytes]:
        """The body with the candidate's model; nothing else differs."""
        body = ask.body if model == ask.model else reading.replace_model(ask, model)
        return ask.path, body

    def judge(self, payload: Any) -> Event:
        """Events of speech and transcription streams are content unless they are errors."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if kind == "error" or self.failed(payload):
            return Event.ERROR
        finished = isinstance(kind, str) and kind.endswith((".done", ".completed"))
        # One of several images may be done; nothing says here that no other follows.
        return Event.FINISH if finished else Event.CONTENT

    def counts_of(self, payload: Any) -> Any:
        """`usage` of a whole answer or of a stream's last event."""
        return payload.get("usage") if isinstance(payload, dict) else None

    def usage(self, counts: Counts) -> Usage | None:
        """The two namings of OpenAI's APIs."""
        return usage.openai(counts)

    def usage_only(self, payload: Any) -> bool:
        """No event of these streams exists for the usage alone."""
        return False

    def failed(self, payload: Any) -> bool:
        """An `error` that is not null."""
        return isinstance(payload, dict) and bool(payload.get("error"))

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """The error object the official clients read."""
        return _encode({"error": _error(refusal)})

    def error_event(self, refusal: Refusal) -> bytes:
        """A data line with an `error`: the official clients raise it as an APIError."""
        return b"data: " + _encode({"error": _error(refusal)}) + b"\n\n"


class OpenAIChat(OpenAI):
    """Chat completions."""

    name = "openai-chat"
    texts = True

    def read(self, path: str, content_type: bytes, body: bytes) -> Ask:
        """Read the model, `stream`, and whether the caller asked for the stream's usage."""
        head = reading.read_json(content_type, body)
        stream = bool(head.stream)
        wanted = not stream or _asked_for_usage(head.stream_options)
        return Ask(path, content_type, body, head.model, stream, wanted)

    def address(self, ask: Ask, model: str, *, include_usage: bool) -> tuple[str, bytes]:
        """Besides the model, ask for the usage of a stream whose caller did not."""
        path, body = super().address(ask, model, include_usage=include_usage)
        if not include_usage or ask.usage_wanted:
            return path, body
        try:
            old = json_splice.raw_value(body, "stream_options")
        except KeyError:
            return path, json_splice.insert(body, "stream_options", b'{"include_usage":true}')
        options = msgspec.json.decode(old) or {}
        options["include_usage"] = True
        return path, json_splice.replace(body, "stream_options", old, _encode(options))

    def judge(self, payload: Any) -> Event:
        """A chunk whose deltas hold at most a role is the preamble, a finish reason the end.

        Some compatible servers never send `[DONE]`, so the finish reason counts as the mark.
        """
        if not isinstance(payload, dict):
            return Event.CONTENT
        if self.failed(payload):
            return Event.ERROR
        choices = payload.get("choices")
        if not isinstance(choices, list) or not choices:
            # Usage alone, or a gateway's own preface (OpenRouter and Azure send such chunks).
            return Event.CONTENT if payload.get("usage") else Event.PREAMBLE
        if any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices):
            return Event.FINISH
        return Event.CONTENT if any(map(_has_content, choices)) else Event.PREAMBLE

    def usage_only(self, payload: Any) -> bool:
        """The extra chunk of `include_usage`: usage, and no choices."""
        return (
            isinstance(payload, dict) and not payload.get("choices") and bool(payload.get("usage"))
        )


def _asked_for_usage(options: msgspec.Raw) -> bool:
    value = msgspec.json.decode(options) if bytes(options) else None
    if value is None:
        return False
    # Anything but an object is the provider's to refuse, so it passes untouched.
    return not isinstance(value, dict) or value.get("include_usage") is True


def _has_content(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        return True
    return any(value for name, value in delta.items() if name != "role")


class OpenAIResponses(OpenAI):
    """The Responses API, whose stream has typed events."""

    name = "openai-responses"
    texts = True

    _PREAMBLE = frozenset(
        {
            "response.created",
            "response.queued",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "keepalive",
        }
    )

    def judge(self, payload: Any) -> Event:
        """`response.failed` and `error` are failures; those before the first delta, preamble."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if kind in ("error", "response.failed") or (kind is None and self.failed(payload)):
            return Event.ERROR
        if kind in ("response.completed", "response.incomplete"):
            return Event.END
        return Event.PREAMBLE if kind in self._PREAMBLE else Event.CONTENT

    def counts_of(self, payload: Any) -> Any:
        """Of a whole response, or of the response inside the last event."""
        if not isinstance(payload, dict):
            return None
        inner = payload.get("response")
        return (inner if isinstance(inner, dict) else payload).get("usage")

    def failed(self, payload: Any) -> bool:
        """An error, or a response whose status is failed."""
        return isinstance(payload, dict) and (
            bool(payload.get("error")) or payload.get("status") == "failed"
        )

    def error_event(self, refusal: Refusal) -> bytes:
        """The API's own `error` event."""
        body = {"type": "error", "code": refusal.code, "message": refusal.message, "param": None}
        return b"event: error\ndata: " + _encode(body) + b"\n\n"
