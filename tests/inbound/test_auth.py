from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest
from drive import Answer, drive, http_scope

from radgateway.exchange import Principal, exchange_of
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys

KEYS = ApiKeys([(Principal("ann"), "secret-a"), (Principal("ops", admin=True), "secret-o")])
seen: list[tuple[str, bytes]] = []


async def whoami(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
    """An app that is not ours; it says who asked."""
    exchange = exchange_of(scope)
    assert exchange is not None
    assert exchange.principal is not None
    seen.append((exchange.principal.name, scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


def ask(
    path: str = "/v1/chat/completions",
    query: str = "",
    admin: bool = False,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask with these headers."""
    pairs = list((headers or {}).items())
    app = ApiKeyAuth(whoami, KEYS, require_admin=admin)
    seen.clear()
    return asyncio.run(drive(app, http_scope(path, headers=pairs, query=query)))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer secret-a"},
        {"authorization": "bearer   secret-a"},
        {"x-api-key": "secret-a"},
        {"x-goog-api-key": "secret-a"},
        {"authorization": "Bearer secret-a", "x-api-key": "wrong"},
        {"authorization": "Basic dTpw", "x-api-key": "secret-a"},
    ],
)
def test_every_form_of_key_is_taken_in_order(headers: dict[str, str]) -> None:
    """The official clients of all three vendors send theirs as they are used to."""
    assert ask(headers=headers).status == 200
    assert seen[0][0] == "ann"


def test_the_query_key_counts_on_geminis_paths_only_and_is_removed() -> None:
    """Nothing behind this layer, no log and no provider, sees a key in a URL."""
    path = "/v1beta/models/m:generateContent"
    assert ask(path, "alt=sse&key=secret-a&x=1").status == 200
    assert seen == [("ann", b"alt=sse&x=1")]
    assert ask(query="key=secret-a").status == 401
    assert ask(path, "%6bey=secret%2Da").status == 200
    assert seen == [("ann", b"")]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Basic dTpw"}, "missing_api_key"),
        ({"authorization": "Bearer "}, "invalid_api_key"),
        ({"authorization": "Bearer secret"}, "invalid_api_key"),
        ({"authorization": "Bearer secret-a\xff"}, "invalid_api_key"),
        ({"x-api-key": "x" * 100_000}, "invalid_api_key"),
        ({"x-api-key": "secret-a" + "\0" * 600}, "invalid_api_key"),
    ],
)
def test_a_refusal_says_what_to_do_and_no_more(headers: dict[str, str], code: str) -> None:
    """401 with a code, never an echo of what was sent."""
    answer = ask(headers=headers)
    assert answer.status == 401
    assert json.loads(answer.body)["error"]["code"] == code
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.header("x-radgateway-error-source") == "gateway"
    assert b"secret" not in answer.body.replace(b"secret-free", b"")


def test_a_refusal_speaks_the_callers_dialect() -> None:
    """Anthropic's client looks for `type: error`, Google's for a status word."""
    assert json.loads(ask("/v1/messages").body)["type"] == "error"
    gemini = json.loads(ask("/v1beta/models/m:generateContent").body)
    assert gemini["error"]["status"] == "UNAUTHENTICATED"


def test_admin_paths_need_an_admin_key() -> None:
    """A caller's key opens no management route."""
    assert ask(admin=True, headers={"x-api-key": "secret-a"}).status == 403
    assert ask(admin=True, headers={"x-api-key": "secret-o"}).status == 200


@pytest.mark.parametrize("key", [b"", b"wrong", b"secret-a", b"x" * 5000])
def test_every_key_costs_the_same_work(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash and one constant-time comparison, whether or not anybody has such a key."""
    work: list[str] = []
    compare, hashed = hmac.compare_digest, hashlib.blake2b

    def comparing(a: bytes, b: bytes) -> bool:
        work.append(f"compare {len(a)} with {len(b)}")
        same: bool = compare(a, b)
        return same

    def hashing(*given: Any, **options: Any) -> Any:
        work.append("hash")
        return hashed(*given, **options)

    monkeypatch.setattr(hmac, "compare_digest", comparing)
    monkeypatch.setattr(hashlib, "blake2b", hashing)
    assert (KEYS.check(key) is not None) is (key == b"secret-a")
    assert work == ["hash", "compare 32 with 32"]


def test_no_key_stays_readable_in_memory() -> None:
    """What the layer keeps is hashes."""
    assert "secret-a" not in repr(vars(KEYS))
    assert KEYS.check(b"secret-a") == Principal("ann")


@pytest.mark.parametrize(
    "keys",
    [
        [(Principal("a"), "")],
        [(Principal("a"), "x" * 513)],
        [(Principal("a"), "same"), (Principal("b"), "same")],
    ],
)
def test_unusable_keys_are_refused_at_start(keys: list[tuple[Principal, str]]) -> None:
    """Two names for one key would make every figure about either a guess."""
    with pytest.raises(ValueError, match="key"):
        ApiKeys(keys)
