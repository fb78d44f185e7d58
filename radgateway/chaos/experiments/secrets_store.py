"""The secrets store can't be reached: the last known secrets serve (strategy 8.1, phase 2)."""

from __future__ import annotations

from radgateway.chaos.experiment import CannotRun, Experiment
from radgateway.chaos.lab import Lab

_WHY = (
    "this release reads secrets from variables and files when it starts, and calls no store "
    "while it serves; there is no connection to cut"
)


async def _conduct(lab: Lab) -> None:
    raise CannotRun(_WHY)


SECRETS_STORE = Experiment(
    name="secrets-store",
    phase="2: infrastructure resilience",
    hypothesis="With the secrets store unreachable, the gateway serves with the secrets it knows",
    blast_radius="the connection to the store",
    method="The store stops answering while the gateway serves, and past the time it refreshes",
    abort="half of the last 20 requests fail",
    conduct=_conduct,
    obstacle=lambda: _WHY,
)
