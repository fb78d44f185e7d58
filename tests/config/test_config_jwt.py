"""The section `jwt`: what it may say, and what would let in the wrong people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from config.config_cases import SMALL, loaded, refused, written

from radgateway.config import ConfigError, JwtConfig, effective, load_config

ISSUER = "jwt: {issuer: 'https://issuer.test', audience: gw, "
URL = ISSUER + "jwks_url: 'https://issuer.test/keys'}"
SECRET = "0123456789abcdef0123456789abcdef"


def section(text: str) -> str:
    return SMALL + text + "\n"


def test_without_the_section_there_are_keys_alone(tmp_path: Path) -> None:
    """Off by default, and `null` is off."""
    assert loaded(tmp_path, SMALL).jwt is None
    assert loaded(tmp_path, section("jwt: null")).jwt is None


def test_defaults_follow_the_source_of_keys(tmp_path: Path) -> None:
    """A public key set verifies RS256 and ES256, a secret HS256, and none the other's."""
    jwt = loaded(tmp_path, section(URL)).jwt
    assert jwt is not None
    assert jwt.algorithms == ("RS256", "ES256")
    assert (jwt.leeway_s, jwt.refresh_s, jwt.max_stale_s) == (60, 300, 86_400)
    assert jwt.name_claim == "sub"
    rules = jwt.rules
    assert (rules.issuer, rules.audience, rules.algorithms) == (
        "https://issuer.test",
        "gw",
        ("RS256", "ES256"),
    )
    shared = loaded(tmp_path, section(ISSUER + "secret: env:S}"), {"S": SECRET}).jwt
    assert shared is not None
    assert shared.algorithms == ("HS256",)
    one = loaded(tmp_path, section(URL.replace("}", ", algorithms: [ES256]}"))).jwt
    assert one is not None
    assert one.rules.algorithms == ("ES256",)


@pytest.mark.parametrize(
    ("said", "path", "message"),
    [
        ("}", "jwt.jwks_url", "is missing; or give jwks_file, or secret"),
        ("secret: env:S, jwks_url: 'https://a.test/'}", "jwt", "and has secret and jwks_url"),
        ("secret: env:SHORT}", "jwt.secret", "at least 32 bytes"),
        ("secret: env:NOT_SET}", "jwt.secret", "NOT_SET is not set"),
        ("secret: env:S, algorithms: [RS256]}", "jwt.algorithms", "some of HS256 with a secret"),
        ("secret: env:S, ca_file: x}", "jwt.ca_file", "with jwks_url only"),
        ("jwks_url: 'https://a.test/', algorithms: [HS256]}", "jwt.algorithms", "RS256, ES256"),
        ("jwks_url: 'https://a.test/', algorithms: [none]}", "jwt.algorithms", "RS256, ES256"),
        ("jwks_url: 'http://a.test/'}", "jwt.jwks_url", "http:// is for this machine only"),
        ("jwks_url: 'http://127.0.0.1.a.test/'}", "jwt.jwks_url", "for this machine only"),
        ("jwks_url: 'http://10.0.0.1/'}", "jwt.jwks_url", "for this machine only"),
        ("jwks_url: 'ftp://a.test/'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_url: 'file:///etc/passwd'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_url: 'https://u:p@a.test/'}", "jwt.jwks_url", "must not carry a user"),
        ("jwks_url: 'https://a.test/#x'}", "jwt.jwks_url", "fragment"),
        ("jwks_url: 'https://a.test:0/'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_url: 'https://a.test:x/'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_url: 'https:///keys'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_url: 'https://a.test/ x'}", "jwt.jwks_url", "must be an https:// URL"),
        ("jwks_file: no-such-file}", "jwt.jwks_file", "there is no file"),
        ("secret: env:S, leeway_s: 301}", "jwt.leeway_s", "must be 0 to 300"),
        ("secret: env:S, refresh_s: 0}", "jwt.refresh_s", "must be 1 to 86400"),
        ("secret: env:S, max_stale_s: 1}", "jwt.max_stale_s", "must be 60 to 2592000"),
        ("secret: env:S, max_lifetime_s: 0}", "jwt.max_lifetime_s", "must be over 0"),
        ("secret: env:S, limits: [often]}", "jwt.limits", "rates such as '60/minute'"),
        ("secret: env:S, name_claim: ''}", "jwt.name_claim", "visible ASCII"),
        ("secret: env:S, issuers: x}", "jwt.issuers", "did you mean 'issuer'"),
    ],
)
def test_what_guards_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, path: str, message: str
) -> None:
    """Each mistake with its place, and the secret in none."""
    monkeypatch.chdir(tmp_path)
    problems = refused(
        written(tmp_path, section(ISSUER + said)), {"S": SECRET, "SHORT": "short-secret"}
    )
    assert [(p.path, message in p.message) for p in problems] == [(path, True)], problems
    assert "short-secret" not in str(problems)
    assert SECRET not in str(problems)


def test_issuer_and_audience_are_needed(tmp_path: Path) -> None:
    """Without either, tokens made for others would do."""
    problems = refused(written(tmp_path, section("jwt: {jwks_url: 'https://a.test/'}")))
    assert {p.path for p in problems} == {"jwt.issuer", "jwt.audience"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_on_this_machine_http_will_do(host: str) -> None:
    """Nobody is between."""
    url = f"http://{host}:8080/keys"
    assert JwtConfig(issuer="i", audience="a", jwks_url=url).jwks_url == url


def test_with_tokens_keys_may_be_left_out(tmp_path: Path) -> None:
    """Nothing is open then, so nothing has to be said."""
    text = section(URL).replace("keys: [{name: a, secret: env:RAD_KEY}]\n", "")
    config = loaded(tmp_path, text)
    assert config.keys == ()
    assert not [notice for notice in config.notices if "open" in notice]
    with pytest.raises(ConfigError, match="keys: is missing"):
        loaded(tmp_path, text.replace(URL, "jwt: null"))


def test_a_key_that_would_be_taken_for_a_token_is_refused(tmp_path: Path) -> None:
    """Some services hand out such keys; beside `jwt` they would never be looked up."""
    key = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"
    (problem,) = refused(written(tmp_path, section(URL)), {"RAD_KEY": key})
    assert problem.path == "keys[0].secret"
    assert "form of a JWT" in problem.message
    assert loaded(tmp_path, SMALL, {"RAD_KEY": key}).keys[0].secret.reveal() == key


def test_a_missing_library_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    import importlib.util

    real = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "cryptography" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    (problem,) = refused(written(tmp_path, section(URL)))
    assert (problem.path, problem.message) == (
        "jwt",
        'needs PyJWT: pip install "radgateway[jwt]"',
    )


def test_it_is_shown_without_its_secret(tmp_path: Path) -> None:
    """By `check-config`, as it is in force; and read again it is the same."""
    config = loaded(tmp_path, section(ISSUER + f"secret: '{SECRET}', limits: [60/minute]}}"))
    text = effective(config)
    assert SECRET not in text
    shown = yaml.safe_load(text)["jwt"]
    assert shown["secret"] == "***"
    assert shown["algorithms"] == ["HS256"]
    assert shown["leeway_s"] == 60
    assert "jwks_url" not in shown
    named = loaded(tmp_path, section(ISSUER + "secret: env:S}"), {"S": SECRET})
    again = load_config(
        written(tmp_path, effective(named)), {"S": SECRET, "RAD_KEY": "the-key-of-a-caller"}
    )
    assert again.jwt == named.jwt
