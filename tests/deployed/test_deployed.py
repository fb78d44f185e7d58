"""A gateway as its clients see it: one that is deployed (`.ci/integration-test`), or our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anthropic
import httpx
import openai
import pytest
from processes import started

pytestmark = pytest.mark.servers

CONFIG = """\
environment: local
keys: [{name: caller, secret: env:RAD_KEY}]
providers: {mock: {kind: mock}}
models: {demo: {candidates: [{provider: mock, model: demo}]}}
storage: {usage: "sqlite:///usage.db"}
"""
KEY = "the-key-of-a-caller"
QUESTION = "Say ok."
TOKENS = 16
LIMIT_S = 60.0


class Gateway(NamedTuple):
    """Where it is, and what it may be asked for."""

    url: str
    key: str
    model: str

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        given = self.key if key is None else key
        headers = {"authorization": f"Bearer {given}"} if given else {}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """DEPLOYED_URL, with the key in KEY_FILE, or one that is started here."""
    if url := os.environ.get("DEPLOYED_URL"):
        key = Path(os.environ["KEY_FILE"]).read_text().strip()
        yield Gateway(url.rstrip("/"), key, os.environ["DEPLOYED_MODEL"])
        return
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "gateway.yaml").write_text(CONFIG)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(serve, folder, {"RAD_KEY": KEY}) as process:
        yield Gateway(process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1], KEY, "demo")


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=LIMIT_S
    ) as opened:
        yield opened


def test_a_chat_is_answered_and_accounted_for(client: openai.OpenAI, gateway: Gateway) -> None:
    """With the tokens that it cost, and the provider that it came from."""
    raw = client.chat.completions.with_raw_response.create(
        model=gateway.model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=TOKENS,
    )
    answer = raw.parse()
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert raw.headers["x-radgateway-provider"]
    assert raw.headers["x-request-id"]


def test_a_stream_comes_to_its_end(client: openai.OpenAI, gateway: Gateway) -> None:
    """In parts, with a reason why it ended."""
    parts = list(
        client.chat.completions.create(
            model=gateway.model,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=TOKENS,
            stream=True,
        )
    )
    reasons = [choice.finish_reason for part in parts for choice in part.choices]
    assert len(parts) > 1
    assert reasons[-1] in ("stop", "length")


def test_another_dialect_gets_the_same_model(gateway: Gateway) -> None:
    """Anthropic's client asks the same gateway with the same key."""
    with anthropic.Anthropic(
        base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=LIMIT_S
    ) as other:
        answer = other.messages.create(
            model=gateway.model,
            max_tokens=TOKENS,
            messages=[{"role": "user", "content": QUESTION}],
        )
    assert answer.role == "assistant"
    assert answer.usage.input_tokens > 0


def test_a_model_that_is_not_there_is_said_to_be(client: openai.OpenAI) -> None:
    """404 in the caller's dialect, and never another model in its place."""
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model="a-model-that-nobody-has",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=TOKENS,
        )


@pytest.mark.parametrize("key", ["", "wrong"])
def test_nobody_is_served_without_a_key(gateway: Gateway, key: str) -> None:
    """Not the models, and of the management less than that."""
    assert gateway.get("/v1/models", key).status_code == 401
    assert gateway.get("/v0/management/config", key).status_code in (401, 403, 404)


def test_a_caller_s_key_is_no_admin_s(gateway: Gateway) -> None:
    """Management is closed to it, whether it is served at this address or not."""
    assert gateway.get("/v0/management/config").status_code in (401, 403, 404)
