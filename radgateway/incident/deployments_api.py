"""Deployments over HTTP: a silence and a change event at the beginning, their end at the end.

Whoever deploys waits for the silence: an answer says that it is in force, or that it is not. Both
ends may be repeated with the same id, and change nothing the second time.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from radgateway.asgi import Receive, Scope, Send, route_path
from radgateway.errors import Refusal, answer
from radgateway.incident.asking import RETRY_S, asked, by
from radgateway.incident.calls import Failed
from radgateway.incident.deployment import Deployment, Outcome
from radgateway.incident.desk import Desk
from radgateway.incident.forms import deployment_shown
from radgateway.incident.lifecycle import NotAllowed
from radgateway.incident.silences import Silences
from radgateway.operations.json_action import JSONAction
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query, check_known, whole_number

DEPLOYMENTS: Final = "/v0/deployments"
_SHOWN_MAX: Final = 100
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}$")]


class BeginOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """That a deployment begins."""

    version: Name
    environment: Name
    id: Name | None = None
    """What it is called; made up where it is not said."""
    duration_s: Annotated[float, msgspec.Meta(ge=60)] = 900.0
    """Seconds after which the silence ends by itself."""


class EndOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """That a deployment has ended, and how."""

    outcome: Outcome = "deployed"


class DeploymentsAPI:
    """What is below `/v0/deployments`. Without `silences` there are change events alone."""

    def __init__(self, desk: Desk, silences: Silences | None, *, max_silence_s: float) -> None:
        self._desk = desk
        self._silences = silences
        self._max_silence_s = max_silence_s
        self._list = JSONEndpoint(self._listed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        rest = route_path(scope).removeprefix(DEPLOYMENTS)
        name, _, what = rest.removeprefix("/").partition("/")
        if not rest and scope["method"] in ("GET", "HEAD"):
            await self._list(scope, receive, send)
        elif not rest:
            await JSONAction("deployment", BeginOrder, self._begin(scope))(scope, receive, send)
        elif name and what == "end":
            await JSONAction("deployment", EndOrder, self._end(name))(scope, receive, send)
        else:
            advice = "A deployment takes POST to its end: /v0/deployments/ID/end."
            await answer(scope, send, Refusal("unknown_path", advice))

    async def _listed(self, query: Query) -> tuple[int, Any]:
        check_known(query, ("limit",))
        limit = whole_number(query, "limit", 20, _SHOWN_MAX)
        found = await asked(self._desk.transact(lambda tx: tx.deployments(limit)))
        return 200, {"data": [deployment_shown(each) for each in found], "total": len(found)}

    def _begin(self, scope: Scope) -> Callable[[BeginOrder], Awaitable[tuple[int, Any]]]:
        who = by(scope)

        async def act(order: BeginOrder) -> tuple[int, Any]:
            if order.duration_s > self._max_silence_s:
                advice = f"`duration_s` may be {self._max_silence_s:g} at most."
                raise Refusal("invalid_request", advice)
            id_ = order.id or f"{order.version}-{secrets.token_hex(4)}"

            def begun(before: Deployment | None, now: float) -> Deployment:
                if before is None:
                    return Deployment(
                        id=id_,
                        version=order.version,
                        environment=order.environment,
                        by=who,
                        began_at=now,
                        ends_at=now + order.duration_s,
                    )
                if before.ended_at is not None or before.ends_at <= now:
                    raise NotAllowed(f"The deployment {id_} has ended: begin another one.")
                return before

            deployment = await asked(self._desk.deploy(id_, begun))
            if self._silences is not None:
                silence = await _silenced(self._silences.begin(deployment), id_)
                deployment = await asked(self._desk.deploy(id_, _with_silence(silence)))
            return 201, deployment_shown(deployment)

        return act

    def _end(self, name: str) -> Callable[[EndOrder], Awaitable[tuple[int, Any]]]:
        async def act(order: EndOrder) -> tuple[int, Any]:
            def ended(before: Deployment | None, now: float) -> Deployment:
                if before is None:
                    raise NotAllowed(f"There is no deployment {name[:64]} that has begun.")
                if before.ended_at is not None:
                    return before
                return replace(before, ended_at=now, outcome=order.outcome)

            deployment = await asked(self._desk.deploy(name, ended))
            if self._silences is not None and deployment.silence is not None:
                await _silenced(self._silences.end(deployment.silence), name)
            return 200, deployment_shown(deployment)

        return act


def _with_silence(silence: str) -> Callable[[Deployment | None, float], Deployment]:
    def silenced(before: Deployment | None, now: float) -> Deployment:
        assert before is not None
        return replace(before, silence=silence)

    return silenced


async def _silenced(work: Awaitable[Any], id_: str) -> Any:
    """What Alertmanager says. Raises `Refusal`."""
    try:
        return await work
    except Failed as failed:
        raise Refusal(
            "upstream_error",
            f"Alertmanager did not do it: {failed.outcome.reason}. Ask again with the id {id_}; "
            "a silence that is in force ends by itself.",
            retry_after_s=RETRY_S,
        ) from None
