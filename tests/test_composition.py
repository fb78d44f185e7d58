from __future__ import annotations

from functools import partial
from typing import Any

from radgateway.composition import compose, describe


class Outer:
    """A layer."""

    def __init__(self, app: Any, mark: str = "") -> None:
        self.app, self.mark = app, mark

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class Inner(Outer):
    """Another."""


async def endpoint(scope: Any, receive: Any, send: Any) -> None:
    """An app."""


class Fork:
    """Something that ends in several apps."""

    def __init__(self, providers: dict[str, Any]) -> None:
        self.providers = providers


def test_the_first_named_layer_is_the_outermost() -> None:
    """The order reads as the request's way in."""
    app: Any = compose(endpoint, partial(Outer, mark="x"), Inner)
    assert isinstance(app, Outer)
    assert app.mark == "x"
    assert isinstance(app.app, Inner)
    assert describe(app).names == ("Outer", "Inner", "endpoint")


def test_branches_are_followed() -> None:
    """A router's providers are part of the order."""
    order = describe(compose(Fork({"a": Inner(endpoint)}), Outer))  # type: ignore[arg-type]
    assert order.names == ("Outer", "Fork")
    assert order.branches["a"].names == ("Inner", "endpoint")
    assert str(order) == "Outer > Fork\n  a: Inner > endpoint"
