"""Which tokens are believed, and what is said of the others."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import jwt
import minting
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from minting import CLAIMS, NOW, Clock, encoded, sign, token

from radgateway.config.values import NAME
from radgateway.exchange import Principal
from radgateway.inbound.bearer_tokens import (
    KNOWN_MAX,
    TOKEN_MAX,
    Keys,
    Rejection,
    TokenRules,
    TokenVerifier,
    principal_name,
)
from radgateway.inbound.signing_keys import JwkSet, SharedSecret

RULES = TokenRules(issuer=minting.ISSUER, audience=minting.AUDIENCE)
ALGORITHMS = ["HS256", "RS256", "ES256"]


class Fixed:
    """A source whose keys the test sets; `coming` are those it has after a renewal."""

    def __init__(self, keys: Keys | None, coming: Keys | None = None) -> None:
        self.keys = keys
        self.coming = coming
        self.renewals = 0

    def current(self) -> Keys | None:
        return self.keys

    async def renewed(self) -> bool:
        self.renewals += 1
        if self.coming is None:
            return False
        self.keys = self.coming
        return True


def verifier(algorithm: str = "RS256", clock: Clock | None = None, **rules: Any) -> TokenVerifier:
    """One for tokens of an algorithm, with the key that fits."""
    settings = {"issuer": RULES.issuer, "audience": RULES.audience, "algorithms": (algorithm,)}
    source = (
        SharedSecret(minting.SECRET) if algorithm == "HS256" else Fixed(JwkSet(minting.KEY_SET))
    )
    return TokenVerifier(TokenRules(**{**settings, **rules}), source, clock=clock or Clock())


def reason(found: Principal | Rejection) -> str:
    """Why a token was not believed, or the name it was believed to speak of."""
    return found.reason if isinstance(found, Rejection) else found.name


def huge(claim: str) -> str:
    """A payload with a number too long to be converted."""
    return json.dumps({**CLAIMS, claim: 0}).replace(f'"{claim}": 0', f'"{claim}": ' + "9" * 5000)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, "jwt:alice"),
        ({"aud": ["other", "radgateway"]}, "jwt:alice"),
        ({"iat": NOW - 0.5, "exp": NOW + 0.5}, "jwt:alice"),
        ({"without": "iat"}, "jwt:alice"),
        # the edges of the leeway of 60 s
        ({"exp": int(NOW) - 1}, "jwt:alice"),
        ({"exp": int(NOW) - 59}, "jwt:alice"),
        ({"exp": int(NOW) - 60}, "expired"),
        ({"exp": int(NOW) - 61}, "expired"),
        ({"nbf": int(NOW) + 60}, "jwt:alice"),
        ({"nbf": int(NOW) + 61}, "not_yet_valid"),
        ({"iat": int(NOW) + 60}, "jwt:alice"),
        ({"iat": int(NOW) + 61}, "not_yet_valid"),
        ({"without": "exp"}, "invalid"),
        ({"exp": None}, "invalid"),
        ({"exp": str(int(NOW) + 600)}, "invalid"),
        ({"exp": True}, "invalid"),
        ({"exp": -1}, "invalid"),
        ({"exp": 10**30}, "invalid"),
        ({"exp": float("inf")}, "invalid"),
        ({"exp": float("nan")}, "invalid"),
        ({"nbf": [1]}, "invalid"),
        ({"iat": {}}, "invalid"),
        ({"without": "sub"}, "invalid"),
        ({"sub": ""}, "invalid"),
        ({"sub": 17}, "invalid"),
        ({"sub": "x" * 1025}, "invalid"),
        ({"without": "aud"}, "wrong_audience"),
        ({"aud": "other"}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": {"radgateway": 1}}, "wrong_audience"),
        ({"aud": "radgateway2"}, "wrong_audience"),
        ({"aud": [["radgateway"]]}, "wrong_audience"),
        ({"without": "iss"}, "wrong_issuer"),
        ({"iss": "https://issuer.test/realm/"}, "wrong_issuer"),
        ({"iss": [minting.ISSUER]}, "wrong_issuer"),
    ],
)
def test_claims_of_a_good_signature(algorithm: str, claims: dict[str, Any], expected: str) -> None:
    """Under each algorithm the same is asked of a token: issuer, audience, name and times."""
    assert reason(verifier(algorithm).check(token(algorithm, **claims))) == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"typ": "at+jwt"}, "jwt:alice"),
        ({"typ": "AT+JWT"}, "jwt:alice"),
        ({"typ": "application/at+jwt"}, "jwt:alice"),
        ({"x5t": "unknown-and-not-critical", "jku": "https://evil.test/keys"}, "jwt:alice"),
        ({"typ": "logout+jwt"}, "invalid"),
        ({"typ": "dpop+jwt"}, "invalid"),
        ({"typ": 1}, "invalid"),
        ({"typ": ["JWT"]}, "invalid"),
        ({"crit": ["exp"], "exp": 1}, "invalid"),
        ({"crit": []}, "invalid"),
        ({"crit": ["b64"], "b64": False}, "invalid"),
        ({"b64": True}, "invalid"),
        ({"kid": 1}, "invalid"),
        ({"kid": ["rsa-0"]}, "invalid"),
        ({"alg": None}, "invalid"),
        ({"alg": ["RS256"]}, "invalid"),
        ({"alg": ""}, "invalid"),
        ({"alg": "none"}, "invalid"),
        ({"alg": "HS384"}, "invalid"),
        ({"alg": "RS512"}, "invalid"),
        ({"alg": "PS256"}, "invalid"),
        ({"alg": "rs256"}, "invalid"),
    ],
)
def test_headers(algorithm: str, header: dict[str, Any], expected: str) -> None:
    """What a header may ask for is little; a key it brings along or points to is not looked at."""
    assert reason(verifier(algorithm).check(token(algorithm, header=header))) == expected


def test_the_key_is_known_by_its_id() -> None:
    """A wrong id, or an id of the other type's key, finds no key; no id, the only one there is."""
    judge = verifier("RS256")
    assert reason(judge.check(token(header={"kid": "rsa-1"}))) == "unknown_key"
    assert reason(judge.check(token(header={"kid": "ec-0"}))) == "unknown_key"
    assert reason(judge.check(token(number=1))) == "invalid"
    plain = sign("RS256", minting.rsa_key(), {"alg": "RS256"}, json.dumps(CLAIMS))
    assert reason(judge.check(plain)) == "jwt:alice"
    both = minting.jwks(minting.jwk("RS256", "a"), minting.jwk("RS256", "b", 1))
    judge = TokenVerifier(RULES, Fixed(JwkSet(both)), clock=Clock())
    assert reason(judge.check(plain)) == "unknown_key"


@pytest.mark.parametrize("signature", [b"", b"AAAA", b"A" * 342])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_unsigned_tokens(algorithm: str, signature: bytes) -> None:
    """`none`, with or without something in the signature's place, is never an algorithm."""
    for named in ("none", "None", "NONE", algorithm):
        head = json.dumps({"alg": named, "kid": minting.KIDS[algorithm]}).encode()
        forged = encoded(head) + b"." + encoded(json.dumps(CLAIMS).encode()) + b"." + signature
        assert reason(verifier(algorithm).check(forged)) == "invalid"


def test_a_public_key_is_no_secret() -> None:
    """Signing with HS256 and the issuer's public key, which everybody has, gets nobody in."""
    pem = minting.public_pem()
    jwk = json.dumps(minting.jwk("RS256", "rsa-0")).encode()
    der = minting.public_der()
    every = TokenRules(
        issuer=RULES.issuer, audience=RULES.audience, algorithms=("HS256", "RS256", "ES256")
    )
    for rules in (RULES, every):
        judge = TokenVerifier(rules, Fixed(JwkSet(minting.KEY_SET)), clock=Clock())
        for key in (pem, pem.strip(), jwk, der):
            header = {"alg": "HS256", "kid": "rsa-0"}
            signed = (
                encoded(json.dumps(header).encode()) + b"." + encoded(json.dumps(CLAIMS).encode())
            )
            maker = jwt.get_algorithm_by_name("HS256")
            forged = signed + b"." + encoded(maker.sign(signed, key))
            assert reason(judge.check(forged)) in ("invalid", "unknown_key")
            # the same under the name of the algorithm that the key is for
            header = {"alg": "RS256", "kid": "rsa-0"}
            forged = encoded(json.dumps(header).encode()) + forged[forged.index(b".") :]
            assert reason(judge.check(forged)) == "invalid"


def test_a_key_serves_its_own_algorithm_only() -> None:
    """The secret verifies no RS256, an RSA key no ES256, whatever the token says."""
    shared = TokenVerifier(
        TokenRules(
            issuer=RULES.issuer, audience=RULES.audience, algorithms=("HS256", "RS256", "ES256")
        ),
        SharedSecret(minting.SECRET),
        clock=Clock(),
    )
    assert reason(shared.check(token("HS256"))) == "jwt:alice"
    assert reason(shared.check(token("RS256"))) == "unknown_key"
    assert reason(shared.check(token("ES256"))) == "unknown_key"
    judge = TokenVerifier(RULES, Fixed(JwkSet(minting.KEY_SET)), clock=Clock())
    for named, kid in (("ES256", "rsa-0"), ("RS256", "ec-0")):
        assert reason(judge.check(token(header={"alg": named, "kid": kid}))) == "unknown_key"


_HEAD = json.dumps({"alg": "RS256", "kid": "rsa-0"})


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (_HEAD, json.dumps(CLAIMS).replace('"alice"', '"alice", "sub": "root"')),
        (_HEAD.replace("{", '{"alg": "none", '), json.dumps(CLAIMS)),
        (_HEAD, huge("exp")),
        (_HEAD, "[" * 3000 + "]" * 3000),
        (_HEAD, json.dumps([CLAIMS])),
        (_HEAD, '"text"'),
        (_HEAD, ""),
        (_HEAD, b"\xff\xfe{}"),
        (_HEAD, json.dumps(CLAIMS).encode("utf-16")),
        (_HEAD, json.dumps(CLAIMS).replace("alice", "al\\u0000").encode() + b"\x00"),
        (_HEAD, json.dumps(CLAIMS)[:-1] + ', "x": NaN}'),
        ("[]", json.dumps(CLAIMS)),
        ("{}", json.dumps(CLAIMS)),
        ("[" * 2000, json.dumps(CLAIMS)),
    ],
)
def test_what_is_signed_and_still_no_token(header: str, payload: str | bytes) -> None:
    """Not one object in UTF-8 with each name once: it is not guessed what was meant."""
    found = verifier().check(sign("RS256", minting.rsa_key(), header, payload))
    assert reason(found) == "invalid"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + b"=",
        lambda t: t + b"==",
        lambda t: t + b"\n",
        lambda t: b" " + t,
        lambda t: t.replace(b".", b"..", 1),
        lambda t: t + b".",
        lambda t: t + b"." + t,
        lambda t: t.rpartition(b".")[0],
        lambda t: t.rpartition(b".")[0] + b".",
        lambda t: t[:-1],
        lambda t: t.replace(b"_", b"/").replace(b"-", b"+") + b"/",
        lambda t: t[:40] + "é".encode() + t[40:],
        lambda t: t[:40] + b"\xff" + t[40:],
        lambda t: t[:40] + b"\0" + t[40:],
        lambda t: b"",
        lambda t: b"..",
        lambda t: b"eyJ..",
        lambda t: b"a.b.c",
        lambda t: b"e30.e30.e30",
    ],
)
def test_what_is_not_the_compact_form(change: Any) -> None:
    """One token has one spelling: no padding, space or stray character is overlooked."""
    for algorithm in ALGORITHMS:
        assert reason(verifier(algorithm).check(change(token(algorithm)))) == "invalid"


def test_the_last_characters_spare_bits_are_zero() -> None:
    """A signature spelt with other bits that stand for nothing is refused: it is another token."""
    good = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(chr(good[-1]))
    assert place % 16 == 0, "256 bytes leave four spare bits"
    for other in alphabet[place + 1 : place + 16]:
        assert reason(verifier().check(good[:-1] + other.encode())) == "invalid"


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    """8 KiB fit; a byte more is refused before it is read."""
    good = token(pad="x")
    room = TOKEN_MAX - len(good)
    longest = next(
        made
        for size in range(room * 3 // 4 + 2, 0, -1)
        if len(made := token(pad="x" * size)) <= TOKEN_MAX
    )
    assert len(longest) >= TOKEN_MAX - 2
    assert reason(verifier().check(longest)) == "jwt:alice"
    found = verifier().check(token(pad="x" * room))
    assert found == Rejection("invalid", "The token is longer than 8192 bytes.")


GOOD = {algorithm: token(algorithm) for algorithm in ALGORITHMS}
JUDGES = {algorithm: verifier(algorithm) for algorithm in ALGORITHMS}


@settings(max_examples=400, deadline=None)
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    at=st.integers(0, 10_000),
    cut=st.integers(0, 4),
    put=st.one_of(
        st.binary(max_size=4),
        st.text("ABCDwxyz0189-_=.", max_size=4).map(str.encode),
    ),
)
@example(algorithm="RS256", at=0, cut=0, put=b"")
def test_no_mutation_of_a_good_token_is_believed(
    algorithm: str, at: int, cut: int, put: bytes
) -> None:
    """Whatever is cut out and put in, only the token itself is believed, and nothing is raised."""
    good = GOOD[algorithm]
    at %= len(good) + 1
    changed = good[:at] + put + good[at + cut :]
    found = JUDGES[algorithm].check(changed)
    assert isinstance(found, Principal) is (changed == good)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.one_of(st.binary(max_size=60), st.just(b"eyJ")), min_size=1, max_size=4))
def test_no_rubbish_is_believed_or_raises(parts: list[bytes]) -> None:
    """Any bytes, and any bytes in the form of a token, get an answer."""
    for judge in JUDGES.values():
        assert isinstance(judge.check(b".".join(parts)), Rejection)
        assert isinstance(judge.check(b".".join(map(encoded, parts))), Rejection)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(
    claims=st.dictionaries(st.sampled_from([*sorted(CLAIMS), "nbf", "x"]), _values),
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "x"]), _values),
)
def test_anything_an_issuer_may_sign_gets_an_answer(
    claims: dict[str, Any], header: dict[str, Any]
) -> None:
    """A token by the right key with any claims and header at all raises nothing."""
    signed = token("HS256", header=header, **claims)
    found = JUDGES["HS256"].check(signed)
    if isinstance(found, Rejection):
        assert re.fullmatch(r"[ !#-\[\]-~]+", found.message), "fit for error_description"
    else:
        assert found.name.startswith("jwt:")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_time_passes_over_a_token_that_was_believed(algorithm: str) -> None:
    """What is remembered of a token never outlives it, and holds no longer than its clock allows,
    backwards either."""
    clock = Clock()
    judge = verifier(algorithm, clock)
    good = token(algorithm, nbf=int(NOW))
    for moment, expected in (
        (NOW, "jwt:alice"),
        (NOW + 659.9, "jwt:alice"),
        (NOW + 660, "expired"),
        (NOW, "jwt:alice"),
        (NOW - 61, "not_yet_valid"),
        (NOW - 60, "jwt:alice"),
    ):
        clock.now = moment
        assert reason(judge.check(good)) == expected, moment


def test_a_token_is_verified_once_while_the_keys_are_the_same() -> None:
    """A hot token costs a hash; other keys make it be verified anew, and their lack ends it."""

    class Counting:
        """A key set that counts what it is asked."""

        def __init__(self, document: bytes) -> None:
            self.inner = JwkSet(document)
            self.asked = 0

        def find(self, algorithm: str, kid: str | None) -> Any:
            self.asked += 1
            return self.inner.find(algorithm, kid)

    first, second = Counting(minting.KEY_SET), Counting(minting.KEY_SET)
    source = Fixed(first)
    judge = TokenVerifier(RULES, source, clock=Clock())
    good = token()
    assert [reason(judge.check(good)) for _ in range(5)] == ["jwt:alice"] * 5
    assert first.asked == 1
    source.keys = second
    assert [reason(judge.check(good)) for _ in range(5)] == ["jwt:alice"] * 5
    assert second.asked == 1
    source.keys = JwkSet(minting.jwks(minting.jwk("RS256", "rsa-1", 1)))
    assert reason(judge.check(good)) == "unknown_key"
    source.keys = None
    assert reason(judge.check(good)) == "keys_unavailable"


def test_what_is_remembered_is_bounded_and_holds_no_token() -> None:
    """What was not used for longest is forgotten; a dump shows no part of a token."""
    judge = verifier("HS256")
    first = token("HS256", jti="first")
    judge.check(first)
    (remembered,) = judge._known
    for number in range(KNOWN_MAX + 50):
        if number % 1000 == 0:
            assert reason(judge.check(first)) == "jwt:alice"
        judge.check(token("HS256", jti=str(number)))
    assert len(judge._known) == KNOWN_MAX
    assert remembered in judge._known
    assert first.split(b".")[1].decode() not in repr(vars(judge))


def test_rejected_tokens_are_not_remembered() -> None:
    """Nobody can fill the memory with rubbish, nor push good tokens out."""
    judge = verifier()
    for number in range(50):
        judge.check(token(number=1, jti=str(number)))
        judge.check(token(exp=int(NOW) - 100, jti=str(number)))
    assert not judge._known


def test_an_unknown_key_is_asked_for_once() -> None:
    """A token by a new key is looked at again with the keys that came; others wait for nothing."""

    async def story() -> None:
        new = JwkSet(minting.jwks(minting.jwk("RS256", "rsa-1", 1)))
        source = Fixed(JwkSet(minting.KEY_SET), coming=new)
        judge = TokenVerifier(RULES, source, clock=Clock())
        assert reason(await judge.verify(token())) == "jwt:alice"
        assert reason(await judge.verify(token(number=1))) == "invalid"
        assert reason(await judge.verify(token(exp=1))) == "expired"
        assert source.renewals == 0
        rotated = token(number=1, header={"kid": "rsa-1"})
        assert reason(await judge.verify(rotated)) == "jwt:alice"
        assert source.renewals == 1
        missing = Fixed(None)
        judge = TokenVerifier(RULES, missing, clock=Clock())
        assert reason(await judge.verify(token())) == "keys_unavailable"
        assert missing.renewals == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    ("moment", "says", "clocks"),
    [
        (NOW + 600 + 61, "expired 61 s ago", True),
        (NOW + 600 + 150, "expired 2 min ago", True),
        (NOW + 600 + 361, "expired 6 min ago", False),
        (NOW + 600 + 86_400, "expired 24 h ago", False),
        (NOW - 10 - 61, "valid only in 61 s", True),
        (NOW - 10 - 3000, "valid only in 50 min", False),
    ],
)
def test_a_wrong_time_is_told_as_what_to_do(moment: float, says: str, clocks: bool) -> None:
    """Off by minutes it may be the clocks, and the message says so; off by more it is the token."""
    found = verifier(clock=Clock(moment)).check(token())
    assert isinstance(found, Rejection)
    assert says in found.message
    assert ("check the clocks" in found.message) is clocks


def test_a_lifetime_can_be_bounded() -> None:
    """A token made to last is refused, by its own dates or, without an issue date, by the clock."""
    judge = verifier(max_lifetime_s=3600)
    assert reason(judge.check(token())) == "jwt:alice"
    assert reason(judge.check(token(exp=int(NOW) + 3590))) == "jwt:alice"
    assert reason(judge.check(token(exp=int(NOW) + 3591))) == "invalid"
    assert reason(judge.check(token(exp=int(NOW) + 3601, without="iat"))) == "invalid"
    assert reason(judge.check(token(exp=int(NOW) + 3600, without="iat"))) == "jwt:alice"


def test_another_claim_can_name_the_caller() -> None:
    """And is then what must be there."""
    judge = verifier(name_claim="client_id")
    assert reason(judge.check(token(client_id="app-7", without="sub"))) == "jwt:app-7"
    assert reason(judge.check(token())) == "invalid"


def test_no_leeway_is_none() -> None:
    """With 0 the first moment of `exp` is too late (RFC 7519 §4.1.4) and that of `nbf` is not."""
    judge = verifier(leeway_s=0)
    assert reason(judge.check(token(exp=int(NOW)))) == "expired"
    assert reason(judge.check(token(exp=int(NOW) + 1))) == "jwt:alice"
    assert reason(judge.check(token(nbf=int(NOW)))) == "jwt:alice"


@settings(max_examples=300, deadline=None)
@given(claims=st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=5, unique=True))
@example(claims=["a/b", "a_b", "a b"])
@example(claims=["a" * 64, "a" * 65, "a" * 66])
@example(claims=["_a", "-a", ".a"])
def test_names_are_safe_and_no_two_claims_share_one(claims: list[str]) -> None:
    """A name fits a log line and is nobody else's: neither another subject's nor a key's."""
    names = [principal_name(claim) for claim in claims]
    assert len(set(names)) == len(claims)
    for name in names:
        assert re.fullmatch(r"jwt:[A-Za-z0-9_.@~-]{1,64}", name), name
        assert not NAME.fullmatch(name), "the names of keys hold no colon"


def test_plain_subjects_stay_readable() -> None:
    """What fits is not touched; the rest can still be recognised."""
    assert principal_name("alice@example.com") == "jwt:alice@example.com"
    assert principal_name("system:serviceaccount:ns:app").startswith(
        "jwt:system_serviceaccount_ns_app~"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("issuer", ""),
        ("audience", ""),
        ("name_claim", ""),
        ("name_claim", 'a"b'),
        ("name_claim", "a\\b"),
        ("name_claim", "n\u00e4me"),
        ("name_claim", "a\nb"),
        ("algorithms", ()),
        ("algorithms", ("none",)),
        ("algorithms", ("RS256", "RS512")),
        ("leeway_s", -1),
        ("leeway_s", 301),
        ("leeway_s", float("nan")),
        ("max_lifetime_s", 0),
    ],
)
def test_rules_that_guard_nothing_are_refused(field: str, value: Any) -> None:
    """A ValueError that starts with the field's name."""
    given = {"issuer": "i", "audience": "a", field: value}
    with pytest.raises(ValueError, match=f"^{field} "):
        TokenRules(**given)
