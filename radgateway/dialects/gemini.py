"""Gemini's generateContent family: the model and the verb stand in the path."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from radgateway.dialects import reading, usage
from radgateway.dialects.base import Ask, Event
from radgateway.dialects.usage import Counts
from radgateway.errors import Refusal
from radgateway.exchange import Usage

_encode = msgspec.json.encode
PATH = re.compile(r"/v1beta/models/(?P<model>[^:]{1,512}):(?P<action>[A-Za-z]{1,64})")
_ACTIONS = frozenset({"generateContent", "streamGenerateContent", "countTokens", "embedContent"})
_STATUS = {
    "authentication": "UNAUTHENTICATED",
    "permission": "PERMISSION_DENIED",
    "not_found": "NOT_FOUND",
    "invalid": "INVALID_ARGUMENT",
    "too_large": "INVALID_ARGUMENT",
    "rate_limit": "RESOURCE_EXHAUSTED",
    "overloaded": "UNAVAILABLE",
    "upstream": "UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
}


class _Head(msgspec.Struct):
    """Checks that the body is a JSON object; none of its fields matter for routing."""


_head = msgspec.json.Decoder(_Head)


def _error(refusal: Refusal) -> dict[str, Any]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": refusal.code,
        "domain": "radgateway",
    }
    return {
        "code": refusal.status,
        "message": refusal.message,
        "status": _STATUS.get(refusal.kind.category, "INTERNAL"),
        "details": [info],
    }


class Gemini:
    """POST /v1beta/models/{model}:{action}."""

    name = "gemini"
    streams_json = True
    texts = True
    # Google's own clients parse every line that is no data line as JSON (python-genai), or refuse
    # it (googleapis/go-genai#903).
    keepalive = b""

    def read(self, path: str, content_type: bytes, body: bytes) -> Ask:
        """The model and the verb come from the path; the body is only checked to be an object."""
        match = PATH.fullmatch(path)
        if match is None or match["action"] not in _ACTIONS:
            raise Refusal("unknown_path", f"Known actions are {', '.join(sorted(_ACTIONS))}.")
        try:
            _head.decode(body)
            if not body.isascii():
                body.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = str(error) if not isinstance(error, RecursionError) else "nested too deeply"
            raise Refusal("invalid_json", f"The body is not a JSON object: {reason}.") from None
        model = reading.check_model(unquote(match["model"]))
        if not all(part.strip(".") for part in model.split("/")):
            # It becomes part of the provider's path; it must not climb out of it.
            raise Refusal(
                "invalid_model", "The model's name has an empty or a dotted path segment."
            )
        return Ask(path, content_type, body, model, match["action"] == "streamGenerateContent")

    def address(self, ask: Ask, model: str, *, include_usage: bool) -> tuple[str, bytes]:
        """The path made anew from the candidate's model; usage is always reported."""
        action = ask.path.rpartition(":")[2]
        return f"/v1beta/models/{quote(model, safe='/')}:{action}", ask.body

    def judge(self, payload: Any) -> Event:
        """Every event is content but errors; a finish or block reason marks the end."""
        if self.failed(payload):
            return Event.ERROR
        if not isinstance(payload, dict):
            return Event.CONTENT
        candidates = payload.get("candidates")
        feedback = payload.get("promptFeedback")
        ended = (isinstance(feedback, dict) and bool(feedback.get("blockReason"))) or (
            isinstance(candidates, list)
            and any(isinstance(c, dict) and c.get("finishReason") for c in candidates)
        )
        return Event.END if ended else Event.CONTENT

    def counts_of(self, payload: Any) -> Any:
        """`usageMetadata`: each event's is the running total."""
        return payload.get("usageMetadata") if isinstance(payload, dict) else None

    def usage(self, counts: Counts) -> Usage | None:
        """Thoughts are beside the answer there."""
        return usage.gemini(counts)

    def usage_only(self, payload: Any) -> bool:
        """We ask for none, so none is ours to hide."""
        return False

    def failed(self, payload: Any) -> bool:
        """An `error` that is not null."""
        return isinstance(payload, dict) and bool(payload.get("error"))

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """google.rpc.Status, with our code as the reason."""
        return _encode({"error": _error(refusal)})

    def error_event(self, refusal: Refusal) -> bytes:
        """The same as a data line."""
        return b"data: " + _encode({"error": _error(refusal)}) + b"\n\n"
