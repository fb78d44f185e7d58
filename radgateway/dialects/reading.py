"""Finding the model in a request body without parsing more of it than that takes."""

from __future__ import annotations

import re

import msgspec

from radgateway.dialects import json_splice
from radgateway.dialects.base import Ask
from radgateway.errors import Refusal

MODEL_NAME_MAX = 256
"""Longest model name, in characters; the longest real ones (fine-tunes, ARNs) are about 200."""

_PART_HEADERS_MAX = 4 * 1024
_PARTS_MAX = 256
_MODEL_FIELD = re.compile(
    rb'^content-disposition:[^\r\n]*;\s*name="?model"?\s*(?:;|$)', re.I | re.M
)
_STREAM_FIELD = re.compile(
    rb'^content-disposition:[^\r\n]*;\s*name="?stream"?\s*(?:;|$)', re.I | re.M
)
_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.I)


class Head(msgspec.Struct):
    """The fields of a JSON body that routing needs; all others are skipped, not read."""

    model: str
    stream: bool | None = None
    stream_options: msgspec.Raw = msgspec.Raw()


_head = msgspec.json.Decoder(Head)


class _Generation(msgspec.Struct):
    maxOutputTokens: msgspec.Raw = msgspec.Raw()


class _Bounds(msgspec.Struct):
    """The fields by which the APIs bound an answer's length; raw, so that none can be wrong."""

    max_completion_tokens: msgspec.Raw = msgspec.Raw()
    max_tokens: msgspec.Raw = msgspec.Raw()
    max_output_tokens: msgspec.Raw = msgspec.Raw()
    generationConfig: msgspec.Raw = msgspec.Raw()


_bounds = msgspec.json.Decoder(_Bounds)
_generation = msgspec.json.Decoder(_Generation)
_WHOLE = re.compile(rb"[0-9]{1,9}")


def check_model(name: str) -> str:
    """The model's name, or a refusal for one that can't be a name."""
    if not name:
        raise Refusal(
            "missing_model", "The request's `model` is empty; name one of GET /v1/models."
        )
    if len(name) > MODEL_NAME_MAX or not name.isprintable():
        raise Refusal(
            "invalid_model",
            f"The model's name must be at most {MODEL_NAME_MAX} printable characters.",
        )
    return name


def read_json(content_type: bytes, body: bytes) -> Head:
    """The routing fields of a JSON request. Raises `Refusal`, naming what is wrong and where."""
    media = content_type.partition(b";")[0].strip().lower()
    if media and media != b"application/json" and not media.endswith(b"+json"):
        raise Refusal(
            "unsupported_media_type",
            f"This path takes application/json, not {media[:64].decode('latin-1')!r}.",
        )
    try:
        head = _head.decode(body)
        if not body.isascii():
            body.decode()  # msgspec checks only what it reads
    except msgspec.ValidationError as error:
        raise _wrong_fields(error) from None
    except UnicodeDecodeError as error:
        raise Refusal("invalid_json", f"The body is not UTF-8 (at byte {error.start}).") from None
    except RecursionError:
        raise Refusal("invalid_json", "The body is nested too deeply to read.") from None
    except msgspec.DecodeError as error:
        raise Refusal("invalid_json", f"The body is not JSON: {error}.") from None
    check_model(head.model)
    return head


def output_limit(ask: Ask) -> int | None:
    """The most tokens the caller wants written, or None where it names no usable number.

    Reads the body once more, so it is for whoever needs it; what is wrong with a field is the
    provider's to say.
    """
    if ask.content_type[:10].lower() == b"multipart/":
        return None
    if b"max_" not in ask.body and b"maxOutput" not in ask.body:
        return None  # nearly all requests; a search costs a twentieth of what reading does
    try:
        found = _bounds.decode(ask.body)
        generation = bytes(found.generationConfig)
        inner = _generation.decode(generation) if generation[:1] == b"{" else _Generation()
    except (msgspec.DecodeError, RecursionError):
        return None
    for raw in (
        found.max_completion_tokens,
        found.max_tokens,
        found.max_output_tokens,
        inner.maxOutputTokens,
    ):
        value = bytes(raw)
        if _WHOLE.fullmatch(value):
            return int(value)
    return None


def _wrong_fields(error: msgspec.ValidationError) -> Refusal:
    text = str(error)
    if "missing required field `model`" in text:
        return Refusal(
            "missing_model", "The request has no `model`; name one of those of GET /v1/models."
        )
    if "$.model" in text:
        return Refusal("invalid_model", f"`model` must be a string ({text}).")
    return Refusal("invalid_request", f"The request body is not what this path takes: {text}.")


def replace_model(ask: Ask, model: str) -> bytes:
    """The body with the candidate's model name, all other bytes as they came."""
    if ask.content_type[:10].lower() == b"multipart/":
        start, end = multipart_field(ask.content_type, ask.body, _MODEL_FIELD)
        return ask.body[:start] + model.encode() + ask.body[end:]
    old = json_splice.raw_value(ask.body, "model")
    return json_splice.replace(ask.body, "model", old, msgspec.json.encode(model))


def read_multipart(content_type: bytes, body: bytes) -> tuple[str, bool]:
    """The `model` and `stream` fields of a form; file parts are stepped over, never read."""
    start, end = multipart_field(content_type, body, _MODEL_FIELD)
    if start < 0:
        raise Refusal("missing_model", "The form has no field `model`.")
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError:
        raise Refusal("invalid_model", "The form's `model` is not UTF-8.") from None
    check_model(model)
    start, end = multipart_field(content_type, body, _STREAM_FIELD)
    return model, start >= 0 and body[start:end].strip().lower() == b"true"


def multipart_field(content_type: bytes, body: bytes, field: re.Pattern[bytes]) -> tuple[int, int]:
    """Where a form field's value stands (RFC 7578), or (-1, -1)."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise Refusal("invalid_request", "The multipart body has no boundary in its Content-Type.")
    mark = b"--" + (match[1] or match[2])
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if at == 1:
        raise Refusal("invalid_request", "The multipart body does not hold its own boundary.")
    for _ in range(_PARTS_MAX):
        headers_at = at + len(mark)
        if body[headers_at : headers_at + 2] == b"--":
            return -1, -1
        value_at = body.find(b"\r\n\r\n", headers_at, headers_at + _PART_HEADERS_MAX)
        next_mark = body.find(b"\r\n" + mark, headers_at)
        if value_at < 0 or next_mark < value_at:
            raise Refusal("invalid_request", "The multipart body is cut short or malformed.")
        if field.search(body[headers_at:value_at].replace(b"\r\n", b"\n")):
            return value_at + 4, next_mark
        at = next_mark + 2
    raise Refusal("invalid_request", f"The multipart body has more than {_PARTS_MAX} parts.")
