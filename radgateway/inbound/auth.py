"""ApiKeyAuth: who is asking.

Keys are kept as keyed hashes and looked up by them, so neither a dump of this process nor the
time an answer takes tells anything about a key: the hash is salted per process, every refusal does
the same work, and the comparison is constant-time. JSON Web Tokens are another's judgement; here
is only what is answered.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable

from radgateway.asgi import (
    ASGIApp,
    Headers,
    Receive,
    Scope,
    Send,
    request_header,
    route_path,
    split_keys,
)
from radgateway.errors import Refusal, answer
from radgateway.exchange import Principal, joined
from radgateway.inbound.bearer_tokens import Rejection, TokenVerifier
from radgateway.inbound.compact_jwt import looks_like_token

_KEY_MAX = 512
"""Bytes of the longest key looked at; a longer one is invalid."""

_CHALLENGE = [(b"www-authenticate", b"Bearer")]
_KEYS_RETRY_S = 10.0
"""Until an issuer that could not be reached is asked again."""

_CODES = {
    "expired": "token_expired",
    "not_yet_valid": "token_not_yet_valid",
    "keys_unavailable": "auth_unavailable",
}
"""The codes of rejected tokens by the reason; any other is `invalid_token`."""


class ApiKeys:
    """A set of keys, hashed in memory."""

    def __init__(self, keys: Iterable[tuple[Principal, str]]) -> None:
        self._salt = secrets.token_bytes(32)
        self._nobody = self._hash(secrets.token_bytes(32))
        self._known: dict[bytes, tuple[bytes, Principal]] = {}
        for principal, secret in keys:
            if not secret or len(secret.encode()) > _KEY_MAX:
                raise ValueError(
                    f"the key {principal.name!r} must have 1 to {_KEY_MAX} bytes, "
                    f"not {len(secret.encode())}"
                )
            digest = self._hash(secret.encode())
            if digest in self._known:
                raise ValueError(
                    f"the keys {principal.name!r} and {self._known[digest][1].name!r} are the same"
                )
            self._known[digest] = (digest, principal)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._known)

    def check(self, key: bytes) -> Principal | None:
        """Whose key this is, or None; the same work either way."""
        digest = self._hash(key[:_KEY_MAX])
        known = self._known.get(digest)
        expected = known[0] if known is not None else self._nobody
        same = hmac.compare_digest(digest, expected)
        return known[1] if same and known is not None and len(key) <= _KEY_MAX else None

    def _hash(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()


class ApiKeyAuth:
    """Lets a request in whose key is known, and puts the `Principal` into its record.

    Keys are looked for in this order: `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, and
    on Gemini's paths `?key=`, which is taken out of the query string before anything can log it.
    Answers 401 `missing_api_key` or `invalid_api_key`, and 403 `admin_key_required` where
    `require_admin` is set. `on_failure` gets the code of each refusal.

    With `tokens`, a key in the form of a JSON Web Token is one, and answered 401 `invalid_token`,
    `token_expired` or `token_not_yet_valid`, or 503 `auth_unavailable` while the keys of its issuer
    can't be had.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        *,
        tokens: TokenVerifier | None = None,
        require_admin: bool = False,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.app = app
        self._keys = keys
        self._tokens = tokens
        self._require_admin = require_admin
        self._on_failure = on_failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        started = exchange.clock() if exchange.spans is not None else 0.0
        scope, key = _key_of(scope)
        found: Principal | Rejection | None
        if self._tokens is not None and key is not None and looks_like_token(key):
            found = await self._tokens.verify(key)
        else:
            found = self._keys.check(key if key is not None else b"")
        principal = found if isinstance(found, Principal) else None
        exchange.principal = principal
        if exchange.spans is not None:
            exchange.spans.append(("authentication", started, exchange.clock()))
        if isinstance(found, Rejection):
            refusal: Refusal | None = _rejected(found)
        else:
            refusal = self._refusal(key, principal)
        if refusal is None:
            await self.app(scope, receive, send)
            return
        if self._on_failure is not None:
            self._on_failure(refusal.code)
        await answer(scope, send, refusal)

    def _refusal(self, key: bytes | None, principal: Principal | None) -> Refusal | None:
        if key is None:
            message = "No API key was given; send it as `Authorization: Bearer KEY`."
            return Refusal("missing_api_key", message, headers=_CHALLENGE)
        if principal is None:
            return Refusal("invalid_api_key", "The API key is not valid.", headers=_CHALLENGE)
        if self._require_admin and not principal.admin:
            return Refusal("admin_key_required", "This path needs an admin key.")
        return None


def _rejected(rejection: Rejection) -> Refusal:
    code = _CODES.get(rejection.reason, "invalid_token")
    if code == "auth_unavailable":
        return Refusal(code, rejection.message, retry_after_s=_KEYS_RETRY_S)
    # RFC 6750 §3; the messages hold no quote and no backslash.
    challenge = f'Bearer error="invalid_token", error_description="{rejection.message}"'
    headers: Headers = [(b"www-authenticate", challenge.encode("ascii"))]
    return Refusal(code, rejection.message, headers=headers)


def _key_of(scope: Scope) -> tuple[Scope, bytes | None]:
    """The key a request carries, and the scope without it where it stood in the URL."""
    query: bytes = scope.get("query_string", b"")
    in_query: bytes | None = None
    if query and route_path(scope).startswith("/v1beta/"):
        kept, keys = split_keys(query)
        if keys:
            in_query = keys[0]
            scope = {**scope, "query_string": kept}
    bearer = request_header(scope, b"authorization")
    if bearer is not None and bearer[:7].lower() == b"bearer ":
        return scope, bearer[7:].strip()
    for name in (b"x-api-key", b"x-goog-api-key"):
        value = request_header(scope, name)
        if value is not None:
            return scope, value.strip()
    return scope, in_query
