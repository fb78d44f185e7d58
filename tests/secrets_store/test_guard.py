"""Work is refused while the secrets are too old."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from drive import drive, http_scope

from radgateway.asgi import Receive, Scope, Send, respond
from radgateway.secrets.guard import SecretsGuard


@dataclass
class Secrets:
    """How they are."""

    state: str = "ok"
    retry_in_s: float = 6.2


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, [], b"served")


def test_it_refuses_while_they_are_expired_and_only_then() -> None:
    """With the time until newer ones may be there, and in the caller's dialect."""

    async def main() -> None:
        secrets = Secrets()
        guarded = SecretsGuard(app, secrets)
        for state, status in (("ok", 200), ("stale", 200), ("expired", 503), ("ok", 200)):
            secrets.state = state
            answer = await drive(guarded, http_scope("/v1/chat/completions"), b"{}")
            assert answer.status == status
            if status == 503:
                assert json.loads(answer.body)["error"]["code"] == "secrets_expired"
                assert dict(answer.headers)[b"retry-after"] == b"7"

    asyncio.run(main())
