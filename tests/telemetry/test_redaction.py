"""No secret comes through, by its field's name or by its look, however it is nested."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.config.load import default_config
from radgateway.telemetry import redaction
from radgateway.telemetry.redaction import REDACTED, TEXT_LIMIT, is_secret, redact, scrub

RANDOM = "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1u"
"""What invented secrets are made of; put together here, so that no scanner takes them for real."""


def jose(header: dict[str, str], *parts: str) -> str:
    """A JSON web token in compact form."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return ".".join([base64.urlsafe_b64encode(text).decode().rstrip("="), *parts])


def pem(kind: str, newline: str) -> str:
    """A private key's block."""
    mark = f"{kind} KEY-----"
    return newline.join([f"-----BEGIN {mark}", *[RANDOM] * 3, f"-----END {mark}"])


SECRETS = [
    "sk-proj-abcdefghijklmnop",
    "sk-ant-api03-AbCdEf123456",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "AKIAABCDEFGHIJKLMNOP",
    *[f"gh{kind}_{RANDOM}" for kind in "pousr"],
    f"github_pat_{RANDOM[:22]}_{RANDOM}",
    *[f"{kind}_{mode}_{RANDOM}" for kind in ("sk", "rk") for mode in ("live", "test")],
    *[f"xox{kind}-1234567890-{RANDOM[:24]}" for kind in "bpaers"],
    "st.63e03c4a97cb4a747186c71e.ed5b46a34c078a8f94e8228f4ab0ff97.4f7f38034811995997d72badf44b42ec",
    f"hf_{RANDOM[:34]}",
    f"gsk_{RANDOM}",
    f"rad-{RANDOM[:15]}-_{RANDOM[:15]}",
    jose({"alg": "none"}, RANDOM, ""),
    jose({"alg": "HS256", "typ": "JWT"}, RANDOM, RANDOM),
    jose({"alg": "RSA-OAEP", "enc": "A256GCM"}, RANDOM, RANDOM[:16], RANDOM, RANDOM[:22]),
    jose({"alg": "dir", "enc": "A256GCM"}, "", RANDOM[:16], RANDOM, RANDOM[:22]),
    *[pem(kind, "\n") for kind in ("PRIVATE", "RSA PRIVATE", "ENCRYPTED PRIVATE")],
    pem("OPENSSH PRIVATE", "\\n"),
]

PLACES = [
    "redis://:{}@cache:6379/0",
    "postgresql+psycopg://rad:{}@db/usage?sslmode=require",
    "amqps://a.b:{}@[::1]:5671/",
    *[
        f"{before}{name}={{}}"
        for before in ("https://api.example/v1?alt=sse&", "POST /v1?", "retry ")
        for name in (
            *("api_key", "apikey", "X-Api-Key", "access_key", "access_token", "token", "signature"),
            *("X-Amz-Signature", "client_secret", "password", "pwd", "passphrase", "sessionid"),
        )
    ],
    *[f"{before}{name}={{}}" for before in ("GET /v1?a=b&", "/v1?", "") for name in ("key", "sig")],
    "connect(user='rad', password='{}')",
    'repr: \\"token=\\"{}\\""',
    "Authorization: Bearer {}",
    "basic {}",
]
"""Where a value is secret whatever it looks like."""


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "key is {}, sorry", "url?x={}&y=1", '"{}"', "a={}\n"])
def test_values_that_look_like_secrets_go(secret: str, around: str) -> None:
    """Wherever in a text they stand."""
    text = scrub(around.format(secret))
    assert secret not in text
    assert REDACTED in text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Bearer abc123def456", "abc123def456"),
        ("bearer QWxhZGRpbjpvcGVu", "QWxhZGRpbjpvcGVu"),
        ("GET /v1beta/models/x:generateContent?key=hunter22&alt=sse", "hunter22"),
        ("postgresql://rad:pa55word@db/usage", "pa55word"),
        ("redis://:pa55word@cache:6379/0", "pa55word"),
        ("redis://:12345@cache", "12345"),
        ("redis://:un/esc@ped@cache:6379/0?timeout=1", "esc"),
        ("mongodb://rad:un:esc@ped@a:27017,b:27017/", "ped"),
        (f"git clone https://{RANDOM[:20]}@git.example/rad.git", RANDOM[:20]),
        (f"https://{'0123456789abcdef' * 2}@errors.example/7", "0123456789abcdef"),
        ("https://api.example/\\u0026key=hunter22", "hunter22"),
        ("passphrase='correct horse battery'", "horse"),
    ],
)
def test_secrets_in_their_usual_places_go(text: str, hidden: str) -> None:
    """Headers, query strings and URLs in messages."""
    assert hidden not in scrub(text)


@pytest.mark.parametrize(
    "key",
    [
        "authorization",
        "Authorization",
        "Proxy-Authorization",
        "x-api-key",
        "api_key",
        "api-key",
        "openai_api_key",
        "x-goog-api-key",
        "Cookie",
        "set-cookie",
        "access_token",
        "token",
        "client_secret",
        "password",
        "db_passwd",
        "db.password",
        "key",
        "Access-Key",
        "aws_access_key",
        "apiKey",
        "api_keys",
        "passphrase",
        "SSH-Pass-Phrase",
        "pwd",
        "DB_PWD",
        "session",
        "session_id",
        "X-Session-Key",
        "signature",
        "X-Hub-Signature",
        "sig",
        "bearer",
        "X-Auth",
        "x-auth-key",
        "authorization_header",
        "http.request.header.authorization",
        "private-key",
    ],
)
def test_fields_named_like_secrets_go(key: str) -> None:
    """The value does not matter."""
    assert redact({key: "plain"}) == {key: REDACTED}
    assert redact([(key.encode(), b"plain")]) == [[key, REDACTED]]


def test_token_counts_stay() -> None:
    """A number of tokens is no secret."""
    counts = {"input_tokens": 12, "max_tokens": None, "tokens_per_s": 1.5, "session": 3, "key": 0}
    assert redact(counts) == counts
    assert is_secret("password", 1234)


def test_names_of_keys_stay() -> None:
    """A name that tells which key or session it was, or how many, gives nothing away."""
    names = "api_key_name key_name key_id keys cache_key keyboard monkey session_count signatures"
    fields = dict.fromkeys(names.split(), "plain")
    assert redact(fields) == fields


def test_fields_of_our_own_lines_stay() -> None:
    """What the gateway logs of itself is all there to read."""
    names = (
        "logger provider was mode last_failure seconds reason replicas policy level in_flight "
        "limit unsaid_before issuer_ahead_s by for_s faults abort detail from path outcome order "
        "status method route duration_ms ttft_ms principal model stream backed_off_ms queued_ms "
        "limited error_code interrupted usage_source cost_usd attempts failure hedge lines "
        "exception"
    )
    fields = dict.fromkeys(names.split(), "plain")
    assert redact(fields) == fields


@pytest.mark.parametrize("place", PLACES)
def test_values_in_secret_places_go(place: str) -> None:
    """In DSNs of any scheme, query strings and arguments, whatever its look; the rest stays."""
    text = scrub(place.format("hunter22"))
    assert "hunter22" not in text
    assert text.partition(REDACTED)[0] in place


def test_the_key_made_up_at_a_start_goes() -> None:
    """The gateway's own generated key has the form that is looked for."""
    (key,) = default_config(environ={}).keys
    assert key.secret.generated
    assert scrub(f"key {key.secret.reveal()}!") == f"key {REDACTED}!"


@pytest.mark.parametrize(
    "secret", [each for each in SECRETS if each[:3] not in ("sk-", "sk_", "rk_")]
)
def test_a_secret_may_follow_a_letter(secret: str) -> None:
    """Whatever ran into it; only what begins like the end of many words has to begin one."""
    assert secret not in scrub(f"key{secret}")


@pytest.mark.parametrize("before", ["\\n", "%3D", "_", "é"])
def test_an_escape_is_no_letter(before: str) -> None:
    """A word begins after one."""
    assert RANDOM not in scrub(f"x{before}sk-{RANDOM} x{before}rk_live_{RANDOM}")


def test_a_private_key_that_was_cut_off_hides_what_follows() -> None:
    """Its end may be missing, in a short text and in one that is longer than what is read."""
    block = pem("RSA PRIVATE", "\n")
    assert scrub(f"read {block[:100]}") == f"read -----{REDACTED}"
    assert RANDOM not in scrub("x" * 5_000 + block.replace(RANDOM, RANDOM * 500))


@pytest.mark.parametrize("secret", [SECRETS[0], f"redis://:{RANDOM}@cache"])
@pytest.mark.parametrize("kept", range(1, 60, 7))
@pytest.mark.parametrize("form", [str, str.encode])
def test_a_secret_at_the_cut_goes(secret: str, kept: int, form: Any) -> None:
    """Where a text is cut no half of a secret is left, though much before it went away."""
    shown = pem("RSA PRIVATE", "\n").replace(RANDOM, RANDOM * 100)
    before = shown + "\n" * (2 * TEXT_LIMIT - len(shown) - kept)
    shown = redact(form(before + secret + " and more" * 10_000))
    assert shown.rstrip("\n…") == f"-----{REDACTED}-----"


def test_ordinary_text_stays() -> None:
    """Nothing is hidden for nothing."""
    for text in (
        "task-12 asked sklearn for the basics of a bearer bond, risk-free",
        "task-scheduler ran test_mark_test_everything_at_once on disk-0123456789",
        "rad-gateway-production-eu-west-6d4cf56db6-x2x7q is ready",
        "http://127.0.0.1:8090/v1/chat/completions?alt=sse&user=me@example.com",
        "postgresql://radgateway@db:5432/usage and ssh://git@host/path",
        "http://[::1]:8080/a@b, https://example.com/@someone",
        "cache_key=models max_tokens=12 monkey=1 key='x' design=flat",
        "eyJack, keyJoin and hf_hub; -----BEGIN CERTIFICATE-----",
    ):
        assert scrub(text) == text


def test_values_are_bounded() -> None:
    """Long, deep, wide and hostile values end up small and plain."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    shown = redact({"long": "a" * 10**6, "deep": deep, "wide": list(range(10**5)), "h": Hostile()})
    assert len(json.dumps(shown)) < 3 * TEXT_LIMIT
    assert shown["h"] == "<Hostile>"


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
nested = st.recursive(
    plain | st.just("SECRET"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


token_bytes = st.binary(min_size=24, max_size=24)
made_up = token_bytes.map(lambda raw: "rad-" + base64.urlsafe_b64encode(raw).decode())
passwords = st.text("abcXYZ0189!$%*+,;=~^|./:@-_", min_size=6, max_size=40).map("pw{}".format)
in_place = st.builds(str.format, st.sampled_from(PLACES[:3]), passwords)


@given(nested, st.sampled_from(SECRETS) | made_up | in_place)
def test_no_seeded_secret_comes_through(value: Any, secret: str) -> None:
    """Put a secret anywhere into any structure: it is not in what would be logged."""

    def seeded(each: Any) -> Any:
        if each == "SECRET":
            return f"failed with {secret}!"
        if isinstance(each, list):
            return [seeded(item) for item in each]
        if isinstance(each, dict):
            return {key: seeded(item) for key, item in each.items()}
        return each

    assert secret not in json.dumps(redact(seeded(value)), ensure_ascii=False)


@given(st.sampled_from(PLACES), st.sampled_from(SECRETS) | made_up, st.text(max_size=20))
def test_no_part_of_a_secret_in_its_place_comes_through(place: str, secret: str, tail: str) -> None:
    """A secret by its look and its place, whatever follows it, leaves nothing of eight letters."""
    shown = scrub(place.format(secret) + " " + tail)
    parts = {secret[at : at + 8] for at in range(len(secret) - 8)}
    parts -= {part for part in parts if not part.isalnum() or part in place + tail}
    assert not [part for part in parts if part in shown]


@pytest.mark.parametrize(
    "piece",
    [
        *("eyJ", "eyJ.", "-eyJa", "sk-", "_sk-", "sk_live_", "rad-", "AKIA", "AIza", "xoxb-"),
        *("hf_", "ghp_", "github_pat_", "bearer ", "Bearer        ", "basic\t"),
        *("-----BEGIN ", "BEGIN PRIVATE ", "BEGIN A PRIVATE KEY", "BEGIN A PRIVATE KEY END "),
        *("://", "://a:", "://:a", "://a@", "://:a@", "://:@", "://:1/", ":", "@", "://:a/b:c"),
        *("?key", "&a_key=", "key=", "token='", 'token=\\"', "?a-a-a-a-", "=", "session_", "a"),
    ],
)
def test_time_grows_with_the_length_of_a_text(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the text takes about four times as long, and not sixteen: none stops the log."""
    monkeypatch.setattr(redaction, "TEXT_LIMIT", 10**6)

    def seconds(length: int) -> float:
        text, times = (piece * length)[:length], []
        for _ in range(3):
            began = time.thread_time()
            scrub(text)
            times.append(time.thread_time() - began)
        return min(times)

    assert seconds(100_000) < 9 * seconds(25_000) + 0.005
