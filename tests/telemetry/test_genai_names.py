"""The conventions' names: the ones backends know by default, the newest for who asks."""

from __future__ import annotations

import inspect
import warnings

import pytest

from radgateway.exchange import Operation
from radgateway.surface import GEMINI, GEMINI_ROUTE, OPERATIONS
from radgateway.telemetry.genai_names import (
    CURRENT,
    LATEST,
    names_asked_for,
    near_misses,
    operation_name,
    provider_of,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package marks them as moved to a repository of theirs
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as published


def test_the_default_names_are_the_published_ones() -> None:
    """Each is in OpenTelemetry's own package, as are the operations that are not ours."""
    known = {value for value in vars(published).values() if isinstance(value, str)}
    assert set(CURRENT) <= known
    operations = {each.value for each in published.GenAiOperationNameValues}
    ours = {operation_name(operation) for operation in OPERATIONS.values()}
    assert ours - operations == {"transcription"}


def test_the_newest_differ_where_they_were_renamed() -> None:
    """Writing to the cache is called writing."""
    changed = {a: b for a, b in zip(CURRENT, LATEST, strict=True) if a != b}
    assert changed == {
        "gen_ai.usage.cache_creation.input_tokens": "gen_ai.usage.cache_write.input_tokens"
    }


@pytest.mark.parametrize(
    ("value", "latest", "missed"),
    [
        ("", False, []),
        ("gen_ai_latest_experimental", True, []),
        ("http/dup, gen_ai_latest_experimental ,database", True, []),
        ("http,database/dup,code,rpc,messaging,k8s", False, []),
        ("gen_ai_latest_experimentl", False, ["gen_ai_latest_experimentl"]),
        ("genai_latest_experimental", False, ["genai_latest_experimental"]),
        ("gen_ai", False, ["gen_ai"]),
        ("gen_ai_latest_experimental/dup", False, ["gen_ai_latest_experimental/dup"]),
        ("GEN_AI_LATEST_EXPERIMENTAL", False, ["GEN_AI_LATEST_EXPERIMENTAL"]),
        (",,", False, []),
    ],
)
def test_the_variable(value: str, latest: bool, missed: list[str]) -> None:
    """Unknown words are ignored, as the specification has it; one that was meant for us is told."""
    assert names_asked_for(value) is (LATEST if latest else CURRENT)
    assert near_misses(value) == missed


@pytest.mark.parametrize(
    ("kind", "url", "expected"),
    [
        ("openai", "https://api.openai.com/v1", ("openai", "api.openai.com", 443)),
        ("openai", "https://a.openai.azure.com", ("azure.ai.openai", "a.openai.azure.com", 443)),
        ("openai", "https://api.groq.com/openai/v1", ("groq", "api.groq.com", 443)),
        ("openai", "https://api.x.ai/v1", ("x_ai", "api.x.ai", 443)),
        ("openai", "http://127.0.0.1:8080/v1", ("openai", "127.0.0.1", 8080)),
        ("openai", "http://localhost", ("openai", "localhost", 80)),
        ("openai", "https://notx.ai.example", ("openai", "notx.ai.example", 443)),
        ("openai", "https://box.ai", ("openai", "box.ai", 443)),
        ("anthropic", "https://proxy.example", ("anthropic", "proxy.example", 443)),
        ("gemini", "https://proxy.example", ("gcp.gemini", "proxy.example", 443)),
        ("openai", "http://[::1]:81/v1", ("openai", "::1", 81)),
        ("mock", None, ("mock", "", 0)),
    ],
)
def test_a_provider_is_called_by_its_address(
    kind: str, url: str | None, expected: tuple[str, str, int]
) -> None:
    """Most vendors speak OpenAI's dialect; whole labels of the host count."""
    assert provider_of(kind, url) == expected
    listed = {each.value for each in published.GenAiProviderNameValues} | {"mock"}
    assert expected[0] in listed


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("generateContent", "generate_content"),
        ("streamGenerateContent", "generate_content"),
        ("embedContent", "embeddings"),
        ("countTokens", "count_tokens"),
        ("other", "generate_content"),
    ],
)
def test_geminis_actions_are_operations(action: str, name: str) -> None:
    """Its paths name the verb."""
    assert operation_name(Operation(GEMINI_ROUTE, "gemini", GEMINI, action)) == name


def test_the_table_is_the_only_place_of_the_names() -> None:
    """Another generation is one line there and none elsewhere."""
    import radgateway.telemetry.declared_spans
    import radgateway.telemetry.span_attributes
    import radgateway.telemetry.spans

    for module in (
        radgateway.telemetry.declared_spans,
        radgateway.telemetry.span_attributes,
        radgateway.telemetry.spans,
    ):
        assert '"gen_ai.' not in inspect.getsource(module)
