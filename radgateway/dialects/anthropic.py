"""Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

import msgspec

from radgateway.dialects import reading, usage
from radgateway.dialects.base import Ask, Event
from radgateway.dialects.usage import Counts
from radgateway.errors import Refusal
from radgateway.exchange import Usage

_encode = msgspec.json.encode
_TYPES = {
    "invalid": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
}
_PREAMBLE = frozenset({"message_start", "ping", "content_block_start"})


def _error(refusal: Refusal) -> dict[str, Any]:
    kind = _TYPES.get(refusal.kind.category, "api_error")
    return {"type": kind, "message": refusal.message, "code": refusal.code}


class AnthropicMessages:
    """POST /v1/messages."""

    name = "anthropic-messages"
    streams_json = False
    texts = True
    keepalive = b'event: ping\ndata: {"type": "ping"}\n\n'

    def read(self, path: str, content_type: bytes, body: bytes) -> Ask:
        """Read the model and `stream`."""
        head = reading.read_json(content_type, body)
        return Ask(path, content_type, body, head.model, bool(head.stream))

    def address(self, ask: Ask, model: str, *, include_usage: bool) -> tuple[str, bytes]:
        """The body with the candidate's model; usage is always reported."""
        return ask.path, ask.body if model == ask.model else reading.replace_model(ask, model)

    def judge(self, payload: Any) -> Event:
        """Nothing before the first delta is content."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if kind == "error":
            return Event.ERROR
        if kind == "message_stop":
            return Event.END
        return Event.PREAMBLE if kind in _PREAMBLE else Event.CONTENT

    def counts_of(self, payload: Any) -> Any:
        """Of a message, of `message_start`, or the running total of a `message_delta`."""
        if not isinstance(payload, dict):
            return None
        inner = payload.get("message")
        return (inner if isinstance(inner, dict) else payload).get("usage")

    def usage(self, counts: Counts) -> Usage | None:
        """Cached tokens are beside the others there."""
        return usage.anthropic(counts)

    def usage_only(self, payload: Any) -> bool:
        """No event exists for the usage alone."""
        return False

    def failed(self, payload: Any) -> bool:
        """A whole answer of type `error`."""
        return isinstance(payload, dict) and payload.get("type") == "error"

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """The error object the official clients read."""
        body = {"type": "error", "error": _error(refusal), "request_id": request_id or None}
        return _encode(body)

    def error_event(self, refusal: Refusal) -> bytes:
        """The API's own `error` event."""
        body = {"type": "error", "error": _error(refusal)}
        return b"event: error\ndata: " + _encode(body) + b"\n\n"
