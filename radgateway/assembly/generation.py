"""A generation: one configuration, its parts, and the apps that are composed of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from radgateway.asgi import ASGIApp
from radgateway.assembly.parts import Parts
from radgateway.config.read_files import Marks
from radgateway.config.schema import GatewayConfig
from radgateway.reload.reloader import Leftovers, Loaded
from radgateway.telemetry.instruments import LabelSets


class Composed(NamedTuple):
    """What is served: the data plane, and what stands beside it by path and by prefix."""

    app: ASGIApp
    paths: Mapping[str, ASGIApp]
    below: Mapping[str, ASGIApp]


class Generation:
    """What a reload replaces. `serve` puts what is composed before the requests."""

    def __init__(
        self,
        loaded: Loaded,
        parts: Parts,
        composed: Composed,
        serve: Callable[[Generation], object],
    ) -> None:
        self.loaded = loaded
        self.parts = parts
        self.composed = composed
        self._serve = serve

    @property
    def config(self) -> GatewayConfig:
        """What it was made from."""
        return self.parts.config

    @property
    def marks(self) -> Marks:
        """What was in the files that names."""
        return self.parts.marks

    @property
    def labels(self) -> LabelSets:
        """The names that its metrics may have."""
        return self.parts.labels

    @property
    def closers(self) -> list[Callable[[], Awaitable[object]]]:
        """How it ends together with everything, in order."""
        return self.parts.closers

    async def prepare(self, before: Generation) -> None:
        """Have ready what the first request may need. Raises `ReloadFailed`."""
        await self.parts.prepare(before.parts)

    def begin(self) -> None:
        """Serve from now on. Does not wait."""
        self.parts.take_over()
        self.parts.start()
        self._serve(self)

    def give_way(self, after: Generation) -> Leftovers:
        """Stop what can't go on beside the next one; gives what does not go on in that."""
        return self.parts.give_way(after.parts)
