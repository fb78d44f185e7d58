"""Which limits a request falls under: its caller's, its model's, and those of all traffic.

What that comes to for a caller and a model is worked out once and remembered, so a request pays
for a look-up. Plain values without I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from radgateway.inbound.limit_set import (
    BUDGET,
    CONCURRENCY,
    KINDS,
    MONEY,
    NANO,
    REQUESTS,
    LimitSet,
    Rate,
    rates_of,
)
from radgateway.usage.prices import Price

Costs = tuple[int, int, int, int, int, int]
"""What one request takes of each kind, in the order of `KINDS`."""

_PLANS_MAX = 10_000
"""Plans remembered, some 10 MB; callers without a name of ours may be without number."""
_OWNER_MAX = 200
"""Characters of an owner's name that stand in a key; a longer one is hashed."""

OfKey = Callable[[str], LimitSet | None]
OfModel = Callable[[str], tuple[str, LimitSet] | None]
Prices = Sequence[Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBook:
    """Where a gateway's limits stand."""

    of_key: OfKey | None = None
    """A caller's limits by its name; None for one who has none."""
    of_model: OfModel | None = None
    """The owner's name and the limits of the model a caller names; None where it has none. Where
    this is set, every request is read for its model."""
    total: LimitSet | None = None
    """What all callers may spend together."""
    prices_of: Callable[[str], Prices] | None = None
    """The prices, as they are now, of whoever may serve a model, to reserve money by."""
    shadow: bool = False
    """Whether all limits only count and report."""


class Limit:
    """One limit with its owner: what is counted under `key`."""

    __slots__ = (
        "amount",
        "amount_text",
        "holds",
        "item",
        "key",
        "kind",
        "name",
        "period",
        "policy",
        "shadow",
        "text",
        "window_ms",
        "window_s",
    )

    def __init__(self, rate: Rate, key: str, of_whom: str, *, shadow: bool) -> None:
        self.kind = rate.kind
        self.period = rate.period
        self.name = KINDS[rate.kind] if rate.period is None else BUDGET
        """What it is called in headers and metrics."""
        self.amount = rate.amount
        self.window_s = rate.window_s
        self.window_ms = rate.window_s * 1000
        self.key = key
        """The account's name. The amount is no part of it: a limit that is changed goes on from
        what has been spent."""
        self.text = rate.text + of_whom
        self.shadow = shadow
        self.holds = rate.kind != REQUESTS
        """Whether something is settled or given back when the request ends."""
        shown = rate.amount if rate.kind != MONEY else rate.amount * 100 // NANO
        self.amount_text = b"%d" % shown
        """The amount as a header shows it; money in whole cents."""
        self.policy = _policy(rate, self.name, shown)
        """The limit as an item of `RateLimit-Policy`."""
        self.item = b'"%b";r=' % self.name.encode()
        """How an item of `RateLimit` begins, up to what is left of it."""

    def share(self, parts: int) -> Limit:
        """The same limit for one of several processes that can't count together."""
        amount = max(1, self.amount // parts)
        text = f"{self.text} (this replica's share: 1/{parts})"
        rate = Rate(self.kind, amount, self.window_s, text, self.period)
        return Limit(rate, self.key, "", shadow=self.shadow)


class Plan:
    """The limits of one request: those that are enforced, then those that only report."""

    __slots__ = ("_shares", "limits", "only", "policy", "reads")

    def __init__(self, limits: Iterable[Limit], *, reads: bool) -> None:
        self.limits = tuple(sorted(limits, key=lambda limit: (limit.shadow, limit.kind)))
        kinds = {limit.kind for limit in self.limits}
        alike = len(kinds) < len(self.limits) or any(limit.shadow for limit in self.limits)
        self.policy = None if alike else b", ".join([limit.policy for limit in self.limits])
        """`RateLimit-Policy` where it is the same for every request: none of its limits only
        reports, and none is of another's kind."""
        self.reads = reads
        """Whether the request must be read first: for its model, or the size of what it asks."""
        one = self.limits[0] if len(self.limits) == 1 else None
        self.only = (
            one if one is not None and one.kind == REQUESTS and not (one.shadow or reads) else None
        )
        """The one limit of requests, where there is nothing else: the common case."""
        self._shares: tuple[int, Plan] | None = None

    def share(self, parts: int) -> Plan:
        """The same for one of several processes that can't count together."""
        if self._shares is None or self._shares[0] != parts:
            limits = [limit.share(parts) for limit in self.limits]
            self._shares = parts, Plan(limits, reads=self.reads)
        return self._shares[1]


class Plans:
    """Finds the plan of a request, and remembers it.

    With `only_requests` a plan with any other limit raises `ValueError`: the store can't count it.
    """

    def __init__(
        self, book: LimitBook, *, max_plans: int = _PLANS_MAX, only_requests: bool = False
    ) -> None:
        self._book = book
        self._max = max_plans
        self._only_requests = only_requests
        self._by_name: dict[str, Plan] = {}
        self._by_both: dict[tuple[str, str], Plan] = {}

    def of(self, name: str) -> Plan:
        """The plan of a caller whose model is not known, or not yet."""
        return self._by_name.get(name) or self._add(self._by_name, name, name, None)

    def of_model(self, name: str, model: str) -> Plan:
        """The plan of a caller and the model it asks for."""
        found = self._book.of_model(model) if self._book.of_model is not None else None
        if found is None:
            return self.of(name)
        key = (name, found[0])
        return self._by_both.get(key) or self._add(self._by_both, key, name, found)

    def _add(self, plans: dict, key: object, name: str, model: tuple | None) -> Plan:  # type: ignore[type-arg]
        plan = self._plan(name, model)
        if len(plans) >= self._max:
            del plans[next(iter(plans))]
        plans[key] = plan
        return plan

    def _plan(self, name: str, model: tuple[str, LimitSet] | None) -> Plan:
        book = self._book
        limits: list[Limit] = []
        own = book.of_key(name) if book.of_key is not None else None
        if own is not None:
            limits += _limits(own, f"key/{_escaped(name)}", "", shadow=book.shadow)
        if model is not None:
            owner, theirs = model
            limits += _limits(
                theirs, f"model/{_escaped(owner)}", f" for {owner}", shadow=book.shadow
            )
        if book.total is not None:
            limits += _limits(book.total, "all", " for all callers", shadow=book.shadow)
        for limit in limits if self._only_requests else ():
            if limit.kind != REQUESTS:
                raise ValueError(
                    f"the limit of {limit.text} needs memory:// or redis://; "
                    "this storage counts requests only"
                )
        reads = book.of_model is not None or any(
            limit.kind not in (REQUESTS, CONCURRENCY) for limit in limits
        )
        return Plan(limits, reads=reads)


def _limits(limits: LimitSet, owner: str, of_whom: str, *, shadow: bool) -> Sequence[Limit]:
    return [
        Limit(
            rate,
            f"{owner}/{KINDS[rate.kind]}/{rate.window_s}"
            if rate.period is None
            else f"{owner}/{BUDGET}/{rate.period}",
            of_whom,
            shadow=shadow or limits.shadow,
        )
        for rate in rates_of(limits)
    ]


def _policy(rate: Rate, called: str, shown: int) -> bytes:
    name = called.encode()
    if rate.period == "month":
        return b'"%b";q=%d' % (name, shown)  # which has no one length
    if rate.kind == CONCURRENCY:
        return b'"%b";q=%d;qu="concurrent-requests"' % (name, shown)
    unit = b';qu="requests"' if rate.kind == REQUESTS else b""
    return b'"%b";q=%d%b;w=%d' % (name, shown, unit, rate.window_s)


def _escaped(owner: str) -> str:
    """An owner as one segment of a key: no slash, so no two owners come to the same key."""
    if len(owner) > _OWNER_MAX:
        digest = hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=16)
        return f"%-{digest.hexdigest()}"  # no escape looks like that
    return quote(owner, safe=":@", errors="surrogatepass")
