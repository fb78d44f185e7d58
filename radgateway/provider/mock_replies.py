"""What the mock provider says: one reply for one request, as bytes, in the request's own dialect.

Pure and deterministic: the same path, body and clock give the same bytes. The texts and token
counts are those of the original gateway's mock (chat echoes the last user message, 12 + 18 tokens;
all else says "Mock provider response", 10 + 10; embeddings are 8), in the shapes that the vendors'
official clients read. It stands behind `MockProvider` and knows nothing of ASGI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from radgateway.exchange import Operation
from radgateway.provider import mock_media, mock_request, mock_text
from radgateway.provider.mock_request import BadRequest, Reply, Request

_BUILDERS: Final[dict[str, Callable[[Request], Reply]]] = {
    "chat": mock_text.chat,
    "responses": mock_text.responses,
    "messages": mock_text.messages,
    "gemini": mock_text.gemini,
    "embeddings": mock_media.embeddings,
    "images": mock_media.images,
    "transcriptions": mock_media.transcriptions,
    "speech": mock_media.speech,
}


def reply_to(
    operation: Operation,
    path: str,
    content_type: bytes,
    body: bytes,
    *,
    query: bytes,
    now: float,
) -> Reply:
    """The reply to one request. `now` is in Unix seconds. Raises `BadRequest`."""
    builder = _BUILDERS.get(operation.api_type)
    if builder is None:
        raise BadRequest("The mock provider does not serve this path.")
    return builder(mock_request.read(operation, path, content_type, body, query=query, now=now))


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_body(dialect: str, status: int, message: str) -> bytes:
    """An error as the vendor of a dialect words it, for any status."""
    return msgspec.json.encode(_error(dialect, status, message))


def error_event(dialect: str, status: int, message: str) -> bytes:
    """The same as an event of a stream."""
    if dialect == "openai-responses":
        failure = {"type": "error", "code": "server_error", "message": message, "param": None}
        data = msgspec.json.encode({**failure, "sequence_number": 0})
    else:
        data = error_body(dialect, status, message)
    named = b"event: error\n" if dialect in ("openai-responses", "anthropic-messages") else b""
    return named + b"data: " + data + b"\n\n"


def _error(dialect: str, status: int, message: str) -> dict[str, Any]:
    if dialect == "anthropic-messages":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    if dialect == "gemini":
        name = _GEMINI_STATUSES.get(status, "INTERNAL")
        return {"error": {"code": status, "message": message, "status": name}}
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
