"""POST /v0/management/reload: read the configuration again and put it in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from radgateway.asgi import ASGIApp
from radgateway.config.problems import ConfigError
from radgateway.errors import Refusal
from radgateway.exchange import current_exchange
from radgateway.operations.json_action import JSONAction
from radgateway.reload.refusals import NeedsRestart, ReloadFailed
from radgateway.reload.reloader import Reloader


class ReloadOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a reload: there is nothing to say."""


def reload_action(
    reloader: Callable[[], Reloader], tell_all: Callable[[], object] | None
) -> dict[str, ASGIApp]:
    """The endpoint. Where this is one worker of several, `tell_all` has all of them reload."""

    async def act(order: ReloadOrder) -> tuple[int, Any]:
        keeper, by = reloader(), _who()
        try:
            if tell_all is None:
                diff = await keeper.reload(by)
                status, word = 200, "applied" if diff.changes else "unchanged"
            else:
                diff = await keeper.check(by)
                tell_all()
                status, word = 202, "accepted"
        except ConfigError as error:
            raise Refusal("invalid_config", str(error)) from None
        except NeedsRestart as error:
            raise Refusal("needs_restart", str(error)) from None
        except ReloadFailed as error:
            raise Refusal("reload_failed", f"Nothing was changed: {error}.") from None
        return status, {
            "status": word,
            "generation": keeper.current.loaded.generation,
            **diff.shown(),
        }

    return {"reload": JSONAction("reload", ReloadOrder, act)}


def _who() -> str:
    exchange = current_exchange.get()
    principal = exchange.principal if exchange is not None else None
    return principal.name if principal is not None else "unknown"
