"""What the desk says as answers, and who is asking."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from radgateway.asgi import Scope
from radgateway.errors import Refusal
from radgateway.exchange import exchange_of
from radgateway.incident.desk import UnknownIncident
from radgateway.incident.lifecycle import NotAllowed
from radgateway.incident.store import StoreUnavailable

T = TypeVar("T")

RETRY_S: Final = 5.0
"""Seconds after which something that failed for now may be asked again."""


def by(scope: Scope) -> str:
    """Whose key the request came with."""
    exchange = exchange_of(scope)
    principal = exchange.principal if exchange is not None else None
    return principal.name if principal is not None else "unknown"


async def asked(work: Awaitable[T]) -> T:
    """What the desk says. Raises `Refusal` for its errors."""
    try:
        return await work
    except UnknownIncident as error:
        raise unknown(f"INC-{error.args[0]}") from None
    except NotAllowed as error:
        raise Refusal("wrong_state", str(error)) from None
    except StoreUnavailable as error:
        message = f"The incident store does not answer: {error}. Ask again."
        raise Refusal("overloaded", message, retry_after_s=RETRY_S) from None


def unknown(name: str) -> Refusal:
    """That there is no such incident."""
    return Refusal("unknown_incident", f"There is no incident {name[:40]!r}; ids are as INC-17.")
