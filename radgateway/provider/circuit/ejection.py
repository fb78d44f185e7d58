"""EjectionGroup: of the providers that serve one model, some must stay in use.

Envoy's `max_ejection_percent`. When all providers fail at once the cause is often ours (a network,
a bad request that all refuse to bear), and refusing every call is worse than calling a provider
that fails half of them. So a breaker asks its groups before it opens by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Member(Protocol):
    """What a group needs to know of a breaker."""

    @property
    def ejected(self) -> bool:
        """Whether it keeps callers away at this moment."""


class EjectionGroup:
    """The breakers of one model's providers, and how many of them may keep callers away at once.

    `max_open_ratio` is a share of the group, over 0 to 1: 1 lets all of them open, None all but
    one. Less than 1 always leaves one in use and lets one open; a provider that is alone may open.
    `unguarded` counts the providers that have no breaker, and so are always there.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        unguarded: int = 0,
        max_open_ratio: float | None = None,
    ) -> None:
        if max_open_ratio is not None and not 0 < max_open_ratio <= 1:
            raise ValueError(f"max_open_ratio must be over 0 and at most 1, not {max_open_ratio}")
        self.members = tuple(members)
        self._unguarded = unguarded
        size = len(self.members) + unguarded
        if max_open_ratio == 1 or size == 1:
            self._most = size
        elif max_open_ratio is None:
            self._most = size - 1
        else:
            self._most = min(size - 1, max(1, math.floor(max_open_ratio * size)))

    def may_open(self, member: Member) -> bool:
        """Whether a member may keep callers away in addition to those that do."""
        return self._others_ejected(member) < self._most

    def has_spare(self, member: Member) -> bool:
        """Whether another provider takes calls, so that one not admitted here is not lost."""
        others = len(self.members) - 1
        return self._unguarded > 0 or self._others_ejected(member) < others

    def _others_ejected(self, member: Member) -> int:
        return sum(other.ejected for other in self.members if other is not member)
