"""OpenTelemetry's names for calls of generative AI, in the two generations that are in use.

The conventions are in development: what tracing backends know are the names of 1.41, the last of
the main repository; the repository of their own has renamed some since and released nothing. So
the former are the default, and who sets OTEL_SEMCONV_STABILITY_OPT_IN to include
`gen_ai_latest_experimental` gets the latter in their place, as the conventions ask. This table is
the only place that knows the names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from radgateway.exchange import Operation

OPT_IN_VARIABLE: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
OPT_IN: Final = "gen_ai_latest_experimental"


class GenAINames(NamedTuple):
    """The attributes of one generation, by what they say."""

    operation: str = "gen_ai.operation.name"
    provider: str = "gen_ai.provider.name"
    request_model: str = "gen_ai.request.model"
    request_stream: str = "gen_ai.request.stream"
    first_chunk_s: str = "gen_ai.response.time_to_first_chunk"
    input_tokens: str = "gen_ai.usage.input_tokens"
    output_tokens: str = "gen_ai.usage.output_tokens"
    cache_read_tokens: str = "gen_ai.usage.cache_read.input_tokens"
    cache_write_tokens: str = "gen_ai.usage.cache_creation.input_tokens"
    reasoning_tokens: str = "gen_ai.usage.reasoning.output_tokens"


CURRENT: Final = GenAINames()
LATEST: Final = CURRENT._replace(cache_write_tokens="gen_ai.usage.cache_write.input_tokens")


def names_asked_for(opt_in: str) -> GenAINames:
    """The generation that the variable's value asks for; what it does not know it ignores."""
    return LATEST if OPT_IN in _words(opt_in) else CURRENT


def near_misses(opt_in: str) -> list[str]:
    """Words of the variable's value that are nearly ours: a slip, which would be ignored."""
    return [
        word
        for word in _words(opt_in)
        if word != OPT_IN
        and (word.startswith("gen_ai") or difflib.get_close_matches(word.lower(), [OPT_IN], 1, 0.7))
    ]


def _words(opt_in: str) -> list[str]:
    # A comma-separated list in the specification.
    return [word.strip() for word in opt_in.split(",") if word.strip()]


class GenAIProvider(NamedTuple):
    """A provider as the conventions see it."""

    name: str
    """Of the list of the conventions where the provider is on it."""
    address: str = ""
    """Host of its API; empty where there is none."""
    port: int = 0


_BY_HOST: Final[Mapping[str, str]] = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "amazonaws.com": "aws.bedrock",
    "anthropic.com": "anthropic",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openai.com": "openai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
"""By the end of the API's host: most vendors speak OpenAI's dialect and are not OpenAI."""

_BY_KIND: Final[Mapping[str, str]] = {"gemini": "gcp.gemini"}
"""The kinds that are called otherwise; where the host tells nothing the dialect is the name."""


def provider_of(kind: str, base_url: str | None) -> GenAIProvider:
    """What a provider of the configuration is called, and where it is."""
    name = _BY_KIND.get(kind, kind)
    if base_url is None:
        return GenAIProvider(name)
    url = urlsplit(base_url)
    host = url.hostname or ""
    labels = host.split(".")
    for first in range(len(labels) - 1):
        known = _BY_HOST.get(".".join(labels[first:]))
        if known is not None:
            name = known
            break
    return GenAIProvider(name, host, url.port or (443 if url.scheme == "https" else 80))


_OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
    "images": "generate_content",
    "speech": "generate_content",
    # The conventions have no word for it, and allow one of ours.
    "transcriptions": "transcription",
}
_GEMINI_ACTIONS: Final[Mapping[str, str]] = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "embedContent": "embeddings",
    "countTokens": "count_tokens",
}


def operation_name(operation: Operation) -> str:
    """What the conventions call an operation of the data plane."""
    if operation.action:
        return _GEMINI_ACTIONS.get(operation.action, "generate_content")
    return _OPERATIONS.get(operation.api_type, operation.api_type)
