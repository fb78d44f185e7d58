"""Everything that one configuration makes of a gateway, on the foundation that outlasts it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from radgateway.asgi import ASGIApp
from radgateway.assembly import access, limits, prices, providers, standing, usage
from radgateway.assembly.foundation import Foundation, drain_limits
from radgateway.assembly.provider_stack import AtSwap, ProviderStacks, same_endpoint
from radgateway.config.read_files import file_marks
from radgateway.config.schema import GatewayConfig
from radgateway.inbound.limit_ledger import Standing
from radgateway.inbound.limit_seed import BudgetSeed
from radgateway.inbound.load_shed import LoadShed
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.waiting_line import WaitingLine
from radgateway.provider.health import HealthBook, ProviderHealth
from radgateway.reload.refusals import ReloadFailed
from radgateway.reload.reloader import Leftovers
from radgateway.routing.retry_budget import TokenBudget
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.token_auth import TokenAuth

_log = logging.getLogger("radgateway.app")

_KEYS_S = 5.0
"""Seconds that the keys of a new issuer are waited for before a reload is given up."""


class Closable(Protocol):
    """What has an end."""

    async def aclose(self) -> object:
        """End it."""


class Parts:
    """The parts of one configuration; those of the one `before` go on where they can.

    Making them changes nothing of what is in force: what is taken over gets its new settings with
    `take_over`, in the step of the event loop in which the new parts begin to serve.
    """

    def __init__(
        self, config: GatewayConfig, foundation: Foundation, before: Parts | None = None
    ) -> None:
        self.config = config
        self.foundation = foundation
        self._at_swap: AtSwap = []
        self.retry_budget: TokenBudget
        self.stacks: ProviderStacks
        self.marks = file_marks(config)
        self.labels = label_sets(config)
        self.prices = prices.price_book(config)
        self.models = providers.model_table(config, self.prices)
        self.stacks = ProviderStacks(
            config,
            foundation.instruments,
            foundation.hints,
            armable=providers.faults_may_be_armed(config),
            before=before.stacks if before is not None else None,
            at_swap=self._at_swap,
        )
        self.providers = self.stacks.providers
        self.faults = providers.fault_switch(config, self.providers, foundation.instruments)
        self.health = HealthBook(_healths(config, before))
        self.tokens = self._token_auth(before)
        self.retry_budget = (
            before.retry_budget
            if before is not None and config.retry_budget == before.config.retry_budget
            else TokenBudget(config.retry_budget)
        )
        self.shed = self._load_shed(before)
        self.line = self._waiting_line(before)
        self.probes = standing.probes(config, self.providers)
        self.statuses = standing.provider_statuses(config, self.providers, self.health, self.probes)
        self._limiter: RateLimiter | None = None
        self._seed: BudgetSeed | None = None
        self._seeds: list[BudgetSeed] = []
        self._seed_budgets(before)

    @property
    def limiter(self) -> RateLimiter:
        """The layer that keeps all limits, once it has been composed."""
        assert self._limiter is not None
        return self._limiter

    def rate_limiter(self, app: ASGIApp) -> RateLimiter:
        """Put the layer that keeps all limits around an app."""
        made = limits.rate_limiter(self.config, self.models, self.foundation.accounts)
        self._limiter = made(app)
        return self._limiter

    async def standings(self, name: str) -> Sequence[Standing] | None:
        """Where a caller stands against its limits; None where that can't be known now."""
        return await self.limiter.standings(name)

    async def prepare(self, before: Parts) -> None:
        """Have the keys of a new issuer ready. Raises `ReloadFailed` where they can't be had."""
        tokens = self.tokens
        if tokens is None or tokens is before.tokens or await tokens.fetched(_KEYS_S):
            return
        await tokens.aclose()
        raise ReloadFailed(
            f"the issuer's keys could not be had within {_KEYS_S:g} s; see section jwt"
        )

    def take_over(self) -> None:
        """Give what goes on its new settings. Does not wait, and can't fail."""
        config, lasting = self.config, self.foundation
        instruments, budget = lasting.instruments, self.retry_budget
        for change in self._at_swap:
            change()
        self._at_swap.clear()
        lasting.drain.limits = drain_limits(config.server)
        lasting.limits_state.policy = config.limits.on_storage_failure
        if lasting.accounts.shared is not None:
            lasting.accounts.shared.timeout_s = config.limits.storage_timeout_s
        policies = self.stacks.policies
        providers.join_ejection_groups(config, policies)
        if lasting.hints is not None:
            lasting.hints.watch_only(policies)
        lasting.dependencies.watch(standing.checks(self))
        sampled: list[Callable[[float], object]] = [
            lambda lag_s: instruments.retry_budget_balance.set(budget.balance),
            lambda lag_s: instruments.secrets_age.set(lasting.secrets.age_s),
            usage.connections_shown(lasting.usage, instruments),
        ]
        if self.shed is not None:
            sampled.append(self.shed.observe)
        lasting.lag.on_sample = tuple(sampled)

    def start(self) -> None:
        """Begin what runs beside the requests, in the event loop that serves them."""
        if self.tokens is not None:
            self.tokens.start()
        self.probes.start()
        seed, self._seed = self._seed, None
        if seed is not None:
            seed.start()
            self._seeds.append(seed)

    @property
    def watches(self) -> list[Closable]:
        """What ends as soon as other parts serve, where those do not go on with it."""
        return [self.probes, *self._seeds, *([self.faults] if self.faults is not None else [])]

    @property
    def resources(self) -> list[Closable]:
        """What requests use, so that it ends after the last of them."""
        tokens: list[Closable] = [self.tokens] if self.tokens is not None else []
        return [*tokens, *self.stacks.clients.values()]

    def give_way(self, after: Parts) -> Leftovers:
        """End the faults that are armed, and give what does not go on in other parts."""
        if self.faults is not None:
            self.faults.end("reloaded")
        goes_on = {id(each) for each in (*after.watches, *after.resources)}
        total_s = [each.timeouts.total_s for each in self.config.providers.values()]
        return Leftovers(
            [each.aclose for each in self.watches if id(each) not in goes_on],
            [each.aclose for each in self.resources if id(each) not in goes_on],
            max((after.config.server.stream_drain_timeout_s, *total_s)),
        )

    @property
    def closers(self) -> list[Callable[[], Awaitable[object]]]:
        """How all of it ends, in order."""
        return [each.aclose for each in (*self.watches, *self.resources)]

    def _seed_budgets(self, before: Parts | None) -> None:
        """Ask the ledger for what was spent of budgets that were not counted until now."""
        limiter = None
        if before is not None:
            self._seeds = [seed for seed in before._seeds if not seed.done]
            if limits.budgets(before.config) == limits.budgets(self.config):
                return
            limiter = before.limiter
        usage_writer = self.foundation.usage
        self._seed = limits.budget_seed(self.config, usage_writer, lambda: self.limiter, limiter)

    def _token_auth(self, before: Parts | None) -> TokenAuth | None:
        """Who judges tokens. One whose issuer is the same keeps the issuer's keys."""
        config = self.config
        if before is not None:
            known = before.config
            same_file = self.marks.get("jwt.ca_file") == before.marks.get("jwt.ca_file")
            if same_file and (config.jwt, config.upstream) == (known.jwt, known.upstream):
                return before.tokens
        return access.token_auth(config)

    def _load_shed(self, before: Parts | None) -> LoadShed | None:
        """What turns work away while the event loop is late; it says so once a change."""
        admission = self.config.admission
        if admission is None or admission.max_lag_s is None:
            return None
        shed, max_lag_s = before.shed if before is not None else None, admission.max_lag_s
        if shed is None:
            return LoadShed(max_lag_s, on_change=_shedding)
        going_on = shed

        def change() -> None:
            going_on.max_lag_s = max_lag_s

        self._at_swap.append(change)
        return shed

    def _waiting_line(self, before: Parts | None) -> WaitingLine | None:
        """The places of the whole gateway. One that is not in use now is kept for its places."""
        admission, line = self.config.admission, before.line if before is not None else None
        if admission is None:
            return line
        bounds = admission.max_concurrency, admission.max_queue, admission.max_wait_s
        if line is None:
            return WaitingLine(*bounds, self.foundation.instruments.queue_depth.inc)
        going_on = line
        self._at_swap.append(lambda: going_on.resize(*bounds))
        return line


def make_instruments(config: GatewayConfig) -> Instruments:
    """The metrics, with the configured names as the only values that labels may take."""
    return Instruments(
        labels=label_sets(config),
        version=standing.running_version(config),
        environment=config.environment,
    )


def label_sets(config: GatewayConfig) -> LabelSets:
    """The configured names: the only values that labels may take."""
    models = {c.model for model in config.models.values() for c in model.candidates}
    names = {name for model in config.models for name in (model, *config.models[model].aliases)}
    known = frozenset(name for name in models | names if "*" not in name)
    return LabelSets(
        providers=frozenset(config.providers),
        models=known,
        candidates=_pairs(config),
        api_key_names=(
            frozenset(key.name for key in config.keys)
            if config.telemetry.key_names_in_metrics
            else None
        ),
    )


def _pairs(config: GatewayConfig) -> frozenset[tuple[str, str]]:
    """The providers with their models, as far as the configuration names them."""
    pairs = {
        (candidate.provider, name if candidate.model == "*" else candidate.model)
        for name, model in config.models.items()
        for candidate in model.candidates
    }
    return frozenset(pair for pair in pairs if "*" not in pair[1])


def _healths(config: GatewayConfig, before: Parts | None) -> dict[str, ProviderHealth]:
    """What is known of each provider; of one that is elsewhere now, nothing."""
    found = {name: ProviderHealth() for name in config.providers}
    if before is not None:
        found |= {
            name: known
            for name, known in before.health.providers.items()
            if name in found
            and same_endpoint(before.config.providers[name], config.providers[name])
        }
    return found


def _shedding(level: int) -> None:
    _log.warning("radgateway.admission.shedding", extra={"shed_level": level})
