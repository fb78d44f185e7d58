"""One configuration's providers behind what protects them and us, made or taken over.

A provider whose settings are the same is taken over whole, with its circuit, its places and its
connections. Of one that changed, what a change does not concern goes on: it is the same machine
at the other end, and its failures and our calls to it are not undone by a new key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from radgateway.asgi import ASGIApp, Layer
from radgateway.assembly.upstream_clients import upstream_client
from radgateway.composition import compose
from radgateway.config.providers import ProviderConfig
from radgateway.config.read_files import content_mark
from radgateway.config.schema import GatewayConfig, UpstreamConfig
from radgateway.provider.adaptive_limit import AdaptiveConfig, AdaptiveLimit
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.circuit.hints import BreakerHints
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector
from radgateway.provider.http import HTTPProvider
from radgateway.provider.mock import MockConfig, MockProvider
from radgateway.provider.slots import Slots
from radgateway.provider.unreachable import UnreachableNotice
from radgateway.routing.models import Provider
from radgateway.surface import SPOKEN_BY
from radgateway.telemetry.breaker_report import BreakerReport
from radgateway.telemetry.instruments import Instruments
from radgateway.upstream import Upstream
from radgateway.upstream.interface import Timeouts

_log = logging.getLogger("radgateway.app")

Places = Slots | AdaptiveLimit
ClientKey = tuple[UpstreamConfig, str | None, str]
"""The clients' settings, the file of trusted authorities, and what is in that."""
AtSwap = list[Callable[[], object]]
"""Changes to what is taken over: made when the new configuration comes into force, not before."""


@dataclass(frozen=True, slots=True)
class ProviderStack:
    """A provider, and those of its parts that another configuration may go on with."""

    config: ProviderConfig
    client: Upstream | None
    armable: bool
    provider: Provider
    policy: BreakerPolicy | None
    places: Places | None


class ProviderStacks:
    """The providers of a configuration by name, and the clients they share."""

    def __init__(
        self,
        config: GatewayConfig,
        instruments: Instruments,
        hints: BreakerHints | None,
        *,
        armable: bool,
        before: ProviderStacks | None,
        at_swap: AtSwap,
    ) -> None:
        self.clients: dict[ClientKey, Upstream] = {}
        self._config = config
        self._instruments = instruments
        self._hints = hints
        self._armable = armable
        self._before = before
        self._at_swap = at_swap
        self.stacks = {name: self._stack(name, each) for name, each in config.providers.items()}
        # What they were made from is no part of what they are, and would keep all that were before.
        self._before, self._at_swap = None, []

    @property
    def providers(self) -> dict[str, Provider]:
        """As the router takes them."""
        return {name: stack.provider for name, stack in self.stacks.items()}

    @property
    def policies(self) -> dict[str, BreakerPolicy]:
        """Of those that have a breaker."""
        return {name: s.policy for name, s in self.stacks.items() if s.policy is not None}

    def _stack(self, name: str, config: ProviderConfig) -> ProviderStack:
        client = self._client(config) if config.kind != "mock" else None
        before = self._before.stacks.get(name) if self._before is not None else None
        if before is not None and (config, client, self._armable) == (
            before.config,
            before.client,
            before.armable,
        ):
            return before
        policy = self._policy(name, config, before)
        places = self._places(name, config, before)
        layers: list[Layer] = []
        if policy is not None:
            layers.append(partial(CircuitBreaker, policy=policy))
        if places is not None:
            layers.append(partial(Bulkhead, max_concurrency=places))
        layers.append(partial(Deadline, timeouts=config.timeouts.clocks))
        if config.faults is not None or self._armable:
            on_fault = partial(self._instruments.fault_injected, name)
            layers.append(partial(FaultInjector, faults=config.faults, on_fault=on_fault))
        app = compose(_innermost(name, config, client), *layers)
        provider = Provider(app, SPOKEN_BY[config.kind], config.include_usage)
        return ProviderStack(config, client, self._armable, provider, policy, places)

    def _client(self, config: ProviderConfig) -> Upstream:
        key = (self._config.upstream, config.ca_file, content_mark(config.ca_file))
        client = self.clients.get(key)
        if client is None and self._before is not None:
            client = self._before.clients.get(key)
        if client is None:
            client = upstream_client(self._config.upstream, config.ca_file)
        self.clients[key] = client
        return client

    def _policy(
        self, name: str, config: ProviderConfig, before: ProviderStack | None
    ) -> BreakerPolicy | None:
        old = before.policy if before is not None else None
        same_place = before is not None and same_endpoint(before.config, config)
        if before is not None and same_place and config.breaker == before.config.breaker:
            if old is not None and _credential(config) != _credential(before.config):
                self._at_swap.append(old.new_credential)
            return old
        if before is not None:
            self._at_swap.append(partial(self._instruments.breaker_changed, name, "closed"))
        if config.breaker is None:
            return None
        on_trip = self._hints.publish if self._hints is not None else None
        policy = BreakerReport(name, config.breaker, self._instruments, on_trip).policy
        if old is not None:
            self._at_swap.append(partial(_go_on, policy, old, same_place=same_place))
        return policy

    def _places(
        self, name: str, config: ProviderConfig, before: ProviderStack | None
    ) -> Places | None:
        """The places at a provider: so many, or as many as it turns out to take."""
        most, adaptive = config.max_concurrency, config.adaptive
        if most is None:
            return None
        show = partial(_show_limit, self._instruments, name)
        old = before.places if before is not None else None
        if before is None or old is None or not same_endpoint(before.config, config):
            slots = Slots(most)
            self._at_swap.append(partial(show, most))
            return slots if adaptive is None else _adaptive(name, slots, adaptive, show)
        if isinstance(old, AdaptiveLimit):
            # Without `adaptive` it stands still: what began before may still tell it of refusals.
            still = adaptive or AdaptiveConfig(min_concurrency=most)
            self._at_swap.append(partial(old.resize, most, still))
            return old if adaptive is not None else old.slots
        made = _adaptive(name, old, adaptive, show) if adaptive is not None else None
        self._at_swap.append(partial(_resize, old, most))
        if made is not None and adaptive is not None:
            self._at_swap.append(partial(made.resize, most, adaptive))
        self._at_swap.append(partial(show, most))
        return old if made is None else made


def same_endpoint(one: ProviderConfig, other: ProviderConfig) -> bool:
    """Whether the same machine is at the other end, as far as a configuration can tell."""
    return (one.kind, one.base_url) == (other.kind, other.base_url)


def _credential(config: ProviderConfig) -> object:
    return config.api_key, config.headers


def _innermost(name: str, config: ProviderConfig, client: Upstream | None) -> ASGIApp:
    if client is None:
        return MockProvider(
            MockConfig(
                latency_ms=config.latency_ms,
                tokens_per_s=config.tokens_per_s,
                error_ratio=config.error_ratio,
            )
        )
    assert config.base_url is not None
    assert config.kind != "mock"
    clocks = config.timeouts.clocks
    return HTTPProvider(
        name,
        client,
        base_url=config.base_url,
        kind=config.kind,
        api_key=config.api_key.reveal if config.api_key is not None else None,
        headers=[
            (key.lower().encode(), value.reveal().encode()) for key, value in config.headers.items()
        ],
        # The other clocks are the Deadline layer's.
        timeouts=Timeouts(connect_s=clocks.connect_s, pool_s=clocks.pool_s),
        on_unreachable=UnreachableNotice(partial(_say_unreachable, name)).failed,
    )


def _go_on(policy: BreakerPolicy, old: BreakerPolicy, *, same_place: bool) -> None:
    """Begin a circuit of other settings as the one before it stands."""
    if old.mode != "auto":
        policy.set_mode(old.mode)
    elif same_place and old.state != "closed":
        policy.breaker.open()


def _show_limit(instruments: Instruments, name: str, limit: int) -> None:
    instruments.concurrency_limit(name).set(limit)


def _resize(slots: Slots, limit: int) -> None:
    slots.limit = limit


def _adaptive(
    name: str, slots: Slots, config: AdaptiveConfig, show: Callable[[int], object]
) -> AdaptiveLimit:
    def moved(limit: int) -> None:
        show(limit)
        _log.info("radgateway.bulkhead.limit", extra={"provider": name, "limit": limit})

    return AdaptiveLimit(slots, config, on_change=moved)


def _say_unreachable(name: str, reason: str, unsaid: int) -> None:
    _log.warning(
        "radgateway.provider.unreachable",
        extra={"provider": name, "reason": reason, "unsaid_before": unsaid},
    )
