"""SecretsGuard: refuses work while the secrets are too old to tell who may ask for it."""

from __future__ import annotations

from typing import Protocol

from radgateway.alone import joined_fully
from radgateway.asgi import ASGIApp, Receive, Scope, Send
from radgateway.errors import Refusal, answer


class Keeper(Protocol):
    """Who knows how the secrets are."""

    @property
    def state(self) -> str:
        """`expired` where they must not be used any more."""

    @property
    def retry_in_s(self) -> float:
        """Seconds until newer ones may be there."""


class SecretsGuard:
    """Answers 503 `secrets_expired` while they are; what is under way goes on."""

    def __init__(self, app: ASGIApp, secrets: Keeper) -> None:
        self.app = app
        self._secrets = secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or self._secrets.state != "expired":
            await self.app(scope, receive, send)
            return
        scope, receive, send, _ = joined_fully(scope, receive, send)
        refusal = Refusal(
            "secrets_expired",
            "The secrets store has been out of reach for longer than its secrets may be used; "
            "ask again later.",
            retry_after_s=self._secrets.retry_in_s,
        )
        await answer(scope, send, refusal)
