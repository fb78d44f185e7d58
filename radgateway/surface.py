"""The data plane's paths: which operation, and so which dialect, each one is.

The paths are those of the original gateway and of the APIs themselves, so a client needs nothing
but another base URL.
"""

from __future__ import annotations

from typing import Final

from radgateway.dialects import (
    AnthropicMessages,
    Dialect,
    Gemini,
    OpenAI,
    OpenAIChat,
    OpenAIResponses,
)
from radgateway.dialects.gemini import PATH as GEMINI_PATH
from radgateway.exchange import Operation

OPENAI: Final = OpenAI()
OPENAI_CHAT: Final = OpenAIChat()
OPENAI_RESPONSES: Final = OpenAIResponses()
ANTHROPIC: Final = AnthropicMessages()
GEMINI: Final = Gemini()

GEMINI_ROUTE: Final = "/v1beta/models/{model}:{action}"
MODELS_ROUTE: Final = "/v1/models"

OPERATIONS: Final[dict[str, Operation]] = {
    operation.route: operation
    for operation in (
        Operation("/v1/chat/completions", "chat", OPENAI_CHAT),
        Operation("/v1/responses", "responses", OPENAI_RESPONSES),
        Operation("/v1/messages", "messages", ANTHROPIC),
        Operation("/v1/embeddings", "embeddings", OPENAI),
        Operation("/v1/images/generations", "images", OPENAI),
        Operation("/v1/audio/transcriptions", "transcriptions", OPENAI),
        Operation("/v1/audio/speech", "speech", OPENAI),
    )
}
LIST_MODELS: Final = Operation(MODELS_ROUTE, "models", OPENAI)

SPOKEN_BY: Final[dict[str, frozenset[str]]] = {
    "openai": frozenset({"openai", "openai-chat", "openai-responses"}),
    "anthropic": frozenset({"anthropic-messages"}),
    "gemini": frozenset({"gemini"}),
    "mock": frozenset(
        {"openai", "openai-chat", "openai-responses", "anthropic-messages", "gemini"}
    ),
}
"""The dialects a provider of each kind understands."""

ROUTES: Final = (*OPERATIONS, GEMINI_ROUTE, MODELS_ROUTE)
"""Every route label of the data plane."""


def operation_of(path: str) -> Operation | None:
    """The operation a path (below the mount point) asks for, or None."""
    operation = OPERATIONS.get(path)
    if operation is not None:
        return operation
    if path.startswith("/v1beta/"):
        match = GEMINI_PATH.fullmatch(path)
        if match is not None:
            return Operation(GEMINI_ROUTE, "gemini", GEMINI, match["action"])
    return LIST_MODELS if path == MODELS_ROUTE else None


def dialect_of_path(path: str) -> Dialect:
    """The dialect to word an error in, for any path at all; OpenAI's where nothing tells."""
    operation = operation_of(path)
    if operation is not None:
        return operation.dialect
    if path.startswith("/v1/messages"):
        return ANTHROPIC
    return GEMINI if path.startswith("/v1beta/") else OPENAI
