"""An issuer's clock is off: tokens fail as they should (strategy 8.1, phase 3)."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from typing import Any, NamedTuple

from radgateway.chaos.experiment import Experiment
from radgateway.chaos.lab import Lab
from radgateway.chaos.sandbox import required

_ISSUER, _AUDIENCE = "https://issuer.sandbox", "radgateway-chaos"
_LEEWAY_S = 60.0
_LIFETIME_S = 300.0
_EACH = 20
"""Requests with each token."""


class _Skew(NamedTuple):
    """An issuer whose clock is off, and what a token it has just made should come to."""

    name: str
    ahead_s: float
    code: str
    """Of the refusal; empty where the token is good."""


_SKEWS = (
    _Skew("a clock that is right", 0.0, ""),
    _Skew("30 s fast, within the leeway", 30.0, ""),
    _Skew("330 s slow: expired 30 s ago, within the leeway", -330.0, ""),
    _Skew("180 s fast, beyond the leeway", 180.0, "token_not_yet_valid"),
    _Skew("480 s slow: expired 180 s ago, beyond the leeway", -480.0, "token_expired"),
)


def _token(jwt: Any, secret: str, skew: _Skew) -> str:
    made_at = time.time() + skew.ahead_s
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": "chaos",
        "iat": int(made_at),
        "nbf": int(made_at),
        "exp": int(made_at + _LIFETIME_S),
    }
    token: str = jwt.encode(claims, secret, algorithm="HS256")
    return token


async def _conduct(lab: Lab) -> None:
    jwt = required("jwt", "radgateway[jwt]")
    sandbox = lab.sandbox()
    secret = secrets.token_urlsafe(48)
    config = {
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "jwt": {
            "issuer": _ISSUER,
            "audience": _AUDIENCE,
            "secret": secret,
            "leeway_s": _LEEWAY_S,
        },
    }
    lab.say("starting a gateway in a sandbox, which takes the tokens of one issuer")
    process = await sandbox.gateway(config)

    def target(key: str) -> Any:
        return lab.target(process.url, model="m", key=key, admin_key=sandbox.admin_key)

    by_key = target(sandbox.key)
    await lab.steady_before(by_key.load)
    for skew in _SKEWS:
        load = target(_token(jwt, secret, skew)).load
        calls = (await load.at_once(_EACH)).calls
        status = 401 if skew.code else 200
        as_wanted = sum(call.status == status and call.failure == skew.code for call in calls)
        lab.expect(f"{skew.name}: {status} {skew.code}".rstrip(), as_wanted, "==", _EACH)
        if as_wanted != _EACH:
            lab.note(f"{skew.name}: {dict(Counter(c.failure or 'answered' for c in calls))}")
    failed = await by_key.api.metric("rad_gateway_auth_failures_total")
    refused = _EACH * sum(bool(skew.code) for skew in _SKEWS)
    lab.expect("refusals counted in the metric", failed or 0, ">=", refused)
    lab.note("the issuer's clock was set off, not the gateway's: what differs is what counts")
    await lab.steady_after(by_key.load)


CLOCK_SKEW = Experiment(
    name="clock-skew",
    phase="3: dependency resilience",
    hypothesis="Tokens of an issuer whose clock is off are refused with 401 beyond the leeway",
    blast_radius="the authentication of a sandbox (the strategy: canary only)",
    method=(
        "Tokens are signed by clocks that are right, fast and slow, within the leeway of 60 s and "
        "beyond it; API keys are used beside them"
    ),
    abort="5 minutes",
    conduct=_conduct,
)
