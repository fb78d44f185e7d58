"""InfisicalStore: reads the secrets of folders of an Infisical project, with two REST calls.

Universal auth gives an access token for the identity's client id and secret; the token is kept
and renewed before it ends, as each login may count against a limit of the client secret. A server
refuses a token that has ended with 401 or, for one of its own signature, 403: either makes one
login anew. Secrets are listed by `/api/v4/secrets`; servers that have no such path yet have
`/api/v3/secrets/raw`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec

from radgateway.asgi import Clock, Headers, header
from radgateway.config.secrets_store import InfisicalConfig
from radgateway.retry_after import retry_after_s
from radgateway.secrets.reading import SecretsUnavailable, StoreReading
from radgateway.upstream.interface import Timeouts, Upstream, UpstreamError, UpstreamRequest

ANSWER_MAX_BYTES: Final = 4 * 1024 * 1024
_RENEW_SHARE: Final = 0.1
_RENEW_MOST_S: Final = 300.0
"""A token is renewed once so much of its life is left, or this many seconds."""
_LOGIN: Final = "/api/v1/auth/universal-auth/login"
T = TypeVar("T")


class StoreFailed(SecretsUnavailable):
    """The store gave no answer that can be used; the message says why, and is fit for a log."""

    def __init__(
        self, message: str, *, status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """Of the answer; 0 where there was none."""
        self.retry_after_s = retry_after_s


class _Login(msgspec.Struct, rename="camel"):
    access_token: str
    expires_in: float


class _Secret(msgspec.Struct, rename="camel"):
    secret_key: str
    secret_value: str = ""
    secret_value_hidden: bool = False
    type: str = "shared"


class _Import(msgspec.Struct):
    secrets: list[_Secret]


class _Listing(msgspec.Struct):
    secrets: list[_Secret]
    imports: list[_Import] = []


class AccessToken:
    """A token and how long it is good for."""

    __slots__ = ("_renew_at", "text")

    def __init__(self, text: str, lifetime_s: float, now: float) -> None:
        self.text = text
        self._renew_at = now + lifetime_s - min(lifetime_s * _RENEW_SHARE, _RENEW_MOST_S)

    def usable(self, now: float) -> bool:
        """Whether it need not be renewed yet."""
        return now < self._renew_at


class InfisicalStore:
    """One project. `settings` have their secrets read; `client` stays its owner's to close.

    One reading at a time: it belongs to one task.
    """

    def __init__(
        self,
        settings: InfisicalConfig,
        client: Upstream,
        *,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._wall = wall
        self._token: AccessToken | None = None
        self._listing = _list_v4

    async def read(self, folders: Iterable[str]) -> StoreReading:
        """All secrets of some folders, within `timeout_s`. Raises `StoreFailed`."""
        limit_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                values = {folder: await self._secrets(folder) for folder in folders}
        except TimeoutError:
            raise StoreFailed(
                f"{self._settings.url} did not answer in full within {limit_s:g} s"
            ) from None
        return StoreReading(values, self._wall())

    async def _secrets(self, folder: str) -> dict[str, str]:
        kept = self._token is not None and self._token.usable(self._clock())
        try:
            return await self._listed(folder)
        except StoreFailed as failure:
            renewable = self._settings.token is None
            if failure.status not in (401, 403) or not kept or not renewable:
                raise
        self._token = None
        return await self._listed(folder)

    async def _listed(self, folder: str) -> dict[str, str]:
        headers: Headers = [(b"authorization", b"Bearer " + (await self._access()).encode())]
        try:
            found = await self._ask("GET", self._listing(self._settings, folder), headers, _Listing)
        except StoreFailed as failure:
            if failure.status != 404 or self._listing is _list_v3:
                raise
            # Either nothing is there, or the server is older than the path.
            found = await self._ask("GET", _list_v3(self._settings, folder), headers, _Listing)
            self._listing = _list_v3
        return _values(found)

    async def _access(self) -> str:
        settings = self._settings
        if settings.token is not None:
            return settings.token.reveal()
        if self._token is None or not self._token.usable(self._clock()):
            if settings.client_id is None or settings.client_secret is None:
                raise StoreFailed("secrets.infisical has neither an identity nor a token")
            body = {
                "clientId": settings.client_id.reveal(),
                "clientSecret": settings.client_secret.reveal(),
            }
            headers: Headers = [(b"content-type", b"application/json")]
            login = await self._ask("POST", _LOGIN, headers, _Login, msgspec.json.encode(body))
            self._token = AccessToken(login.access_token, login.expires_in, self._clock())
        return self._token.text

    async def _ask(
        self, method: str, path: str, headers: Headers, form: type[T], body: bytes = b""
    ) -> T:
        """One call. No message of a failure holds anything of what was sent or came back."""
        settings = self._settings
        limit_s = settings.timeout_s
        clocks = Timeouts(connect_s=limit_s, pool_s=limit_s, first_byte_s=limit_s, idle_s=limit_s)
        request = UpstreamRequest(
            method, settings.url.rstrip("/") + path, [*_HEADERS, *headers], body
        )
        try:
            response = await self._client.send(request, clocks)
            try:
                if response.status != 200:
                    wait_s = retry_after_s(response.headers, self._wall())
                    raise _refused(settings, response.status, path.partition("?")[0], wait_s)
                if (header(response.headers, b"content-encoding") or b"identity") != b"identity":
                    raise StoreFailed(f"{settings.url} answered in an encoding not asked for")
                answer = b""
                while part := await response.read():
                    answer += part
                    if len(answer) > ANSWER_MAX_BYTES:
                        raise StoreFailed(
                            f"{settings.url} answered more than {ANSWER_MAX_BYTES} bytes"
                        )
            finally:
                await response.aclose()
        except UpstreamError as error:
            raise StoreFailed(f"{settings.url} can't be reached: {error}") from None
        try:
            return msgspec.json.decode(answer, type=form)
        except msgspec.DecodeError:
            raise StoreFailed(
                f"{settings.url} answered something else than Infisical's JSON"
            ) from None


_HEADERS: Headers = [
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"radgateway"),
]
_ADVICE: Final[Mapping[int, str]] = {
    400: "check project_id and environment",
    401: "check client_id and client_secret, or the token",
    403: "let the identity read secrets of this project, environment and path, from this address",
    404: "check project_id, environment and path",
    429: "it is asked too often; raise secrets.refresh_s",
}


def _refused(
    settings: InfisicalConfig, status: int, path: str, wait_s: float | None
) -> StoreFailed:
    advice = f"; {_ADVICE[status]}" if status in _ADVICE else ""
    return StoreFailed(
        f"{settings.url}{path} answered {status}{advice}", status=status, retry_after_s=wait_s
    )


def _list_v4(settings: InfisicalConfig, folder: str) -> str:
    return "/api/v4/secrets?" + urlencode(
        {
            "projectId": settings.project_id,
            "environment": settings.environment,
            "secretPath": folder,
            "expandSecretReferences": "true",
            "includeImports": "true",
        }
    )


def _list_v3(settings: InfisicalConfig, folder: str) -> str:
    return "/api/v3/secrets/raw?" + urlencode(
        {
            "workspaceId": settings.project_id,
            "environment": settings.environment,
            "secretPath": folder,
            "expandSecretReferences": "true",
            "include_imports": "true",
        }
    )


def _values(found: _Listing) -> dict[str, str]:
    """By name: the folder's own go before what it imports, a later import before an earlier."""
    values: dict[str, str] = {}
    for secrets in (*(each.secrets for each in found.imports), found.secrets):
        for secret in secrets:
            if secret.type != "personal":
                if secret.secret_value_hidden:
                    values.pop(secret.secret_key, None)
                else:
                    values[secret.secret_key] = secret.secret_value
    return values
