"""Every span of the gateway, declared once: its kind, its parent, its attributes and its events.

The six names and the seven attributes without a prefix of anybody's are the operations strategy's
(its 5.3). `http.`, `url.`, `server.` and `error.` are OpenTelemetry's and stable; `gen_ai.` are its
conventions for generative AI, here in the generation that is the default (`genai_names.py`).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from radgateway.telemetry.genai_names import CURRENT

Type = Literal["string", "int", "double", "boolean"]


class DeclaredAttribute(NamedTuple):
    """One attribute of spans or of their events."""

    type: Type
    help: str


class DeclaredSpan(NamedTuple):
    """One span. `events` are those it may have, with their attributes."""

    name: str
    kind: Literal["SERVER", "CLIENT", "INTERNAL"]
    parent: str | None
    """None for the root: the caller's span, if it has one."""
    attributes: frozenset[str]
    events: dict[str, frozenset[str]]
    help: str


_ASKED: Final = frozenset(
    {
        "request.model",
        "request.api_type",
        "response.provider",
        "response.status",
        "retry.attempt_count",
        "usage.input_tokens",
        "usage.output_tokens",
        "http.response.status_code",
        "error.type",
        CURRENT.operation,
        CURRENT.request_model,
    }
)

ATTRIBUTES: Final[dict[str, DeclaredAttribute]] = {
    # the strategy's
    "request.model": DeclaredAttribute(
        "string", "the model: as the caller named it, on an attempt as the provider is asked for it"
    ),
    "request.api_type": DeclaredAttribute(
        "string",
        "`chat`, `responses`, `messages`, `embeddings`, `images`, `transcriptions`, `speech`, "
        "`gemini` or `models`",
    ),
    "response.provider": DeclaredAttribute("string", "the provider, by its name here"),
    "response.status": DeclaredAttribute(
        "int", "the status that is counted: 499 for a client that left"
    ),
    "retry.attempt_count": DeclaredAttribute(
        "int", "attempts of the request; on an attempt which one it is, from 1"
    ),
    "usage.input_tokens": DeclaredAttribute("int", "tokens, those cached included, where known"),
    "usage.output_tokens": DeclaredAttribute("int", "tokens, reasoning included, where known"),
    # OpenTelemetry's, stable
    "http.request.method": DeclaredAttribute("string", "the method; `_OTHER` for an unknown one"),
    "http.route": DeclaredAttribute("string", "the path's template, or `other`"),
    "http.response.status_code": DeclaredAttribute("int", "the status that went out, or came in"),
    "http.request.resend_count": DeclaredAttribute("int", "which further attempt it is, from 1"),
    "url.path": DeclaredAttribute("string", "the path, without query"),
    "server.address": DeclaredAttribute("string", "the host of the provider's API"),
    "server.port": DeclaredAttribute("int", "its port"),
    "error.type": DeclaredAttribute(
        "string", "a code of the errors' reference, `client_disconnected`, `cancelled` or a status"
    ),
    # OpenTelemetry's for generative AI
    CURRENT.operation: DeclaredAttribute(
        "string", "`chat`, `embeddings`, `generate_content`, `transcription` or `count_tokens`"
    ),
    CURRENT.provider: DeclaredAttribute("string", "the vendor, as far as its address tells"),
    CURRENT.request_model: DeclaredAttribute("string", "as `request.model`"),
    CURRENT.request_stream: DeclaredAttribute("boolean", "true where the answer is to stream"),
    CURRENT.first_chunk_s: DeclaredAttribute(
        "double", "of a stream: seconds to the first bytes of its body"
    ),
    CURRENT.input_tokens: DeclaredAttribute("int", "as `usage.input_tokens`"),
    CURRENT.output_tokens: DeclaredAttribute("int", "as `usage.output_tokens`"),
    CURRENT.cache_read_tokens: DeclaredAttribute("int", "of them read from the prompt cache"),
    CURRENT.cache_write_tokens: DeclaredAttribute("int", "of them put into the prompt cache"),
    CURRENT.reasoning_tokens: DeclaredAttribute("int", "of the output's, spent on reasoning"),
    # ours
    "radgateway.request_id": DeclaredAttribute("string", "the `X-Request-Id`"),
    "retry.hedge": DeclaredAttribute(
        "boolean", "true for an attempt made beside one that was late"
    ),
    "queue.duration_s": DeclaredAttribute("double", "seconds spent waiting for admission"),
    "connect.duration_s": DeclaredAttribute("double", "seconds to a usable connection"),
    "stream.longest_gap_s": DeclaredAttribute(
        "double", "seconds of the longest wait for the next bytes"
    ),
}
"""All attributes, by name."""

SPANS: Final[dict[str, DeclaredSpan]] = {
    span.name: span
    for span in (
        DeclaredSpan(
            "gateway_request",
            "SERVER",
            None,
            _ASKED | {"http.request.method", "http.route", "url.path", "radgateway.request_id"},
            {"queue": frozenset({"queue.duration_s"})},
            "the whole request, to its last byte",
        ),
        DeclaredSpan(
            "authentication", "INTERNAL", "gateway_request", frozenset(), {}, "who is asking"
        ),
        DeclaredSpan(
            "rate_limit_check",
            "INTERNAL",
            "gateway_request",
            frozenset(),
            {},
            "what they may still spend",
        ),
        DeclaredSpan(
            "provider_dispatch",
            "INTERNAL",
            "gateway_request",
            frozenset({"retry.attempt_count"}),
            {},
            "from the first attempt's start to the last one's end",
        ),
        DeclaredSpan(
            "provider_execute",
            "CLIENT",
            "provider_dispatch",
            _ASKED
            | {
                "http.request.resend_count",
                "server.address",
                "server.port",
                "retry.hedge",
                CURRENT.provider,
                CURRENT.request_stream,
                CURRENT.first_chunk_s,
                CURRENT.input_tokens,
                CURRENT.output_tokens,
                CURRENT.cache_read_tokens,
                CURRENT.cache_write_tokens,
                CURRENT.reasoning_tokens,
            },
            {
                "connect": frozenset({"connect.duration_s"}),
                "first_byte": frozenset(),
                "stream_end": frozenset({"stream.longest_gap_s"}),
            },
            "one attempt, to the last byte of its answer",
        ),
        DeclaredSpan(
            "retry_backoff",
            "INTERNAL",
            "gateway_request",
            frozenset(),
            {},
            "a pause before the same is tried again",
        ),
        DeclaredSpan(
            "usage_record", "INTERNAL", "gateway_request", frozenset(), {}, "making the usage row"
        ),
    )
}
"""All spans, by name."""
