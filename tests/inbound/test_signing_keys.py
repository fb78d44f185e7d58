"""Which keys of a set are used, and for what."""

from __future__ import annotations

import json
from typing import Any

import jwt
import minting
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from minting import jwk, jwks

from radgateway.inbound.signing_keys import (
    DOCUMENT_MAX_BYTES,
    KEYS_MAX,
    JwkSet,
    SharedSecret,
)


def test_a_set_gives_each_key_for_its_own_algorithm() -> None:
    """By id, and by nothing else; an id may be that of two keys of different types."""
    keys = JwkSet(jwks(jwk("RS256", "same"), jwk("ES256", "same"), jwk("RS256", "two", 1)))
    assert len(keys) == 3
    rs, es = keys.find("RS256", "same"), keys.find("ES256", "same")
    assert rs is not None
    assert es is not None
    assert (rs.algorithm, es.algorithm) == ("RS256", "ES256")
    for algorithm in ("HS256", "none", "RS512", ""):
        assert keys.find(algorithm, "same") is None
    assert keys.find("RS256", "other") is None
    assert keys.find("RS256", None) is None, "two would fit"
    assert keys.find("ES256", None) is es


def test_keys_verify_what_they_signed_and_nothing_else() -> None:
    """RS256 and ES256 against PyJWT's own signing."""
    for algorithm, private in (("RS256", minting.rsa_key()), ("ES256", minting.ec_key())):
        key = JwkSet(jwks(jwk(algorithm, "k"))).find(algorithm, "k")
        assert key is not None
        message, signature = b"a message", b""
        maker = jwt.get_algorithm_by_name(algorithm)
        signature = maker.sign(message, private)
        assert key.signed(message, signature)
        assert not key.signed(message + b".", signature)
        for bad in (b"", signature[:-1], signature + b"\0", b"\0" * len(signature)):
            assert not key.signed(message, bad)


def rsa_private() -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(minting.rsa_key(), as_dict=True), "key_ops": ["verify"]}


def p384() -> dict[str, Any]:
    return ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


def ed25519() -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    found: dict[str, Any] = OKPAlgorithm.to_jwk(
        Ed25519PrivateKey.generate().public_key(), as_dict=True
    )
    return found


def small_rsa() -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(minting.rsa_key(0, 1024).public_key(), as_dict=True)}


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
        rsa_private(),
        p384(),
        ed25519(),
        small_rsa(),
        jwk("RS256", "k", use="enc"),
        jwk("RS256", "k", key_ops=["encrypt"]),
        jwk("RS256", "k", key_ops="verify"),
        jwk("RS256", "k", alg="RS512"),
        jwk("RS256", "k", alg="PS256"),
        jwk("RS256", "k", alg="HS256"),
        jwk("ES256", "k", alg="ES512"),
        jwk("ES256", "k", crv="P-384"),
        jwk("ES256", "k", crv=["P-256"]),
        jwk("ES256", "k", x="AAAA"),
        jwk("ES256", "k", x=jwk("ES256", "", 1)["x"]),
        jwk("RS256", "k", n=None),
        jwk("RS256", "k", n="!!!"),
        jwk("RS256", "k", n="A" * 3000),
        jwk("RS256", "k", e="AA"),
        jwk("RS256", "k", e="AQ"),
        jwk("RS256", "k", e=65537),
        {**jwk("RS256", "k"), "kid": 7},
        {**jwk("RS256", "k"), "kid": "k" * 257},
        {**jwk("RS256", "k"), "kty": ["RSA"]},
        {},
        [],
        None,
        "text",
        17,
    ],
)
def test_what_is_of_no_use_is_left_out(entry: Any) -> None:
    """And the good key beside it is taken."""
    keys = JwkSet(jwks(entry, jwk("ES256", "good", 2)))
    assert len(keys) == 1
    assert keys.find("ES256", "good") is not None
    assert keys.find("RS256", "k") is None


def test_declared_purposes_that_fit_are_fine() -> None:
    """As the big issuers write them."""
    entry = jwk(
        "RS256", "k", use="sig", alg="RS256", x5c=["MIIC..."], x5t="abc", key_ops=["verify"]
    )
    assert JwkSet(jwks(entry)).find("RS256", "k") is not None


def test_an_empty_set_is_a_set() -> None:
    """An issuer that publishes no key withdraws them all."""
    assert len(JwkSet(b'{"keys": []}')) == 0


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"keys": {}}',
        b'{"keys": null}',
        b"<html>moved</html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"keys": [' + b"0" * DOCUMENT_MAX_BYTES + b"]}",
        jwks(*[{}] * (KEYS_MAX + 1)),
    ],
)
def test_what_is_no_set_is_refused_as_a_whole(document: bytes) -> None:
    """So that the keys known before stay: an error page withdraws nothing."""
    with pytest.raises(ValueError, match="key set"):
        JwkSet(document)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.just("RSA"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops", "d"]),
        _values,
    ),
    algorithm=st.sampled_from(["RS256", "ES256"]),
)
def test_no_entry_breaks_the_reading(changes: dict[str, Any], algorithm: str) -> None:
    """Whatever an entry holds, it is a key or it is left out."""
    keys = JwkSet(jwks({**jwk(algorithm, "k"), **changes}))
    assert len(keys) in (0, 1)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("", "at least 32 bytes"),
        ("x" * 31, "at least 32 bytes"),
        (minting.public_pem().decode(), "no secret"),
        (json.dumps(jwk("RS256", "k")), "no secret"),
    ],
)
def test_a_weak_or_public_secret_is_refused(secret: str, message: str) -> None:
    """RFC 7518 §3.2; and what everybody may know signs for everybody."""
    with pytest.raises(ValueError, match=f"^secret .*{message}"):
        SharedSecret(secret)


def test_a_secret_is_for_hs256_alone_and_does_not_show() -> None:
    """Under any key id, since some issuers write one."""
    keys = SharedSecret(minting.SECRET)
    assert keys.find("HS256", None) is keys.find("HS256", "any") is not None
    for algorithm in ("RS256", "ES256", "HS384", "none"):
        assert keys.find(algorithm, None) is None
    assert minting.SECRET not in repr(keys) + repr(vars(keys))
