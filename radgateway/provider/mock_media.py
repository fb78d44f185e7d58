"""The mock provider's replies that are not text: embeddings, images, transcripts and speech."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any, Final

from radgateway.provider.mock_request import (
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
from radgateway.provider.mock_text import VECTOR

_MOST_INPUTS = 2048
"""Inputs of one embeddings call answered one by one; OpenAI's own limit."""


def embeddings(asked: Request) -> Reply:
    """A vector for each input, as floats or in base64."""
    given = asked.fields.input
    # A list of numbers is one input in tokens, a list of strings or of lists is many inputs.
    many = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    count = len(given) if many else 1
    if count > _MOST_INPUTS:
        raise BadRequest(f"At most {_MOST_INPUTS} inputs can be embedded in one call.")
    vector: Any = list(VECTOR)
    if asked.fields.encoding_format == "base64":
        # What the official client asks for unless it is told otherwise: float32, little-endian.
        vector = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(count)]
    usage = {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8, "cost_total": 0.0001}
    return whole({"object": "list", "data": data, "model": asked.model, "usage": usage})


def images(asked: Request) -> Reply:
    """One transparent pixel, as often as asked for."""
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
        "output_tokens": 10,
        "total_tokens": 20,
    }
    image = base64.b64encode(PNG).decode()
    made = {"output_format": "png", "quality": "low", "size": "1024x1024", "background": "opaque"}
    if asked.fields.stream:
        done = {"type": "image_generation.completed", "b64_json": image, "usage": usage}
        return Reply(SSE, (event({**done, **made, "created_at": asked.created}, named=True),))
    count = min(max(asked.fields.n or 1, 1), 10)
    data = [{"b64_json": image, "revised_prompt": TEXT}] * count
    return whole({"created": asked.created, "data": data, "usage": usage, **made})


def transcriptions(asked: Request) -> Reply:
    """The text as JSON, plain, or a stream of deltas."""
    details = {"audio_tokens": 10, "text_tokens": 0}
    usage = {
        "type": "tokens",
        "input_tokens": 10,
        "input_token_details": details,
        "output_tokens": 10,
        "total_tokens": 20,
    }
    if asked.fields.stream:
        deltas = [
            event({"type": "transcript.text.delta", "delta": word}, 1) for word in words(TEXT)
        ]
        done = event({"type": "transcript.text.done", "text": TEXT, "usage": usage})
        return Reply(SSE, (*deltas, done))
    if asked.fields.response_format == "text":
        return Reply(b"text/plain; charset=utf-8", (Part(TEXT.encode() + b"\n", 3),))
    return whole({"text": TEXT, "usage": usage}, len(words(TEXT)))


def speech(asked: Request) -> Reply:
    """About 0.2 s of silence: MPEG frames, or as many zero bytes under another format's type."""
    frames = [MP3_FRAME] * 8
    if asked.fields.stream_format == "sse":
        deltas = [
            event({"type": "speech.audio.delta", "audio": base64.b64encode(frame).decode()}, 1)
            for frame in frames
        ]
        usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
        return Reply(SSE, (*deltas, event({"type": "speech.audio.done", "usage": usage})))
    wanted = asked.fields.response_format or "mp3"
    if not isinstance(wanted, str) or wanted not in _AUDIO_TYPES:
        raise BadRequest(f"`response_format` must be one of {', '.join(sorted(_AUDIO_TYPES))}.")
    if wanted != "mp3":
        frames = [b"\0" * len(MP3_FRAME)] * len(frames)
    return Reply(_AUDIO_TYPES[wanted], tuple(Part(frame, 1) for frame in frames))


def _png() -> bytes:
    """One transparent pixel (ISO/IEC 15948 §5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 1, 1, 8, 6, 0, 0, 0)
    pixel = zlib.compress(b"\0" * 5)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )


PNG: Final = _png()
MP3_FRAME: Final = b"\xff\xfb\x90\x00" + b"\0" * 413
"""A silent frame of 26 ms: MPEG-1 layer III, 128 kbit/s, 44.1 kHz."""
_AUDIO_TYPES: Final[dict[str, bytes]] = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
