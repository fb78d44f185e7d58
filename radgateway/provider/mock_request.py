"""A request as the mock provider reads it, and the pieces its replies are made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from radgateway.dialects import reading
from radgateway.dialects.gemini import PATH as GEMINI_PATH
from radgateway.errors import Refusal
from radgateway.exchange import Operation

TEXT: Final = "Mock provider response"
JSON: Final = b"application/json"
SSE: Final = b"text/event-stream; charset=utf-8"

_encode = msgspec.json.encode
_WORDS = re.compile(r"\S+\s*|\s+")
_FORMAT_FIELD = re.compile(
    rb'content-disposition:[^\r\n]*;\s*name="?response_format"?\s*(?:;|$)', re.I | re.M
)


class BadRequest(Exception):
    """The request is not what its path takes; the message says why."""


class Part(NamedTuple):
    """A piece of the reply that is sent in one message."""

    data: bytes
    tokens: int = 0
    """Words of the answer in it: what a token rate is counted by."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, in the pieces it is sent in: an event each, where it is a stream."""

    content_type: bytes
    parts: Sequence[Part]

    @property
    def events(self) -> bool:
        """Whether it is a stream of server-sent events."""
        return self.content_type is SSE


class StreamOptions(msgspec.Struct):
    """OpenAI's options of a stream."""

    include_usage: bool | None = None


class Fields(msgspec.Struct):
    """What the replies depend on; every other field of a request is ignored."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stream_format: str | None = None
    messages: list[Any] | None = None
    input: Any = None
    encoding_format: str | None = None
    response_format: Any = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the replies need it."""

    fields: Fields
    model: str
    action: str
    as_events: bool
    """Gemini's `alt=sse`."""
    ident: str
    """Twelve hexadecimal digits, a hash of the path and body."""
    created: int
    """Unix seconds."""


_decoder = msgspec.json.Decoder(Fields)


def read(
    operation: Operation,
    path: str,
    content_type: bytes,
    body: bytes,
    *,
    query: bytes,
    now: float,
) -> Request:
    """Read one request. `now` is in Unix seconds. Raises `BadRequest`."""
    if operation.api_type == "transcriptions":
        fields = _read_form(content_type, body)
    else:
        fields = _read_json(body)
    model = fields.model or ""
    if operation.api_type == "gemini":
        match = GEMINI_PATH.fullmatch(path)
        model = unquote(match["model"]) if match is not None else ""
    if not model:
        raise BadRequest("The request names no model.")
    digest = hashlib.blake2b(path.encode() + b"\n" + body, digest_size=6)
    as_events = b"alt=sse" in query.split(b"&")
    return Request(fields, model, operation.action, as_events, digest.hexdigest(), int(now))


def _read_json(body: bytes) -> Fields:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not what this path takes: {error}.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _read_form(content_type: bytes, body: bytes) -> Fields:
    if content_type[:10].lower() != b"multipart/":
        raise BadRequest("This path takes multipart/form-data.")
    try:
        model, stream = reading.read_multipart(content_type, body)
        start, end = reading.multipart_field(content_type, body, _FORMAT_FIELD)
    except Refusal as refusal:
        raise BadRequest(refusal.message) from None
    wanted = body[start:end].decode("latin-1") if start >= 0 else "json"
    return Fields(model=model, stream=stream, response_format=wanted)


def whole(payload: object, tokens: int = 0) -> Reply:
    """A reply of one JSON body."""
    return Reply(JSON, (Part(_encode(payload), tokens),))


def event(payload: dict[str, Any], tokens: int = 0, *, named: bool = False) -> Part:
    """One server-sent event; a named one has an `event` line with its type."""
    name = b"event: " + payload["type"].encode() + b"\n" if named else b""
    return Part(name + b"data: " + _encode(payload) + b"\n\n", tokens)


def words(text: str) -> list[str]:
    """The text in pieces of a word each, which is what the mock counts as a token."""
    return _WORDS.findall(text)
