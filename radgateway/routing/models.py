"""Which candidates may serve a model: exact names, aliases and wildcards. Data without I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from radgateway.asgi import ASGIApp
from radgateway.routing.hedge import HedgeConfig
from radgateway.usage.prices import Price

StrategyName = Literal["priority", "weighted", "least_latency", "least_cost", "sticky"]
STRATEGIES: frozenset[str] = frozenset(get_args(StrategyName))
PriceOf = Callable[[str, str], Price | None]
_RESOLVED_MAX = 1024
"""Wildcard look-ups remembered; callers choose the names, so the memory is bounded."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the router sees it: an ASGI app and the dialects it understands."""

    app: ASGIApp
    dialects: frozenset[str] | None = None
    """Names of dialects; None means all of them (an app of your own, or the mock)."""
    include_usage: bool = True
    """Whether it may be asked for a stream's usage. Off for servers that refuse the option."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider and the model on it that may serve a request."""

    provider: str
    model: str = "*"
    """The provider's name for the model; `*` is the name the caller asked for."""
    weight: float = 100
    """Order under `priority`, share under `weighted` and `sticky`; more than 0."""
    price: Price | None = None
    """None where unknown, which is not free."""

    def __post_init__(self) -> None:
        """Refuse what no strategy could use."""
        if not self.weight > 0:
            raise ValueError(f"weight must be more than 0, not {self.weight!r}")


@dataclass(frozen=True, slots=True)
class Route:
    """How one model is served."""

    candidates: tuple[Candidate, ...]
    strategy: StrategyName = "priority"
    aliases: tuple[str, ...] = ()
    hedge: HedgeConfig | None = None
    """Give a request that is late to the next candidate too; needs a RetryBudget around."""

    def __post_init__(self) -> None:
        """Refuse a route that can serve nothing."""
        if not self.candidates:
            raise ValueError("a model needs at least one candidate")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {sorted(STRATEGIES)}, not {self.strategy!r}")


class ModelTable:
    """Finds the route for a model's name.

    An exact name or alias wins; then the wildcard pattern (`*` for any characters) with the most
    literal characters, so `gpt-4o-*` goes before `gpt-*` before `*`. `price_of` finds the price of
    a candidate that has none, by its provider's name and its model.
    """

    def __init__(self, routes: Mapping[str, Route], price_of: PriceOf | None = None) -> None:
        self._price_of = price_of
        routes = {name: self._priced(route) for name, route in routes.items()}
        self.routes = routes
        self._exact: dict[str, Route] = {}
        for name, route in routes.items():
            for known in (name, *route.aliases):
                if "*" in known:
                    continue
                if known in self._exact:
                    raise ValueError(f"two models answer to the name {known!r}")
                self._exact[known] = route
        self._patterns = sorted(_patterns(routes), key=lambda row: -row[0])
        self._resolved: dict[str, Route | None] = {}
        self._entries = {
            known: name
            for name, route in routes.items()
            for known in (name, *route.aliases)
            if "*" not in known
        }

    @property
    def names(self) -> list[str]:
        """The names callers may use, aliases included, wildcards not."""
        return list(self._exact)

    def entry_of(self, name: str) -> str | None:
        """The name under which a model is configured that a caller may ask for by another."""
        entry = self._entries.get(name)
        if entry is None:
            row = next((row for row in self._patterns if row[1].fullmatch(name)), None)
            entry = row[3] if row is not None else None
        return entry

    def find(self, name: str) -> Route | None:
        """The route for a name, its candidates' models filled in, or None."""
        route = self._exact.get(name)
        if route is not None and all(c.model != "*" for c in route.candidates):
            return route
        if name in self._resolved:
            return self._resolved[name]
        if route is None:
            route = next(
                (r for _, pattern, r, _ in self._patterns if pattern.fullmatch(name)), None
            )
        if route is not None:
            route = self._priced(replace(route, candidates=tuple(_filled(route.candidates, name))))
        if len(self._resolved) >= _RESOLVED_MAX:
            self._resolved.clear()
        self._resolved[name] = route
        return route

    def _priced(self, route: Route) -> Route:
        """A route whose candidates have their prices, so that no request looks one up."""
        find = self._price_of
        if find is None or all(c.price is not None or c.model == "*" for c in route.candidates):
            return route
        candidates = (
            replace(c, price=find(c.provider, c.model)) if c.price is None and c.model != "*" else c
            for c in route.candidates
        )
        return replace(route, candidates=tuple(candidates))


def _patterns(routes: Mapping[str, Route]) -> Iterable[tuple[int, re.Pattern[str], Route, str]]:
    for name, route in routes.items():
        for known in (name, *route.aliases):
            if "*" in known:
                literal = known.replace("*", "")
                expression = ".*".join(map(re.escape, known.split("*")))
                yield len(literal), re.compile(expression, re.DOTALL), route, name


def _filled(candidates: Iterable[Candidate], name: str) -> Iterable[Candidate]:
    return (replace(c, model=name) if c.model == "*" else c for c in candidates)
