"""What the gateway needs to know of an API's language, and nothing more.

A dialect reads just enough of a request to route it, writes just the two edits a passing body may
get, says what an event of its streams means, and words errors as its own clients expect them.
Bodies are never parsed into a model of ours: fields nobody here knows pass untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from radgateway.dialects.usage import Counts
from radgateway.errors import Refusal
from radgateway.exchange import Usage


class Event(Enum):
    """What one event of a stream is to the router."""

    PREAMBLE = "preamble"
    """Comes before any content and promises none (a role, `message_start`, a ping)."""
    CONTENT = "content"
    """Carries something of the answer, or is unknown: releasing it is the commit point."""
    ERROR = "error"
    """The provider says, inside a 200, that it failed."""
    FINISH = "finish"
    """The content is complete; what still follows only describes it."""
    END = "end"
    """The dialect's own mark that the stream is complete and nothing follows."""


@dataclass(slots=True)
class Ask:
    """A request as the router needs it."""

    path: str
    """Below the mount point, without the query string."""
    content_type: bytes
    body: bytes
    model: str
    stream: bool
    usage_wanted: bool = True
    """False where the caller would get no usage unless we ask for it in its stead."""


class Dialect(Protocol):
    """One API's language."""

    name: str
    """openai-chat, openai-responses, openai, anthropic-messages or gemini; safe as a label."""
    streams_json: bool
    """Whether a stream may also come as one JSON document that grows (Gemini's array)."""
    texts: bool
    """Whether an event of its streams is about a token of text: what a length is estimated by."""
    keepalive: bytes
    """What may be sent between two events and means nothing; empty where its clients take nothing
    of the kind."""

    def read(self, path: str, content_type: bytes, body: bytes) -> Ask:
        """Find the model and whether the answer is to stream. Raises `Refusal` (400, 415)."""

    def address(self, ask: Ask, model: str, *, include_usage: bool) -> tuple[str, bytes]:
        """The path and body for a candidate: the model's name replaced where it differs.

        `include_usage` asks the provider for the stream's usage where the caller did not; both
        edits splice into the bytes and leave all others as they came.
        """

    def judge(self, payload: Any) -> Event:
        """What a decoded event of a stream is."""

    def counts_of(self, payload: Any) -> Any:
        """Where a decoded response or event has its usage: an object, or anything else for none."""

    def usage(self, counts: Counts) -> Usage | None:
        """What has been reported, in one meaning; None where that is nothing."""

    def usage_only(self, payload: Any) -> bool:
        """Whether an event carries usage and nothing else (it exists because we asked for it)."""

    def failed(self, payload: Any) -> bool:
        """Whether a decoded whole response, sent with a 200, is an error."""

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """A refusal as this API words its errors."""

    def error_event(self, refusal: Refusal) -> bytes:
        """A refusal as the last event of a stream that can't go on."""
