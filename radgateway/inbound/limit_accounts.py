"""LimitAccounts: where a limiter's charges are kept, apart from what the limits are.

Limits change while a gateway runs; what was spent, what is reserved and who has a place does not.
So a limiter that takes over from another one is given its accounts, and goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from limits.aio.storage import Storage

from radgateway.asgi import Clock
from radgateway.inbound.limit_ledger import LocalLedger
from radgateway.inbound.limit_shared import LibraryStore, OnStorageChange, SharedLedger, store_of
from radgateway.inbound.limit_storage import (
    BoundedMemoryStorage,
    SlidingWindows,
    close_storage,
    storage_of,
)
from radgateway.usage.estimate import Lengths


class LimitAccounts:
    """The accounts in this process and, for a storage that others share, those there.

    `storage` is `memory://`, a URI that the `limits` library knows, or one of its async storages,
    which its owner closes. `storage_timeout_s` are the seconds a shared one gets for an answer;
    `on_storage_change(available, reason)` is called when it stops answering and when it does
    again. What a request took there expires after `lease_s` seconds unless it is renewed, and
    `on_lost` is told of settlements that could not be written. Raises `ValueError` for a storage
    that can't count in sliding windows.
    """

    def __init__(
        self,
        storage: str | Storage = "memory://",
        *,
        storage_timeout_s: float = 0.04,
        on_storage_change: OnStorageChange | None = None,
        on_lost: Callable[[int], object] | None = None,
        lease_s: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.storage = storage_of(storage) if isinstance(storage, str) else storage
        self._owns_storage = isinstance(storage, str)
        self.shared: SharedLedger | None = None
        """None where this process counts alone."""
        self.only_requests = False
        """Whether the storage can count nothing else."""
        self.lengths = Lengths()
        """What was learned of how long prompts and answers are, to reserve by."""
        if isinstance(self.storage, BoundedMemoryStorage):
            windows = self.storage.windows
        else:
            windows = SlidingWindows(clock=clock)
            store = store_of(self.storage, lease_s=lease_s, on_lost=on_lost)
            self.only_requests = isinstance(store, LibraryStore)
            self.shared = SharedLedger(store, storage_timeout_s, on_storage_change, clock)
        self.local = LocalLedger(windows)

    async def aclose(self) -> None:
        """Settle what has ended, and close the connections of a storage made here."""
        if self.shared is not None:
            await self.shared.aclose()
        if self._owns_storage:
            await close_storage(self.storage)
