"""Putting layers around an app, and saying what order they ended up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from radgateway.asgi import ASGIApp, Layer


def compose(app: ASGIApp, *layers: Layer) -> ASGIApp:
    """Put layers around an app; the first named is the outermost, the first to see a request.

    A layer is anything that takes an app and returns one: a component's class where its defaults
    will do, else `functools.partial(RateLimiter, limits=...)`.
    """
    for layer in reversed(layers):
        app = layer(app)
    return app


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a composed app: names outermost first, and the branches below the last."""

    names: tuple[str, ...]
    branches: Mapping[str, Order] = field(default_factory=dict)

    def __str__(self) -> str:
        """The order as one would draw it, a branch a line."""
        lines = [" > ".join(self.names)]
        lines += [f"  {name}: {order}" for name, order in self.branches.items()]
        return "\n".join(lines)


def describe(app: object) -> Order:
    """Name the layers of a composed app, outermost first, without running it.

    A layer is followed through its `app` attribute, a router through `providers` (name to app).
    """
    names: list[str] = []
    while True:
        names.append(getattr(app, "__name__", type(app).__name__))
        inner = getattr(app, "app", None)
        if inner is None:
            break
        app = inner
    branches = getattr(app, "providers", None) or {}
    return Order(tuple(names), {name: describe(branch) for name, branch in branches.items()})
