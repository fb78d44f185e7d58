from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from typing import Any

import minting
import pytest
from drive import Answer, drive, http_scope
from minting import NOW, token

from radgateway.errors import CATALOGUE
from radgateway.exchange import Principal, exchange_of
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
from radgateway.inbound.bearer_tokens import Keys, TokenRules, TokenVerifier
from radgateway.inbound.signing_keys import SharedSecret
from radgateway.telemetry.declared import AUTH_FAILURES

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


RULES = TokenRules(issuer=minting.ISSUER, audience=minting.AUDIENCE, algorithms=("HS256",))
TOKENS = TokenVerifier(RULES, SharedSecret(minting.SECRET), clock=minting.Clock())
GOOD = token("HS256").decode()


class NoKeys:
    """A source that can't be reached."""

    def current(self) -> Keys | None:
        return None

    async def renewed(self) -> bool:
        return False


def show(
    headers: dict[str, str], path: str = "/v1/chat/completions", query: str = "", **options: Any
) -> Answer:
    """Ask where tokens are taken beside the keys."""
    app = ApiKeyAuth(whoami, KEYS, **{"tokens": TOKENS, **options})
    seen.clear()
    return asyncio.run(drive(app, http_scope(path, headers=headers.items(), query=query)))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {GOOD}"},
        {"authorization": f"bearer  {GOOD} "},
        {"x-api-key": GOOD},
        {"x-goog-api-key": GOOD},
    ],
)
def test_a_token_is_taken_where_a_key_is(headers: dict[str, str]) -> None:
    """The vendors' clients send whatever they were given as a key, each in its own header."""
    assert show(headers).status == 200
    assert seen == [("jwt:alice", b"")]


def test_keys_keep_working_beside_tokens() -> None:
    """What is not in the form of a token is a key, as before, and is answered as one."""
    assert show({"authorization": "Bearer secret-a"}).status == 200
    assert seen == [("ann", b"")]
    for key in ("wrong", "a.b.c", "eyJ.only", "eyJhbGciOiJub25lIn0", f"{GOOD}.x.y"):
        answer = show({"authorization": f"Bearer {key}"})
        assert answer.status == 401
        assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
        assert answer.header("www-authenticate") == "Bearer"
    assert json.loads(show({}).body)["error"]["code"] == "missing_api_key"


def test_without_a_verifier_a_token_is_a_wrong_key() -> None:
    """As it always was."""
    answer = show({"authorization": f"Bearer {GOOD}"}, tokens=None)
    assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (token("HS256", exp=int(NOW) - 61), "token_expired"),
        (token("HS256", nbf=int(NOW) + 61), "token_not_yet_valid"),
        (token("HS256", aud="another"), "invalid_token"),
        (token("HS256", iss="another"), "invalid_token"),
        (token("RS256"), "invalid_token"),
        (token("HS256")[:-2] + b"AA", "invalid_token"),
        (token("HS256", without="exp"), "invalid_token"),
        (token("HS256") + b"A" * 9000, "invalid_token"),
        (token("HS256").replace(b".", b".\xff", 1), "invalid_token"),
    ],
)
def test_a_bad_token_is_answered_with_what_is_wrong(bad: bytes, code: str) -> None:
    """401 with a code, RFC 6750's challenge, and nothing of the token."""
    failures: list[str] = []
    answer = show({"authorization": f"Bearer {bad.decode('latin-1')}"}, on_failure=failures.append)
    assert answer.status == 401
    error = json.loads(answer.body)["error"]
    assert error["code"] == code
    assert failures == [code]
    assert code in AUTH_FAILURES
    assert CATALOGUE[code].should_retry is False
    challenge = answer.header("www-authenticate")
    assert challenge is not None
    described = re.fullmatch(
        r'Bearer error="invalid_token", error_description="([ !#-\[\]-~]+)"', challenge
    )
    assert described is not None
    assert described[1] == error["message"]
    assert seen == []
    for part in bad.split(b"."):
        assert part not in answer.body
        assert part.decode("latin-1") not in challenge


def test_a_refused_token_speaks_the_callers_dialect() -> None:
    """As every refusal."""
    bad = {"authorization": f"Bearer {token('HS256', exp=1).decode()}"}
    anthropic = json.loads(show(bad, "/v1/messages").body)
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "authentication_error")
    gemini = json.loads(show(bad, "/v1beta/models/m:generateContent").body)
    assert gemini["error"]["status"] == "UNAUTHENTICATED"


def test_where_no_keys_can_be_had_it_is_not_the_tokens_fault() -> None:
    """503 with a time to come back, so that clients keep their tokens; keys are taken as ever."""
    lost = TokenVerifier(RULES, NoKeys(), clock=minting.Clock())
    answer = show({"authorization": f"Bearer {GOOD}"}, tokens=lost)
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "auth_unavailable"
    assert answer.header("retry-after") == "10"
    assert answer.header("www-authenticate") is None
    assert show({"x-api-key": "secret-a"}, tokens=lost).status == 200


def test_a_token_opens_no_admin_path() -> None:
    """Whoever it speaks of: administrators have keys."""
    assert show({"x-api-key": GOOD}, require_admin=True).status == 403


def test_a_token_in_a_url_is_removed_like_a_key() -> None:
    """On Gemini's paths, where keys may stand in the query."""
    path = "/v1beta/models/m:generateContent"
    assert show({}, path, query=f"key={GOOD}&alt=sse").status == 200
    assert seen == [("jwt:alice", b"alt=sse")]
